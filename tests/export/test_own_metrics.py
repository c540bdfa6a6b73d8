"""Functions of one's own as metrics: what is exported of them, what is refused, and the command."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from adaptivenet.export import export_pack, metric
from adaptivenet.export.cli import main as export
from adaptivenet.export.metrics import choose_metrics, metric_program
from adaptivenet.export.programs import export_program
from adaptivenet.toolkit.cli.elastify import main as elastify
from adaptivenet.toolkit.cli.profile import main as profile
from adaptivenet.toolkit.data import Dataset
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.errors import DataError, ExportError
from adaptivenet.toolkit.graph.score import SHARE, Score
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.plan.plan import compile_plan
from commands import call, document_of, error_of
from engines import ENGINES
from tapped import tapped

pytestmark = pytest.mark.usefixtures("one_thread")

MODULE = '''
import torch
from adaptivenet.export import metric

WEIGHT = torch.linspace(0, 1, 5)


def near(output, oracle):
    close = ((output - oracle).abs() < 0.5).float()
    return torch.stack((close.sum(), torch.ones_like(close).sum()))


@metric(unit="px", worst=8, best=0, sums=("error", "count"))
def endpoint(oracle, output):
    error = (output - oracle).square().sum(1).sqrt().mean().clamp(max=8)
    return torch.stack((error, torch.ones_like(error)))


@metric(unit="")
def weighed(output, target, oracle):
    """The classes' shares of right pixels."""
    right = (output.argmax(1) == target) & (oracle.argmax(1) >= 0)
    parts = [(right & (target == at)).sum() for at in range(5)]
    return torch.stack([*parts, *((target == at).sum() for at in range(5))])


class Scaled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(WEIGHT.reshape(1, 5, 1, 1) / 10)

    def forward(self, output, oracle):
        error = ((output - oracle).abs() * self.weight).mean().clamp(max=1.0)
        return torch.stack((1 - error, torch.ones_like(error)))


scaled = Scaled()
nothing = 3


def wrong_names(x, y):
    return x


def no_output(oracle, label):
    return oracle


def one_sum(output, oracle):
    return (output - oracle).sum().reshape(1)


def a_number(output, oracle):
    return 3.0


def fails(output, oracle):
    return output @ oracle[0, 0, 0, :2]


def branches(output, oracle):
    if (output - oracle).mean() > 1e9:
        return torch.zeros(2)
    return torch.ones(2)


def beyond(output, oracle):
    error = (output - oracle).sum()
    return torch.stack((error * 0 + 3, torch.ones_like(error)))


def infinite(output, oracle):
    return torch.stack((output.mean() / 0, output.mean()))


@metric(unit="dB", worst=0, best=60)
def grows(output, oracle):
    highest = output.abs().max()
    return torch.stack((10 * highest, torch.ones_like(highest)))


def top1(output, oracle):
    return torch.ones(2)
