"""What a subnet made of blocks costs, over the same subnet exported as one program.

    python -m benchmarks.blocks [--quick] [--pack FOLDER] [--engine E] [--device D] [--threads N] [--report FILE]

For EfficientNet-Lite0, MobileNetV2 and ResNet-50 with merged and pruned blocks (random weights but for the first: they
do not matter for latency), the oracle and 10 random subnets: each as the device runs it from its blocks (in a chain, or
assembled), and as one program, made by the exporter from the modules of its blocks. The whole programs are blocks from
the first cut to the last of the same pack, so one clock times both, from the caller's input to the caller's output, in
the same rounds. That is done on the Python device and, where it is built, on the runner of this computer, on both
engines, with 1 and 2 threads. The outputs of both are compared first: they differ by 1e-4 of the largest, or less.

A subnet's ratio is the median over the rounds of what its blocks took over what its whole program took in that round;
a model's is the median of its subnets', and a figure is that of the worst model and number of threads.
`ENGINE_chain_over_whole` is the Python device's, `runner_ENGINE_chain_over_whole` the runner's, and
`ENGINE_resident_over_whole` the memory that the oracle keeps once it has run on the Python device, in a process of its
own, over that of the whole program; of the model where that is largest, one thread.

The oracle and the first three of the subnets are also taken for a known front: in a second pack, what they only take
together is one block. What that costs over the whole programs is `ENGINE_fused_over_whole`, and `fused_over_whole` is
the worst of these; `fused_bytes_over_blocks` is the size of its programs, without the whole ones, over that of the
blocks that these subnets use, of the worst model and engine.

With `--quick` EfficientNet-Lite0 alone, 4 subnets, and fewer rounds. `--pack` names a folder for the packs: those that
an earlier run left there are not exported again.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import click
import numpy as np
import torch
from adaptivenet.export import export_pack
from adaptivenet.export.fusing import fuse
from adaptivenet.toolkit.cli.console import Console, reports_errors, table
from adaptivenet.toolkit.devices.base import Session
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.elastic import Supernet, elastify, merge, prune
from adaptivenet.toolkit.errors import DeviceError
from adaptivenet.toolkit.graph.graph import Block, BlockGraph, Subnet
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.report.text import markdown
from torch import fx, nn

from .machine import describe_machine
from .models import allow_torchvision, efficientnet_lite0
from .subnets import draw_by_macs

ENGINES = {"executorch": "executorch", "onnxruntime": "onnx"}  # and the backend that each runs
DEVICES = {"local": "", "runner": "runner_"}  # and how its figures begin
WHOLE = "whole"
FRONT = 4  # subnets of the known front, the oracle among them
SAME = 1e-4  # of the largest output, or of 1 where outputs are smaller


@dataclass(frozen=True)
class Subject:
    """A pack with subnets and the block of each that is the subnet as one program, the oracle first.

    In a pack for a known front the subnets are chains of fewer blocks."""

    pack: BlockPack
    pairs: tuple[tuple[Subnet, str], ...]


def _mobilenet_v2() -> nn.Module:
    allow_torchvision()
    from torchvision.models import mobilenet_v2

    return mobilenet_v2(weights=None).eval()


def _resnet50() -> nn.Module:
    allow_torchvision()
    from torchvision.models import resnet50

    return resnet50(weights=None).eval()


MODELS: dict[str, Callable[[], nn.Module]] = {
    "efficientnet-lite0": efficientnet_lite0,
    "mobilenet-v2": _mobilenet_v2,
    "resnet50": _resnet50,
}


def subjects(name: str, folder: Path, count: int, backends: Sequence[str], console: Console) -> tuple[Subject, Subject]:
    """The packs of a model in a folder, made where they are not there: the blocks of the oracle and of `count` subnets,
    and each of these as one program; and the same for these subnets as a known front."""
    supernet = elastify(MODELS[name](), torch.zeros(1, 3, 224, 224), kinds=[merge(2), merge(3), prune(0.5)])
    drawn = dict.fromkeys([supernet.graph.oracle, *draw_by_macs(supernet.graph, 2 * count, 0)])
    subnets = list(drawn)[: count + 1]
    used = {block for subnet in subnets for block in subnet}
    blocks = [block for block in supernet.graph.blocks if block.name in used]
    modules: dict[str, nn.Module] = {block.name: supernet.blocks[block.name] for block in blocks}
    for index, subnet in enumerate(subnets):
        block = Block(f"{WHOLE}-{index}", 0, supernet.graph.end, "also" if index else WHOLE)
        blocks.append(block)
        modules[block.name] = fx.symbolic_trace(nn.Sequential(*(supernet.blocks[each] for each in subnet)))
    apart = supernet.with_blocks(BlockGraph(supernet.graph.cuts, blocks), modules)
    wholes = [[f"{WHOLE}-{at}"] for at in range(len(subnets))]
    made = fuse(apart, apart.graph, [*subnets[:FRONT], *wholes[:FRONT]])

    def packed(of: Supernet, kind: str, paths: Sequence[Sequence[str]]) -> Subject:
        pack = export_pack(
            of,
            folder / f"{name}-{count}-{'-'.join(backends)}{kind}",
            backends,
            name=name,
            overwrite=True,  # what the pack in its place has already is taken over
            progress=lambda at, total, what: console.progress(f"export {name}{kind}", at, total, what),
        )
        return Subject(pack, tuple((pack.graph.subnet(path), whole) for path, (whole,) in zip(paths, wholes)))

    front = [made.path(subnet) for subnet in subnets[:FRONT]]
    return packed(apart, "", subnets), packed(made.supernet, "-fused", front)


def bytes_of_front(of: Subject, backend: str) -> int:
    """Of the programs of the blocks that the first subnets use."""
    used = {name for subnet, _ in of.pairs[:FRONT] for name in subnet}
    return sum(of.pack.artifact(name, backend).bytes for name in used)


def ratios(session: Session, pairs: Sequence[tuple[Subnet, str]], rounds: int) -> list[float]:
    """For each subnet the median of what its blocks took over what its whole program took in the same round."""
    chains = [chain for subnet, whole in pairs for chain in (subnet, (whole,))]
    times = session.samples(chains, rounds)
    return [median(np.divide(times[at], times[at + 1]).tolist()) for at in range(0, len(times), 2)]


def check_outputs(session: Session, pairs: Sequence[tuple[Subnet, str]]) -> None:
    """Raises DeviceError where a subnet and its whole program do not compute the same from noise."""
    cut = session.pack.graph.cuts[0]
    x = np.random.default_rng(0).standard_normal(cut.shape).astype(cut.dtype)
    for subnet, whole in pairs:
        outputs = []
        for path in (subnet, (whole,)):
            session.activate(path)
            outputs.append(session.infer(x))
        difference = float(np.abs(outputs[0] - outputs[1]).max())
        if not difference <= SAME * max(1.0, float(np.abs(outputs[1]).max())):
            raise DeviceError(f"{whole} of {session.pack.name} and its blocks differ by {difference:.3g}")


def resident_bytes(pack: Path, address: str, path: Sequence[str]) -> int:
    """The bytes by which this process grows when it activates a subnet and runs it three times.

    Called in a new process. What opening the pack and loading the engine take is not counted.
    """
    with connect(address) as device, device.open(pack) as session:
        cut = session.pack.graph.cuts[0]
        before = _resident_kib()
        session.activate(path)
        for _ in range(3):
            session.infer(np.zeros(cut.shape, cut.dtype))
        return 1024 * (_resident_kib() - before)


def _resident_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def resident_over_whole(of: Subject, engine: str) -> float:
    """The oracle's resident memory over that of its whole program, each in a process of its own."""
    subnet, whole = of.pairs[0]
    found = []
    for path in (tuple(subnet), (whole,)):
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            found.append(process.submit(resident_bytes, of.pack.path, f"local:{engine}", path).result())
    return found[0] / found[1]


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


