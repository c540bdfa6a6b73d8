"""Which models become elastic: one of every family in timm, all of torchvision's that see pictures, every third of
other packages', and every third encoder of text.

    python -m benchmarks.coverage [--quick] [--library timm] [--only NAME] [--jobs 2] [--report FILE] [--answers FILE]

Every model is built with random weights at the input size of its library, and made elastic by one call. A row says
what came out: cuts, taps, original blocks and how many of them have alternatives, all blocks, subnets, the error of the
oracle path against the model (relative to the larger of 1 and the largest output), how many of 20 random subnets ran
forward and backward, and for ten families whether every block of a random subnet went through ExecuTorch's exporter and
engine. A model that is refused has its reason. A family is elastified when its oracle is equal to 1e-4 and every
subnet ran.

A family is a module of timm; its representative is the variant with the fewest parameters, without the `test_` models.
They stand in families.json, which `--list-families` makes anew. Detectors are taken up to their raw outputs. Which are
the others and the encoders, others.py and texts.py say; of them only those count whose package is installed: `pip
install transformers torchaudio segmentation-models-pytorch`. A model may take 15 minutes and three quarters of the
memory, over the number of jobs.
`options_per_block` is the mean, over the elastified families, of alternatives over original blocks that have any.
`--quick` tries every fifth family, three subnets of each and three exports, and leaves the rest out. With `--answers`
every answer is kept in a file as it comes, and a model that has one there is not tried again: a run that was stopped
goes on, and a large model can be tried in a call of its own. One run of
counts, no timings to repeat: `seconds` is what one elastify call took on one thread of the machine as it was.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
from adaptivenet.toolkit.cli.console import Console, reports_errors, table
from adaptivenet.toolkit.report.text import markdown

from . import others, texts
from .machine import describe_machine
from .models import allow_torchvision

FAMILIES = Path(__file__).with_name("families.json")
LIBRARIES = ("timm", "torchvision", "others", "texts")
TOLERANCE = 1e-4
LIMIT_S = 900.0
_BIG_SIDES = {"inception_v3": 299, "swin_v2_b": 256, "swin_v2_s": 256, "swin_v2_t": 256, "ssd300_vgg16": 300}


class Worker:
    """One process that tries models with at most `memory` bytes, started anew after one that was given up or large."""

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._process: subprocess.Popen[str] | None = None

    def attempt(self, **task: Any) -> dict[str, Any]:
        """What became of one model within the time limit."""
        if self._process is None:
            command = [sys.executable, "-m", f"{__package__}.coverage_worker", str(self._memory)]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        expired = threading.Timer(LIMIT_S, process.kill)
        expired.start()
        try:
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        finally:
            timed_out = not expired.is_alive()
            expired.cancel()
        if line:
            answer: dict[str, Any] = json.loads(line)
            if answer.pop("last"):
                self.close()
            return answer
        self.close()
        return {"refused": f"given up after {LIMIT_S:.0f} s" if timed_out else "its process died, perhaps of memory"}

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def timm_families() -> dict[str, dict[str, Any]]:
    """The representative of every family, as families.json has them: model and side of its input."""
    stored: dict[str, Any] = json.loads(FAMILIES.read_text())
    families: dict[str, dict[str, Any]] = stored["families"]
    return families


def list_families(console: Console) -> None:
    """Writes families.json from the installed timm: builds every model without memory and counts its parameters."""
    allow_torchvision()
    import timm
    import torch

    families = {}
    modules = timm.list_modules()
    for done, module in enumerate(modules):
        console.progress("families", done, len(modules), module)
        counted = []
        for name in sorted(timm.list_models(module=module)):
            if not name.startswith("test_"):
                with torch.device("meta"):
                    model = timm.create_model(name)
                side = model.pretrained_cfg["input_size"][-1]
                counted.append((sum(weight.numel() for weight in model.parameters()), name, side))
        if counted:
            _, name, side = min(counted)
            families[module] = {"model": name, "side": side}
    FAMILIES.write_text(json.dumps({"timm": timm.__version__, "families": families}, indent=1) + "\n")


def torchvision_models() -> list[str]:
    """All entries for classification, segmentation and detection."""
    allow_torchvision()
    from torchvision import models

    modules = (models, models.segmentation, models.detection)
    return [name for module in modules for name in models.list_models(module=module)]


def run(tasks: Sequence[dict[str, Any]], jobs: int, done: Callable[[int, dict[str, Any]], None]) -> None:
    """Tries every task in `jobs` processes and calls `done(index, answer)` for each."""
    memory = int(0.75 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / jobs)
    local = threading.local()
    workers: list[Worker] = []

    def attempt(index: int) -> None:
        if not hasattr(local, "worker"):
            local.worker = Worker(memory)
            workers.append(local.worker)
        done(index, local.worker.attempt(**tasks[index]))

    try:
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(attempt, range(len(tasks))))
    finally:
        for worker in workers:
            worker.close()


def library_of(task: dict[str, Any]) -> str:
    """One of LIBRARIES."""
    library: str = task["name"].partition(":")[0]
    return library if library in LIBRARIES else "others"


def _row(name: str, answer: dict[str, Any]) -> list[str]:
    if "refused" in answer:
        return [name, "", "", "", "", "", "", "", "", answer["refused"]]
    return [
        name,
        str(answer["cuts"]),
        str(answer["taps"]),
        f"{answer['elastic']}/{answer['originals']}",
        str(answer["blocks"]),
        f"{answer['subnets']:.3g}",
        f"{answer['oracle_error']:.1e}",
        f"{answer['subnets_run']}",
        f"{answer['seconds']:.0f}",
        answer.get("exported", ""),
    ]


HEAD = ["model", "cuts", "taps", "elastic", "blocks", "subnets", "oracle error", "ran", "seconds", "export, or refusal"]


def is_elastified(task: dict[str, Any], answer: dict[str, Any]) -> bool:
    """Whether a model counts as elastified."""
    return (
        "refused" not in answer
        and answer["oracle_error"] <= TOLERANCE
        and answer["subnets_run"] == task["subnets"]
        and answer["elastic"] > 0
    )


def _known(kept: str | None, tasks: Sequence[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """The answers that a file has of these tasks."""
    if kept is None or not Path(kept).exists():
        return {}
    lines = [json.loads(line) for line in Path(kept).read_text().splitlines()]
    return {tasks.index(line["task"]): line["answer"] for line in lines if line["task"] in tasks}


@click.command()
@click.option("--quick", is_flag=True, help="A fifth of timm's families; at most 10 minutes on 2 cores.")
@click.option("--library", type=click.Choice(LIBRARIES), help="Only the models of this one.")
@click.option("--only", multiple=True, help="Only this model, as the table names it; may be repeated.")
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True, help="Processes, of one thread each.")
@click.option("--report", type=click.Path(), help="Write the table here as Markdown.")
@click.option("--answers", "kept", type=click.Path(), help="Keep the answers here, and try no model that has one.")
@click.option("--list-families", "listing", is_flag=True, help="Make families.json from the installed timm, and stop.")
@reports_errors
def main(
    quick: bool,
    library: str | None,
    only: tuple[str, ...],
    jobs: int,
    report: str | None,
    kept: str | None,
    listing: bool,
) -> None:
    """Print the figures as the last line, one json object."""
    console = Console()
    if listing:
        list_families(console)
        return
    tasks = [
        {"name": f"timm:{family['model']}", "side": family["side"], "subnets": 3 if quick else 20, "export": False}
        for family in list(timm_families().values())[:: 5 if quick else 1]
    ]
    for task in random.Random(0).sample(tasks, 3 if quick else 10):
        task["export"] = True
    if not quick:
        tasks += [
            {"name": f"torchvision:{name}", "side": _BIG_SIDES.get(name, 224), "subnets": 20, "export": False}
            for name in torchvision_models()
        ]
        packages = [*others.names(), *texts.names()]
        tasks += [{"name": name, "side": None, "subnets": 20, "export": False} for name in packages]
    tasks = [task for task in tasks if (not only or task["name"] in only) and library in (None, library_of(task))]
    tasks.sort(key=lambda task: (LIBRARIES.index(library_of(task)), task["side"] or 0))  # the slow ones last
    answers = _known(kept, tasks)
    missing = [index for index in range(len(tasks)) if index not in answers]

    def note(number: int, answer: dict[str, Any]) -> None:
        index = missing[number]
        answers[index] = answer
        if kept:
            with open(kept, "a") as file:
                file.write(json.dumps({"task": tasks[index], "answer": answer}) + "\n")
        console.say(
            f"{len(answers)}/{len(tasks)}  " + "  ".join(cell for cell in _row(tasks[index]["name"], answer) if cell)
        )

    run([tasks[index] for index in missing], jobs, note)
    rows = [HEAD, *(_row(task["name"], answers[index]) for index, task in enumerate(tasks))]
    click.echo(table(rows, right=range(1, 9)))
    if report:
        Path(report).write_text(markdown(rows) + "\n")
    good = [index for index, task in enumerate(tasks) if is_elastified(task, answers[index])]
    tried = Counter(map(library_of, tasks))
    elastified = Counter(library_of(tasks[index]) for index in good)
    of_families = [answers[index] for index in good if library_of(tasks[index]) == "timm"]
    figures: dict[str, Any] = {
        "families_tried": tried["timm"],
        "families_elastified": elastified["timm"],
        "elastified_pct": 100 * elastified["timm"] / max(tried["timm"], 1),
        "options_per_block": sum((facts["blocks"] - facts["originals"]) / facts["elastic"] for facts in of_families)
        / max(len(of_families), 1),
        "worst_oracle_error": max((facts["oracle_error"] for facts in of_families), default=None),
        "exports_tried": sum("exported" in answer for answer in answers.values()),
        "exports_good": sum(answer.get("exported") == "ok" for answer in answers.values()),
        "torchvision_tried": tried["torchvision"],
        "torchvision_elastified": elastified["torchvision"],
        "others_tried": tried["others"],
        "others_elastified_pct": 100 * elastified["others"] / max(tried["others"], 1),
        "texts_tried": tried["texts"],
        "texts_elastified_pct": 100 * elastified["texts"] / max(tried["texts"], 1),
        "defects": sum("defect" in answer for answer in answers.values()),
    }
    click.echo(json.dumps({"benchmark": "coverage", "figures": figures, "machine": describe_machine()}))


if __name__ == "__main__":
    main()
