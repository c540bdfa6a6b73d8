"""Paging: what it costs to serve another subnet with the C++ model, and whether inferences notice.

    python -m benchmarks.paging [--quick] [--pack FOLDER]

`runner-paging` (android_runner/bench/paging.cpp) drives the model that libadaptivenet is made of, on one thread. The
pack is EfficientNet-Lite0 with merged and pruned blocks, untrained, unless `--pack` gives another one with a whole
network; the subnets are the original network and some drawn at random, which share about two thirds of their bytes.
ExecuTorch pages blocks. ONNX Runtime makes one program of a subnet, anew for every subnet: its keys end in
`_assembled`.

- `switch_over_share`: the time of a switch over that of loading the same subnet whole, both with nothing else running,
  over the share of its bytes that the switch had to load. 1: paging costs what is loaded. By turns; medians.
- `switch_over_full_assembled`: the same without the share, because everything is loaded: the assembled program.
- `gap_over_ordinary`: a thread infers all the time. The 99th percentile (nearest rank) of the longest time from one
  inference's end to the next one's within each switch, over that within as long a time a moment after each switch.
- `resident_over_whole`: the memory that the original network takes as blocks over what it takes as one program, in
  processes of their own (RssAnon, after malloc_trim), after 5 inferences. `_after_switches`: after 40 other subnets.
- `growth_mb`: by how much 10,000 switches with an inference each, of two subnets by turns that differ in one pruned
  block, have grown the process; fewer with `--quick`, and for `_assembled`, as `growth_switches` say.
  On ONNX Runtime this levels off: a pack of three small blocks grew by 0.5 MB in 10,000 switches, 1.4 in 20,000 and 1.5
  in 40,000; on ExecuTorch by 0.1 MB in 10,000 as in 80,000.

Ratios of times hold on a machine that is busy as well, where both sides wait; the gap does so less.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import torch
from adaptivenet.export import export_pack
from adaptivenet.toolkit.cli.console import Console, reports_errors
from adaptivenet.toolkit.elastic import elastify, merge, prune
from adaptivenet.toolkit.errors import DeviceError
from adaptivenet.toolkit.pack.pack import BlockPack

from .machine import describe_machine
from .models import efficientnet_lite0
from .subnets import draw_by_macs

ENGINES = {"executorch": "", "onnxruntime": "_assembled"}
SUBNETS = 5
TURNED = 40  # switches before the memory is looked at again


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def measured(pack: BlockPack, engine: str, measure: str, count: int, subnets: Sequence[Sequence[str]]) -> Any:
    """What runner-paging prints."""
    program = Path(__file__).parents[1] / "build" / "runner" / "host" / "runner-paging"
    if not program.exists():
        raise DeviceError(f"{program} is not built: cmake --build build/runner/host --target runner-paging")
    command = [program, str(pack.path), engine, measure, str(count)]
    lines = "".join(f"{','.join(subnet)}\n" for subnet in subnets)
    ran = subprocess.run(command, input=lines, capture_output=True, text=True)
    if ran.returncode:
        raise DeviceError(f"{measure} on {engine} failed: {ran.stderr.strip().splitlines()[-1]}")
    return json.loads(ran.stdout)


def small_difference(pack: BlockPack) -> list[list[str]]:
    """The original network and it with one pruned block, the smallest."""
    oracle = list(pack.graph.oracle)
    pruned = [block for block in pack.graph.blocks if block.kind == "pruned"]
    block = min(pruned, key=lambda block: block.params or 0)
    return [oracle, [*oracle[: block.start], block.name, *oracle[block.end :]]]


def figures_of(pack: BlockPack, engine: str, quick: bool, console: Console) -> dict[str, Any]:
    """All figures of one engine, by name."""
    suffix = ENGINES[engine]
    drawn = [subnet for subnet in draw_by_macs(pack.graph, 2 * SUBNETS, 0) if len(subnet) > 1][:SUBNETS]
    subnets = [list(pack.graph.oracle), *map(list, drawn)]
    found: dict[str, Any] = {}

    console.say(f"{engine}: switches")
    times = measured(pack, engine, "switches", 12 if quick else 60, subnets)
    over_full = [switch / full for switch, full in zip(times["switch_ms"], times["full_ms"], strict=True)]
    found[f"switch_over_full{suffix}"] = statistics.median(over_full)
    if not suffix:
        ratios = [ratio / share for ratio, share in zip(over_full, times["share"], strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4)
        found |= {"switch_over_share": statistics.median(ratios), "switch_over_share_spread": high - low}
        found |= {"share_changed": statistics.median(times["share"])}
    found |= {f"switch_ms{suffix}": statistics.median(times["switch_ms"]), f"switches{suffix}": len(over_full)}

    console.say(f"{engine}: gaps")
    gaps = measured(pack, engine, "gaps", 60 if quick else 400, subnets)
    switching, ordinary = (percentile(gaps[name], 0.99) for name in ("switch_ms", "ordinary_ms"))
    found |= {f"gap_over_ordinary{suffix}": switching / ordinary, f"gap_ms{suffix}": switching}
    found |= {f"ordinary_gap_ms{suffix}": ordinary, f"gap_switches{suffix}": len(gaps["switch_ms"])}

    console.say(f"{engine}: memory")
    whole = measured(pack, engine, "resident", 0, [["whole"]])["bytes"]
    for name, count in (("", 0), ("_after_switches", TURNED)):
        found[f"resident_over_whole{name}{suffix}"] = (
            measured(pack, engine, "resident", count, subnets)["bytes"] / whole
        )
    found[f"whole_mb{suffix}"] = whole / 1e6

    console.say(f"{engine}: growth")
    count = (400 if quick else 10_000) if not suffix else (60 if quick else 1_000)
    grown = measured(pack, engine, "growth", count, small_difference(pack))
    return found | {f"growth_mb{suffix}": grown["bytes"] / 1e6, f"growth_switches{suffix}": grown["switches"]}


@click.command()
@click.option("--quick", is_flag=True, help="Fewer repetitions; at most 10 minutes on 2 cores, the export included.")
@click.option("--pack", "given", type=click.Path(path_type=Path), help="A pack for both engines, with a whole network.")
@reports_errors
def main(quick: bool, given: Path | None) -> None:
    """Print the figures as the last line, one json object."""
    console = Console()
    with ExitStack() as stack:
        if given:
            pack = BlockPack.open(given)
        else:
            supernet = elastify(efficientnet_lite0(), torch.zeros(1, 3, 224, 224), kinds=[merge(2), prune(0.5)])
            pack = export_pack(
                supernet,
                Path(stack.enter_context(tempfile.TemporaryDirectory())) / "pack",
                name="efficientnet-lite0",
                progress=lambda at, total, what: console.progress("export", at, total, what),
            )
        figures = {
            name: value for engine in ENGINES for name, value in figures_of(pack, engine, quick, console).items()
        }
    click.echo(json.dumps({"benchmark": "paging", "figures": figures, "machine": describe_machine()}))


if __name__ == "__main__":
    main()
