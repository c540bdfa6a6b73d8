"""The commands run in this process or in one of their own, and what they say, taken apart."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner, Result

QUICK = ("--evaluations", "8", "--search-images", "4", "--verify-images", "6", "--rounds", "3", "--budget", "1000ms")


def call(command: click.Command, *arguments: object) -> Result:
    """Runs a command in this process; a defect, unlike an error of the toolkit, is raised."""
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def error_of(result: Result) -> str:
    """The one line that a failed command says, after any progress; nothing on stdout."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[-1].startswith("error: ")
    assert sum(line.startswith("error:") for line in lines) == 1
    assert "Traceback" not in result.stderr
    return lines[-1]


def document_of(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def in_process(
    module: str, *arguments: object, without: Sequence[str] = (), folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """A command in a fresh Python, in which the modules `without` cannot be imported."""
    program = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {tuple(without)!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Block())\n"
        f"from {module} import main\n"
        "main(prog_name='command')\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, cwd=folder, timeout=300
    )


MODEL = """
import torch
from torch import nn


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(16, 32, 3, padding=1)
        self.two = nn.Conv2d(32, 16, 3, padding=1)

    def forward(self, x):
        return torch.relu(x + self.two(torch.relu(self.one(x))))


def build():
    torch.manual_seed(0)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)]
    return nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), Residual(), Residual(), *head)
"""
