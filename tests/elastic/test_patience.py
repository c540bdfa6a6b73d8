"""Time and memory that the alternatives of a block may take: what is over is left out and named, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

import pytest
import torch
from adaptivenet.toolkit.elastic import Kind, Patience, elastify, merge, prune, skip
from adaptivenet.toolkit.elastic.patience import OutOfPatience, bytes_needed, within
from adaptivenet.toolkit.elastic.tracing.recorder import Tracer, torch_that_takes_recorded_values
from adaptivenet.toolkit.elastic.tracing.stretches import discover, subgraph
from adaptivenet.toolkit.elastic.tracing.trace import trace
from adaptivenet.toolkit.errors import ModelError
from small import Residual, Small
from torch import fx, nn

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")
EXAMPLE = torch.zeros(1, 3, 16, 16)
OF_TORCH = 2.0  # seconds; a block of Small takes some milliseconds


class Growing(nn.Module):
    """Two small blocks, and two that have 36 times their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.narrow = nn.Sequential(Residual(16), Residual(16))
        self.wider = nn.Conv2d(16, 96, 1)
        self.wide = nn.Sequential(Residual(96), Residual(96))
        self.head = nn.Linear(96, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.wide(self.wider(self.narrow(self.stem(x)))).mean((2, 3)))


def endless(span: Sequence[fx.GraphModule], features: Sequence[torch.Tensor]) -> nn.Module | None:
    while True:
        try:
            torch.zeros(1)
        except Exception:  # a kind may be written so
            continue


def slow(span: Sequence[fx.GraphModule], features: Sequence[torch.Tensor]) -> nn.Module | None:
    time.sleep(OF_TORCH)
    return span[0]


@pytest.mark.parametrize("made", [endless, slow])
def test_an_alternative_that_takes_too_long_is_left_out_and_named(made: object) -> None:
    kinds = [skip(), Kind("late", made)]  # type: ignore[arg-type]
    supernet = elastify(Small(2).eval(), EXAMPLE, kinds=kinds, patience=Patience(OF_TORCH))
    assert {block.name for block in supernet.alternatives()} == {"b01-skip", "b02-skip"}
    assert supernet.left_out == {
        "b01-late": "blocks.0: it takes more than 2 s",
        "b02-late": "blocks.1: it takes more than 2 s",
    }
    assert supernet.without(["b01-skip"]).left_out == supernet.left_out


def test_an_original_block_that_takes_too_long_ends_it() -> None:
    with pytest.raises(
        ModelError, match=r"^the original block b00 \(stem\) takes more than 1e-09 s for one input: give"
    ):
        elastify(Small().eval(), EXAMPLE, patience=Patience(1e-9))


def test_patience_ends_at_the_end_too() -> None:
    with pytest.raises(OutOfPatience), within(0.0):
        pass
    with within(3600.0):
        torch.zeros(1)


def test_what_needs_too_much_memory_is_left_out_before_it_is_made() -> None:
    asked: list[str] = []

    def noted(span: Sequence[fx.GraphModule], features: Sequence[torch.Tensor]) -> nn.Module | None:
        asked.append(f"{features[0].shape[1]} channels")
        return None

    kinds = [merge(2), prune(0.5), skip(), Kind("noted", noted)]
    whole = elastify(Growing().eval(), EXAMPLE, kinds=kinds)
    assert asked == ["16 channels"] * 2 + ["96 channels"] * 2
    assert whole.left_out == {}

    asked.clear()
    supernet = elastify(Growing().eval(), EXAMPLE, kinds=kinds, patience=Patience(megabytes=1.0))
    assert asked == ["16 channels"] * 2
    of_wide = {"b04-m2", "b04-p50", "b05-p50"}
    assert {block.name for block in supernet.graph.blocks} == {block.name for block in whole.graph.blocks} - of_wide
    assert set(supernet.left_out) == of_wide | {"b04-noted", "b05-noted"}
    assert supernet.left_out["b04-m2"] == "wide.0…wide.1: it needs about 1.53 MB of memory"
    assert {"b04-skip", "b05-skip"} <= {block.name for block in supernet.graph.blocks}, "nothing costs nothing"


