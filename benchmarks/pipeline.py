"""What the whole job costs: storage of all options over the original network's, and the seconds of each step.

    python -m benchmarks.pipeline [--quick]

It does what `make demo` does, into a temporary folder. `supernet_over_original` is the bytes of all float32 blocks of
the pack over those of the original ones; `quality_B` and `latency_over_budget_B` are the chosen subnet's agreement
with the oracle on unseen pictures and its measured latency over its budget B (in % of the whole float32 program's
latency). One run: no repetitions, no spread, except that latencies are medians of `rounds`. `--quick` trains and times
less.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import click
from adaptivenet.toolkit.cli.console import Console, reports_errors

from .demo import BACKEND, SETTINGS, TRAINING, run

QUICK = replace(TRAINING.lasting(16), calibration_batches=8)


@click.command()
@click.option("--quick", is_flag=True, help="Train and time less; at most 10 minutes on 2 cores.")
@reports_errors
def main(quick: bool) -> None:
    """Print the figures as the last line, one json object."""
    settings = replace(SETTINGS, rounds=10, verify_images=100) if quick else SETTINGS
    with tempfile.TemporaryDirectory() as folder:
        result = run(Path(folder), None, Console(), settings, QUICK if quick else TRAINING)
    pack, device = result.pack, result.profile.device
    blocks = [block for block in pack.graph.blocks if block.precision == "float32" and not block.is_network]
    sizes = {block.name: pack.artifact(block.name, BACKEND).bytes for block in blocks}
    figures = {
        "supernet_over_original": sum(sizes.values()) / sum(sizes[name] for name in pack.graph.oracle),
        "subnets": pack.graph.count(),
        "seconds": sum(result.seconds.values()),
        **{f"seconds_{step.replace(' ', '_')}": seconds for step, seconds in result.seconds.items()},
    }
    for choice in result.profile.choices:
        budget = choice.budget.rstrip("%")
        figures[f"latency_over_budget_{budget}"] = choice.point.latency_ms / choice.budget_ms
        figures[f"quality_{budget}"] = choice.point.quality.value if choice.point.quality else None
    machine = {key: device[key] for key in ("name", "os", "cores", "engine", "engine_version", "threads")}
    click.echo(json.dumps({"benchmark": "pipeline", "figures": figures, "machine": machine}))


if __name__ == "__main__":
    main()
