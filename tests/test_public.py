"""What users write: the public names, the README's example, and what is said where it is wrong."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import adaptivenet.toolkit
import numpy as np
import pytest
from adaptivenet.toolkit import BlockPack, Dataset, connect, errors, profile
from adaptivenet.toolkit.errors import AdaptiveNetError, DataError, PackError, ProfileError, TrainingError
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


def test_every_public_name_is_there_and_every_error_is_public() -> None:
    names = adaptivenet.toolkit.__all__
    assert names == sorted(names)
    assert all(getattr(adaptivenet.toolkit, name) is not None for name in names)
    raised = {name for name, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, AdaptiveNetError)}
    assert raised <= set(names)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = adaptivenet.toolkit.nothing


def test_the_example_of_the_readme_runs(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"## From Python\n+```python\n(.*?)```", text, re.DOTALL)
    example = example.replace("224, 224, 256", "32, 32, 36").replace("224, 224)", "32, 32)")  # quicker
    # So small a network is fastest as one program.
    example = example.replace('budgets=("75%",)', 'budgets=("100%",)')
    assert "32, 32, 36" in example
    assert "100%" in example
    rng = np.random.default_rng(0)
    for folder in re.findall(r"open_data\(\"([^\"]+)\"", example):
        for number in range(12):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(tmp_path / folder / f"{number}.png")
    model = """
        from torch import nn

        class Add(nn.Module):
            def __init__(self):
                super().__init__()
                self.one, self.two = nn.Conv2d(4, 8, 1), nn.Conv2d(8, 4, 3, padding=1)

            def forward(self, x):
                return x + self.two(self.one(x).relu())

        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)]
        model = nn.Sequential(nn.Conv2d(3, 4, 4, stride=4), *(Add() for _ in range(3)), *head).eval()
    """
    program = f"{textwrap.dedent(model)}\n{example}\nassert output.shape == (1, 5)\n"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_example_of_serving_runs(tiny_pack: BlockPack, profiles: dict[str, Path], tmp_path: Path) -> None:
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "pack").symlink_to(tiny_pack.path)
    (tmp_path / "profile.json").symlink_to(profiles["local:onnxruntime"])
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.endswith(" MB, it was asked for\n")


def test_a_device_opens_a_folder_and_closes_itself(tiny_pack: BlockPack, tmp_path: Path) -> None:
    with connect("local:onnxruntime") as device, device.open(str(tiny_pack.path)) as session:
        assert session.pack.digest == tiny_pack.digest
    with connect("local:onnxruntime") as device, pytest.raises(PackError, match="there is nothing there"):
        device.open(tmp_path / "nothing")


def test_what_is_wrong_is_said_at_the_door(tiny_pack: BlockPack, data: Dataset) -> None:
    from adaptivenet.toolkit import train
    from small_training import supernet

    with connect("local:onnxruntime") as device, device.open(tiny_pack) as session:
        with pytest.raises(ProfileError, match="nothing to resume without a journal"):
            profile(session, data, resume=True)
        with pytest.raises(ProfileError, match="is made of a session"):
            profile(device, data)  # type: ignore[arg-type]
        with pytest.raises(DataError, match="must be a Dataset, as open_data gives: got \\[1, 2"):
            profile(session, [1, 2])  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="as open_data gives: got list"):
        train(supernet(), [1, 2])  # type: ignore[arg-type]