def test_no_alternative_within_the_limits_is_an_error_that_says_so() -> None:
    with pytest.raises(
        ModelError, match=r"no alternative of a block of Small is within .*: 6 are left out.* b01-p50 of"
    ):
        elastify(Small().eval(), EXAMPLE, kinds=[prune(0.5), prune(0.25)], patience=Patience(megabytes=0.001))


@pytest.mark.parametrize("limits", [(0.0,), (-1.0,), (float("nan"),), (1.0, 0.0)])
def test_no_patience_at_all_is_refused(limits: tuple[float, ...]) -> None:
    with pytest.raises(ModelError, match="leaves nothing; give a positive number"):
        Patience(*limits)


def test_memory_is_estimated_from_weights_and_from_the_widest_operation() -> None:
    traced, stretches = discover(trace(Small().eval(), EXAMPLE))
    block = subgraph(traced, stretches[1])
    weights = 4 * (2 * 8 * 16 * 9 + 8 + 4 * 16) + 8  # two convolutions, a bias, four parts of a norm, a count
    widest = 4 * 2 * (16 + 16) * 8 * 8  # the norm reads and writes 16 channels of 8x8 pixels, for two inputs
    assert bytes_needed([block], 0) == 0
    assert bytes_needed([block], 1) == weights + widest
    assert bytes_needed([block, block], 3) == 3 * weights + widest


LITTLE = """
import resource, sys, torch
from adaptivenet.toolkit.elastic import elastify
from adaptivenet.toolkit.errors import ModelError
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(1024, 4096), nn.Linear(4096, 1024)

    def forward(self, x):
        return x + self.b(self.a(x).relu())

torch.set_num_threads(1)
model = nn.Sequential(*(Block() for _ in range(4)))
taken = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (1024 * taken + int(sys.argv[1]) * 10**6,) * 2)
try:
    print(len(elastify(model, torch.randn(1, 1024)).graph.blocks))
except ModelError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it needs /proc")
@pytest.mark.parametrize(
    ("left", "said"),
    [(300, "a copy of Sequential needs about 134 MB"), (550, "the block b0"), (4000, "21")],
)
def test_what_the_computer_does_not_have_is_said_before_it_is_asked_for(left: int, said: str) -> None:
    run = subprocess.run([sys.executable, "-c", LITTLE, str(left)], capture_output=True, text=True, check=True)
    assert run.stdout.startswith(said)
    assert left == 4000 or " MB are free: end other programs, take a machine that has more, or ask" in run.stdout


class Positions(nn.Module):
    """Rows of a table, chosen by products with ones and zeros, as some transformers choose their positions."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(5000, 16))
        self.conv = nn.Conv2d(3, 16, 1)
        self.blocks = nn.Sequential(Residual(16), Residual(16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = torch.arange(x.shape[2] * x.shape[3]).expand(x.shape[0], -1)
        chosen = nn.functional.one_hot(rows, len(self.table)).float() @ self.table
        return self.blocks(self.conv(x) + chosen.transpose(1, 2).reshape(x.shape[0], 16, *x.shape[2:])).mean((2, 3))


def test_a_trace_holds_no_tensor_that_only_led_to_a_constant() -> None:
    model = Positions().eval()
    tracer = Tracer(model, torch.randn(2, 3, 16, 16))
    with torch.no_grad(), torch_that_takes_recorded_values():
        tracer.trace(model)
    held = [value for value in tracer.values.values() if isinstance(value, torch.Tensor) and value is not model.table]
    assert max(value.untyped_storage().nbytes() for value in held) <= 4 * 2 * 3 * 16 * 16 * 16
    supernet = elastify(model, torch.zeros(1, 3, 16, 16))
    x = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(supernet(x), model(x), rtol=1e-5, atol=1e-5)