HEAD = ["model", "made of", "device", "engine", "threads", "oracle", "median", "lowest", "highest", "rounds"]


@click.command()
@click.option("--quick", is_flag=True, help="One model, 4 subnets, fewer rounds.")
@click.option("--pack", "given", type=click.Path(path_type=Path), help="A folder that keeps the packs between runs.")
@click.option("--model", "models", multiple=True, type=click.Choice([*MODELS]), help="May be repeated. [default: all]")
@click.option(
    "--engine", "engines", multiple=True, type=click.Choice([*ENGINES]), help="May be repeated. [default: both]"
)
@click.option(
    "--device", "devices", multiple=True, type=click.Choice([*DEVICES]), help="May be repeated. [default: both]"
)
@click.option("--threads", "counts", multiple=True, type=int, help="May be repeated. [default: 1 and 2]")
@click.option("--report", type=click.Path(), help="Write the table here as Markdown.")
@reports_errors
def main(
    quick: bool,
    given: Path | None,
    models: tuple[str, ...],
    engines: tuple[str, ...],
    devices: tuple[str, ...],
    counts: tuple[int, ...],
    report: str | None,
) -> None:
    """Print the figures as the last line, one json object."""
    console = Console()
    subnets, rounds = (4, 20) if quick else (10, 30)
    wanted = engines or tuple(ENGINES)
    figures: dict[str, float] = {}
    rows = [HEAD]
    with _folder(given) as folder:
        for name in models or (("efficientnet-lite0",) if quick else tuple(MODELS)):
            of, fused = subjects(name, folder, subnets, [ENGINES[engine] for engine in wanted], console)
            for engine in wanted:
                key = f"{engine}_resident_over_whole"
                figures[key] = max(figures.get(key, 0.0), resident_over_whole(of, engine))
                sizes = [bytes_of_front(each, ENGINES[engine]) for each in (fused, of)]
                key = "fused_bytes_over_blocks"
                figures[key] = max(figures.get(key, 0.0), sizes[0] / sizes[1])
                for place in devices or tuple(DEVICES):
                    for threads in counts or (1, 2):
                        for kind, each in (("chain", of), ("fused", fused)):
                            found = _measured(each, f"{place}:{engine}", threads, rounds, console)
                            if not found:
                                continue
                            key = f"{DEVICES[place]}{engine}_{kind}_over_whole"
                            figures[key] = max(figures.get(key, 0.0), median(found))
                            ends = (found[0], median(found), min(found), max(found))
                            row = [name, kind, place, engine, str(threads), *(f"{each:.3f}" for each in ends)]
                            rows.append([*row, str(rounds)])
                            console.say("  ".join(rows[-1]))
    click.echo(table(rows, right=range(4, len(HEAD))))
    if report:
        Path(report).write_text(markdown(rows) + "\n")
    figures["fused_over_whole"] = max(
        (value for key, value in figures.items() if key.endswith("_fused_over_whole")), default=0.0
    )
    figures = dict(sorted(figures.items())) | {"subnets": subnets + 1, "rounds": rounds}
    click.echo(json.dumps({"benchmark": "blocks", "figures": figures, "machine": describe_machine()}))


def _measured(of: Subject, address: str, threads: int, rounds: int, console: Console) -> list[float]:
    """The ratios on one device; none where that is not built."""
    try:
        device = connect(address, threads)
    except DeviceError as error:
        console.say(f"{address} is left out: {error}")
        return []
    with device, device.open(of.pack) as session:
        check_outputs(session, of.pairs)
        return ratios(session, of.pairs, rounds)


if __name__ == "__main__":
    main()
