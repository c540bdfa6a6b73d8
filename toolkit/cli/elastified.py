"""What `adaptivenet-elastify` says of its work: sentences, tables, and the json document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from statistics import median
from typing import TYPE_CHECKING, Any

from ..plurals import number_of

if TYPE_CHECKING:
    from ..elastic import Supernet
    from ..training.thinning import Thinned
    from ..training.train import Trained
    from ..training.validate import Validation


def left_out(thinned: Thinned) -> str:
    """What is left out, block by block, and how to keep it."""
    of_block: dict[str, list[str]] = {}
    for name in sorted(thinned.names):
        block, _, tag = name.partition("-")
        of_block.setdefault(block, []).append(tag)
    return (
        f"left out {number_of(len(thinned.names), 'alternative')} ({len(thinned.dominated)} that another one "
        f"dominates, {len(thinned.storage)} for storage, now {thinned.after:.2f} and not {thinned.before:.2f} times "
        "the original network's; --storage all keeps them): "
        + ", ".join(" ".join([name, *tags]) for name, tags in of_block.items())
    )


def out_of_patience(left_out: Mapping[str, str], said: Collection[str] = ()) -> Iterator[str]:
    """A line for each alternative that was not made, or not by every worker, and was not said yet."""
    return (f"left out {name} of {why} (--patience)" for name, why in left_out.items() if name not in said)


def outcome(trained: Trained) -> str:
    """How much was trained, and whether more would help."""
    steps = (
        number_of(trained.steps, "step")
        if trained.steps == trained.planned
        else f"{trained.steps} of {number_of(trained.planned, 'step')}"
    )
    if trained.falling is None:
        advice = "too few steps to tell from their loss whether more would help"
    elif trained.falling == 0:
        advice = "the loss no longer fell in the last quarter: more of the same steps would hardly help"
    else:
        advice = f"the loss still fell by {trained.falling:.0%} in the last quarter: more steps would help"
    said = f"trained {steps} ({trained.precision}) in {trained.seconds:.0f} s; {advice}"
    if trained.steps and any(share < 1 for share in trained.kept):
        kept = " and ".join(f"{share:.0%}" for share in trained.kept)
        said += f"; kept of the way that the weights went in each phase: {kept}, by {trained.deciding} other pictures"
    return said


def document(supernet: Supernet, trained: Trained | None, validation: Validation | None) -> dict[str, Any]:
    """The json document of the supernet, its training and its validation."""
    graph = supernet.graph
    return {
        "source": supernet.source,
        "cuts": [{"index": cut.index, "shape": list(cut.shape), "dtype": cut.dtype} for cut in graph.cuts],
        "blocks": [dict(vars(block)) for block in graph.blocks],
        "subnets": graph.count(),
        "left_out": dict(supernet.left_out),
        "notes": list(supernet.notes),
        "training": None if trained is None else asdict(trained),
        "validation": None if validation is None else asdict(validation),
    }


def quality_rows(validation: Validation) -> list[list[str]]:
    """A table of the oracle's quality and that of random subnets at each budget."""
    oracle = validation.oracle
    rows = [["budget", "subnets", "mean", "lowest", "highest"]]
    rows.append(["oracle", "1", f"{oracle.value:.1%}", f"{oracle.value:.1%}", f"{oracle.value:.1%}"])
    for at in validation.budgets:
        values = [f"{value:.1%}" if value is not None else "" for value in (at.mean, at.lowest, at.highest)]
        rows.append([f"{at.budget:.0%}", str(at.subnets), *values])
    return rows


def summary(supernet: Supernet) -> str:
    """One line: how many blocks of which kind, and subnets; the local losses of those that have one."""
    graph = supernet.graph
    kinds = Counter(block.kind for block in graph.blocks)
    losses = [block.loss for block in graph.blocks if block.loss is not None]
    local = f"; local loss {median(losses):.3f} in the median, {max(losses):.3f} at most" if losses else ""
    of_kinds = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    return f"{number_of(len(graph.blocks), 'block')} ({of_kinds}), {number_of(graph.count(), 'subnet')}{local}"


def block_rows(supernet: Supernet) -> list[list[str]]:
    """A table of all blocks."""
    rows = [["block", "made from", "cuts", "MMACs", "k params", "local loss"]]
    for block in supernet.graph.blocks:
        loss = "" if block.loss is None else f"{block.loss:.3f}"
        cuts = f"{block.start} → {block.end}"
        rows.append([block.name, block.source, cuts, f"{block.macs / 1e6:.1f}", f"{block.params / 1e3:.1f}", loss])
    return rows
