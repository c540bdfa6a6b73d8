"""The phone: what a request costs, how fast files are pushed, and what the C++ runner costs and saves.

    python -m benchmarks.phone [--quick] [--phone HOST:PORT] [--pack FOLDER]

The phone is one that listens on TCP; without `--phone` a virtual one is started (tests/virtual_phone, which needs
root), of this computer's own processor, so that nothing on it is emulated. It is reached in both ways by turns: through
the adb-shell library, and through the adb program with a server of its own. The pack is EfficientNet-Lite0
with merged and pruned blocks, untrained, unless `--pack` gives another one.

- `request_ms_adb`, `request_ms_adb_shell`: from the request `info` to its result, median; the runner runs already.
- `push_rate_over_adb`: the rate at which a file of 64 MB gets from the disk to the phone by the library, over that of
  `adb push`; `checked_push_over_adb` counts comparing it there with its SHA-256 and renaming it as well, which is more
  than `adb push` does. With `_by_adb`: the same by our way of using the adb program.
- `runner_overhead_pct`: the oracle's blocks run by the runner on this computer over a bare loop over ExecuTorch's
  Module, both in one process that takes them in turn; one thread.
- `runner_over_python_evaluate`: the time in which the runner on this computer evaluates 100 random subnets on a few
  images of noise, over that of the Python device, loading included, pushing not.

Ratios are medians over pairs that are taken in turn; `*_pairs` says how many, `*_spread` is the interquartile range of
the ratios. On a virtual phone the first two tell of the way there, not of a phone. `--quick` takes fewer pairs.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from adaptivenet.export import export_pack
from adaptivenet.toolkit.cli.console import Console, reports_errors
from adaptivenet.toolkit.devices.adb.discovery import find_phone
from adaptivenet.toolkit.devices.adb.transport import Transport
from adaptivenet.toolkit.devices.base import Evaluation, Log, Session
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.devices.phone.device import PhoneDevice
from adaptivenet.toolkit.devices.phone.push import Item
from adaptivenet.toolkit.elastic import elastify, merge, prune
from adaptivenet.toolkit.errors import DeviceError
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.plan.plan import compile_plan

from .machine import describe_machine
from .models import efficientnet_lite0
from .subnets import draw_by_macs

MEGABYTES = 64
SUBNETS = 100


class Noise:
    """Images of noise, as a data set without labels."""

    labels = None

    def __init__(self, shape: tuple[int, ...], count: int) -> None:
        self.images = np.random.default_rng(0).standard_normal((count, *shape)).astype(np.float32)

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> np.ndarray:
        """One image, batch first."""
        return self.images[index]


def ratios(ours: Callable[[], float], theirs: Callable[[], float], pairs: int) -> list[float]:
    """The quotients of two times that are taken in turn, each first by turns, after one of each that does not count."""
    ours(), theirs()
    found = []
    for pair in range(pairs):
        if pair % 2:
            below, above = theirs(), ours()
        else:
            above, below = ours(), theirs()
        found.append(above / below)
    return found


def figure(name: str, values: list[float], scale: Callable[[float], float] = lambda ratio: ratio) -> dict[str, float]:
    """The median of ratios with their number and interquartile range."""
    scaled = [scale(value) for value in values]
    low, _, high = statistics.quantiles(scaled, n=4)
    return {name: statistics.median(scaled), f"{name}_spread": high - low, f"{name}_pairs": len(scaled)}


def seconds(work: Callable[[], Any]) -> float:
    """How long some work takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


@contextmanager
def virtual_phone(port: int = 5571) -> Iterator[str]:
    """A virtual phone and an adb server of its own, for as long as it is used."""
    address = f"127.0.0.1:{port}"
    phone = [sys.executable, "-m", "tests.virtual_phone"]
    os.environ |= {"ADB_SERVER_SOCKET": "tcp:localhost:5951", "ADB_LOCAL_TRANSPORT_MAX_PORT": "0", "ADB_EMU": "0"}
    started = subprocess.run(
        [*phone, "start", "--port", str(port), "--abi", "x86_64"], stderr=subprocess.PIPE, text=True
    )
    if started.returncode:
        raise DeviceError(f"{started.stderr.strip()}; or give --phone HOST:PORT")
    try:
        subprocess.run(["adb", "connect", address], check=True, capture_output=True)
        yield address
    finally:
        subprocess.run(["adb", "kill-server"], capture_output=True)  # the one that was started above
        subprocess.run([*phone, "stop", "--port", str(port)])


def request_times(device: PhoneDevice, count: int) -> list[float]:
    """Milliseconds from the request `info` to its result."""
    device.calls("info")
    return [1e3 * seconds(lambda: device.calls("info")) for _ in range(count)]