'''


@pytest.fixture
def module(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (workplace / "own_metrics.py").write_text(MODULE)
    sys.modules.pop("own_metrics", None)
    sys.path.append(str(workplace))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a file that changes twice in a second is read anew
    return "own_metrics"


SHAPE = (1, 5, 8, 8)
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("backend", ["onnx", "executorch"])
def test_functions_are_exported_for_every_engine(module: str, backend: str, tmp_path: Path) -> None:
    names = ("near", "endpoint", "weighed", "scaled")
    pack = export_pack(tapped(), tmp_path / "pack", [backend], metrics=[f"{module}:{name}" for name in names], jobs=1)
    assert pack.metrics == {
        "near": ("output", "oracle"),
        "endpoint": ("oracle", "output"),
        "weighed": ("output", "label", "oracle"),
        "scaled": ("output", "oracle"),
    }
    assert pack.scored == {
        "near": SHARE,
        "endpoint": Score("px", 8, 0),
        "weighed": Score("", 0, 1),
        "scaled": SHARE,
    }
    assert pack.sums["endpoint"] == ("error", "count")
    assert "score" not in pack.manifest["metrics"]["near"], "older readers would refuse it"
    rng = np.random.default_rng(0)
    images = rng.standard_normal((4, 3, 16, 16)).astype(np.float32)
    labels = rng.integers(0, 5, (4, 8, 8))
    address = ENGINES[0] if backend == "executorch" else "local:onnxruntime"
    paths = list(pack.graph.paths())[:3]
    with connect(address).open(pack) as session:
        found = session.evaluate(compile_plan(pack.graph, paths, pack.metrics), Dataset.from_arrays(images, labels))
    own = sys.modules[module]
    net = tapped()
    for row, path in enumerate(paths):
        for at in range(4):
            with torch.no_grad():
                image = torch.from_numpy(images[at : at + 1])
                output, oracle = net(image, path), net(image, net.graph.oracle)
                label = torch.from_numpy(labels[at : at + 1])
                expected = {
                    "near": own.near(output, oracle),
                    "endpoint": own.endpoint(oracle, output),
                    "weighed": own.weighed(output, label, oracle),
                    "scaled": own.scaled(output, oracle),
                }
            for name, sums in expected.items():
                np.testing.assert_allclose(
                    found.sums[name][row, at], sums.numpy(), atol=1.01 if name == "near" else 1e-3
                )
    assert found.quality("endpoint")[0].text.endswith(" px")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "module 'own_metrics' has no 'missing'; write package.module:function"),
        ("nothing", "is int, and no function"),
        ("wrong_names", r"takes \(x, y\): its parameters are to be called output, and oracle or label"),
        ("no_output", r"takes \(oracle, label\)"),
        ("one_sum", r"gave \(1,\) for tensors of \(1, 5, 8, 8\), \(1, 5, 8, 8\): it is to return one tensor"),
        ("a_number", "gave float for tensors"),
        ("fails", "fails for tensors of .*: RuntimeError: "),
        ("branches", "cannot be exported: "),
        ("beyond", r"'beyond' gave 3 on an image, and its scores lie between 0 and 1: clamp .*tried with noise"),
        ("infinite", "which are not all finite"),
        ("top1", "would be called 'top1' in the pack, which is taken"),
    ],
)
def test_what_is_no_metric_is_refused_before_anything_is_exported(module: str, name: str, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        choose_metrics([f"{module}:{name}"], SHAPE)


@pytest.mark.parametrize("backend", ["onnx", "executorch"])
def test_the_examples_of_the_page_are_exported(workplace: Path, backend: str) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "metrics.md").read_text("utf-8"), re.DOTALL)
    (workplace / "from_the_page.py").write_text(example)
    sys.path.append(str(workplace))
    for name, text in (("within_a_tenth", "75.0%"), ("endpoint_error", "8.00 px")):
        program = metric_program(f"from_the_page:{name}", SHAPE)
        export_program(name, program.module, program.inputs, backend)
        assert program.score.text(0.75) == text
    sys.modules.pop("from_the_page")


def test_modules_that_are_not_there_are_refused() -> None:
    with pytest.raises(ExportError, match="cannot import 'no_such_module'"):
        choose_metrics(["no_such_module:near"], SHAPE)
    with pytest.raises(ExportError, match="is no name of a function"):
        choose_metrics([":near"], SHAPE)
    with pytest.raises(ExportError, match="at least 1e-9 apart"):
        metric(unit="dB", worst=1, best=1)
    with pytest.raises(ExportError, match="at most 16 characters"):
        metric(unit="d\nB")


def test_a_program_is_made_anew_when_what_the_function_calls_has_changed(module: str, workplace: Path) -> None:
    def content() -> str:
        sys.modules.pop(module, None)
        return metric_program(f"{module}:scaled", SHAPE).content + metric_program(f"{module}:near", SHAPE).content

    before = content()
    assert content() == before
    for old, new in (("/ 10)", "/ 11)"), ("< 0.5", "< 0.25")):
        (workplace / "own_metrics.py").write_text(MODULE.replace(old, new))
        assert content() != before


def test_what_leaves_its_range_stops_the_evaluation(module: str, tmp_path: Path) -> None:
    pack = export_pack(tapped(), tmp_path / "pack", ["onnx"], metrics=[f"{module}:grows"], jobs=1)
    images = 100 * np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)
    worst = ("b0", "b1-m2", "b3-skip", "head-p50")
    with connect("local:onnxruntime").open(pack) as session:
        found = session.evaluate(compile_plan(pack.graph, [worst], pack.metrics), Dataset.from_arrays(images))
        with pytest.raises(DataError, match=r"'grows' gave \S+ dB on an image, and its scores lie between 0 and 60 dB"):
            found.quality("grows")


def test_a_function_is_searched_by_from_the_command_line(workplace: Path) -> None:
    (workplace / "mine.py").write_text(MODULE)
    made = call(elastify, "flower_model:build", "--out", "supernet", "--size", "32", "--prune", "0.5")
    assert made.exit_code == 0, made.stderr
    refused = error_of(call(export, "supernet", "pack", "--metric", "mine:missing"))
    assert "module 'mine' has no 'missing'" in refused
    usage = call(export, "supernet", "pack", "--metric", "bleu")
    assert usage.exit_code == 2
    assert "'bleu' is none of top1, top5, agreement" in usage.stderr
    document_of(call(export, "supernet", "pack", "--backend", "onnx", "--metric", "mine:near", "--json"))
    assert BlockPack.open("pack").metrics == {"near": ("output", "oracle")}
    quick = (
        "--evaluations",
        "8",
        "--search-images",
        "4",
        "--verify-images",
        "6",
        "--rounds",
        "3",
        "--budget",
        "1000ms",
    )
    told = call(profile, "pack", "--device", "local:onnxruntime", "--data", "pictures.npz", "--out", "p.json", *quick)
    assert told.exit_code == 0, told.stderr
    assert "near 100.0%" in told.stdout
