"""How long `adaptivenet-profile` takes, from the command to its end, and where the time goes.

    python -m benchmarks.profile [--quick] [--pack demo/pack] [--report FILE]

The pack is the one that `make demo` leaves (EfficientNet-Lite0 for ONNX Runtime, float32 and int8), the pictures 500 of
the ImageNet samples in ADAPTIVENET_DATA, drawn by the command, with their labels: 300 to search on by top-1, 200 to
verify on. Budgets 90, 80, 70, 60 and 50% of the whole float32 program, everything else as the command has it by
default, on one thread. `seconds` is the command's wall time, the median of 3 runs, `spread_seconds` the largest less
the smallest, `seconds_STAGE` the medians of its stages. `--quick` runs it once. The paper gives 2 minutes on an edge
server with a 3090 Ti, and about an hour for 200 subnets on a Jetson Nano (Wen et al., MobiCom 2023).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import click
from adaptivenet.toolkit.cli.console import Console, reports_errors, table
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.report.text import markdown

from .datasets import data_folder
from .demo import DEVICE
from .machine import describe_machine

SEARCHED, VERIFIED = 300, 200
BUDGETS = ("90%", "80%", "70%", "60%", "50%")


def timed(pack: Path, device: str, pictures: Path) -> tuple[float, dict[str, Any]]:
    """The wall seconds of one run of the command, and the profile that it printed."""
    command = [sys.executable, "-m", "adaptivenet.toolkit.cli.profile", str(pack), "--device", device]
    command += ["--data", str(pictures), "--json"]
    command += ["--search-images", str(SEARCHED), "--verify-images", str(VERIFIED)]
    for budget in BUDGETS:
        command += ["--budget", budget]
    begun = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return time.perf_counter() - begun, json.loads(done.stdout)


@click.command()
@click.option("--quick", is_flag=True, help="One run; about 2 minutes on 2 cores.")
@click.option("--pack", type=click.Path(path_type=Path), default="demo/pack", show_default=True)
@click.option("--report", type=click.Path(), help="Write the table of stages here as Markdown.")
@reports_errors
def main(quick: bool, pack: Path, report: str | None) -> None:
    """Print the figures as the last line, one json object."""
    console = Console()
    device = "local" if "executorch" in BlockPack.open(pack).backends else DEVICE
    pictures = data_folder() / "imagenet1k_samples" / "val"
    runs = []
    for number in range(1 if quick else 3):
        runs.append(timed(pack, device, pictures))
        console.say(f"run {number + 1}: {runs[-1][0]:.1f} s")
    walls = [seconds for seconds, _ in runs]
    profiles = [profile for _, profile in runs]
    stages = {stage: median(profile["seconds"][stage] for profile in profiles) for stage in profiles[0]["seconds"]}
    outside = median(seconds - sum(profile["seconds"].values()) for seconds, profile in runs)
    rows = [["stage", "seconds"], *([stage, f"{seconds:.1f}"] for stage, seconds in stages.items())]
    rows.append(["loading, starting and ending", f"{outside:.1f}"])
    click.echo(table(rows, right=(1,)))
    if report:
        Path(report).write_text(markdown(rows) + "\n")
    figures: dict[str, Any] = {"seconds": median(walls), "spread_seconds": max(walls) - min(walls), "runs": len(runs)}
    figures |= {f"seconds_{stage.replace(' ', '_')}": seconds for stage, seconds in stages.items()}
    figures |= {
        f"top1_pct_at_{choice['budget'].rstrip('%')}": 100 * choice["quality"]["value"]
        for choice in profiles[0]["budgets"]
    }
    figures["image_evaluations"] = median(profile["search"]["image_evaluations"] for profile in profiles)
    click.echo(json.dumps({"benchmark": "profile", "figures": figures, "machine": describe_machine()}))


if __name__ == "__main__":
    main()