@contextmanager
def new_file() -> Iterator[Path]:
    """A file with content that no phone has yet."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(os.urandom(MEGABYTES << 20))
        file.flush()
        yield Path(file.name)


def push_rates(device: PhoneDevice, transport: Transport, serial: str, pairs: int) -> tuple[list[float], list[float]]:
    """The rates of our push over that of `adb push`, anew for every push: the transport's alone, and with the check."""
    remote = "/data/local/tmp/adaptivenet-benchmark"

    def sent() -> float:
        with new_file() as file:
            return seconds(lambda: transport.push(file, remote))

    def checked() -> float:
        with new_file() as file:
            digest = sha256(file.read_bytes()).hexdigest()
            item = Item(f"data/{digest}.safetensors", digest, file.stat().st_size, lambda: file)
            return seconds(lambda: device.put([item]))

    def theirs() -> float:
        with new_file() as file:
            command = ["adb", "-s", serial, "push", str(file), remote]
            return seconds(lambda: subprocess.run(command, check=True, capture_output=True))

    one, other = ([1 / ratio for ratio in ratios(ours, theirs, pairs)] for ours in (sent, checked))
    return one, other


def overhead(pack: BlockPack, home: Path, rounds: int) -> list[float]:
    """The runner's time for the oracle over a bare loop's, round by round."""
    program = Path(__file__).parents[1] / "build" / "runner" / "host" / "runner-overhead"
    if not program.exists():
        raise DeviceError(f"{program} is not built: cmake --build build/runner/host --target runner-overhead")
    command = [program, home, pack.digest, ",".join(pack.graph.oracle), str(rounds)]
    times = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return [ours / bare for ours, bare in zip(times["runner_ms"], times["bare_ms"], strict=True)]


def evaluations(pack: BlockPack, runner: Session, python: Session, images: int, pairs: int) -> list[float]:
    """The runner's time for 100 subnets over the Python device's."""
    plan = compile_plan(pack.graph, draw_by_macs(pack.graph, SUBNETS, 0), {"agreement": pack.metrics["agreement"]})
    data = Noise(pack.graph.cuts[0].shape, images)
    results: list[Evaluation] = []

    def timed(session: Session) -> Callable[[], float]:
        return lambda: seconds(lambda: results.append(session.evaluate(plan, data)))

    found = ratios(timed(runner), timed(python), pairs)
    sums = [result.sums["agreement"] for result in results]
    if any(not np.array_equal(one, sums[0]) for one in sums):
        raise DeviceError("the runner and the Python device do not give the same scores")
    return found


def small_pack(folder: Path, console: Console) -> BlockPack:
    """EfficientNet-Lite0 with merged and pruned blocks, for ExecuTorch."""
    supernet = elastify(efficientnet_lite0(), torch.zeros(1, 3, 224, 224), kinds=[merge(2), prune(0.5)])
    return export_pack(
        supernet,
        folder / "pack",
        name="efficientnet-lite0",
        backends=("executorch",),
        progress=lambda at, total, what: console.progress("export", at, total, what),
    )


@click.command()
@click.option("--quick", is_flag=True, help="Fewer repetitions; at most 10 minutes on 2 cores.")
@click.option("--phone", metavar="HOST:PORT", help="A phone that listens on TCP and lets this computer in.")
@click.option(
    "--pack", "given", type=click.Path(path_type=Path), help="A pack for ExecuTorch with the metric agreement."
)
@reports_errors
def main(quick: bool, phone: str | None, given: Path | None) -> None:
    """Print the figures as the last line, one json object."""
    console = Console()
    requests, pushes, rounds, images, pairs = (10, 3, 60, 2, 3) if quick else (50, 9, 400, 8, 9)
    figures: dict[str, Any] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pack = BlockPack.open(given) if given else small_pack(folder, console)

        console.say("1/2 this computer")
        runner = connect("runner")
        assert isinstance(runner, PhoneDevice)
        stack.callback(runner.close)
        with runner.open(pack) as ours, connect("local").open(pack) as python:
            figures |= figure("runner_over_python_evaluate", evaluations(pack, ours, python, images, pairs))
        found = overhead(pack, Path(runner.store.home), rounds)
        figures |= figure("runner_overhead_pct", found, lambda ratio: 100 * (ratio - 1))

        console.say("2/2 the phone")
        if phone is None:
            phone = stack.enter_context(virtual_phone())
        for way in ("adb", "adb-shell"):
            transport = stack.enter_context(find_phone(f"{way}:{phone}"))
            device = PhoneDevice(transport, observer=Log())
            times = request_times(device, requests)
            name = f"request_ms_{way.replace('-', '_')}"
            figures |= {name: statistics.median(times), f"{name}_requests": requests}
            suffix = "_by_adb" if way == "adb" else ""
            sent, checked = push_rates(device, transport, phone, pushes)
            figures |= figure(f"push_rate_over_adb{suffix}", sent) | figure(f"checked_push_over_adb{suffix}", checked)
            device.calls.stop()
    click.echo(json.dumps({"benchmark": "phone", "figures": figures, "machine": describe_machine()}))


if __name__ == "__main__":
    main()
