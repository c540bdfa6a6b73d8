"""Whether the quality in a profile can be trusted: was it measured on training pictures, does the original make sense.

What is found becomes a profile's warnings, a sentence each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..data import Dataset
from ..devices.base import Session
from ..graph.doubts import guessing, one_answer
from ..graph.quality import Quality
from ..pack.pack import BlockPack


def trained_on(pack: BlockPack, pictures: Dataset) -> int | None:
    """How many of the pictures the pack's blocks were trained on; None: the pack does not know."""
    return None if pack.trained_on is None else pack.trained_on.among(pictures.content_digests())


def seen_in_training(pack: BlockPack, seen: int | None, pictures: int) -> list[str]:
    """What to say where `seen` of the pictures to verify on were trained on."""
    return [pack.trained_on.in_words(seen, pictures)] if seen and pack.trained_on else []


def original_in_doubt(session: Session, pictures: Dataset, qualities: Sequence[Quality], searched: str) -> list[str]:
    """What is odd about the original network, which has these qualities and answers for these pictures.

    `searched` is the metric that the search went by.
    """
    pack, found = session.pack, []
    scores = pack.scores is not None
    for quality in qualities:
        if quality.metric in ("top1", "top5") and (doubt := guessing(quality, pack.graph.cuts[-1].shape[1])):
            other = next((name for name in pack.scored if "label" not in pack.metrics[name]), None)
            instead = f"; --metric {other} searches without labels" if quality.metric == searched and other else ""
            found.append(doubt + instead)
    if (answer := _only_answer(session, pictures, scores)) and (doubt := one_answer(answer, len(pictures))):
        found.append(doubt)
    return found


def _only_answer(session: Session, pictures: Dataset, scores: bool) -> str | None:
    """The answer of the original network, in words, where it is the same for all pictures.

    It runs until it gives another one, which a network that works does on the first few pictures.
    """
    session.activate(session.pack.graph.oracle)
    first = session.infer(pictures.image(0))
    for index in range(len(pictures)):
        output = first if index == 0 else session.infer(pictures.image(index))
        if scores and np.unique([*output.argmax(1).flat, *first.argmax(1).flat]).size > 1:
            return None
        if not scores and not np.allclose(output, first, rtol=1e-4, atol=1e-4 * float(np.abs(first).max())):
            return None
    if not scores:
        return "one output"
    answer, names = int(first.argmax(1).flat[0]), session.pack.classes
    return repr(names[answer]) if names and answer < len(names) else f"class {answer}"
