"""Workers that each made a supernet of one model agree on one: time may have run out for other blocks on each."""

from __future__ import annotations

import json

import torch

from ..elastic.supernet import Supernet
from .parallel import Workers


def agree(supernet: Supernet, group: Workers) -> None:
    """Leaves out, in place, the alternatives that another worker left out when it made its own (`Patience`).

    They are named in `left_out`. Raises TrainingError on every worker where one of them lacks others.
    """
    if group.size == 1:
        return
    own = {block.name: block for block in supernet.alternatives()}
    first = json.loads(group.told(lambda: json.dumps([list(own), list(supernet.left_out)])))
    unexplained = (set(first[0]) - set(own) - set(supernet.left_out)) | (set(own) - set(first[0]) - set(first[1]))
    group.must_share(" ".join(sorted(unexplained)), "alternatives")
    having = torch.tensor([float(name in own) for name in first[0]], device=group.device)
    group.add_up([having])
    shared = {name for name, count in zip(first[0], having.tolist(), strict=True) if count == group.size}
    if others := [name for name in own if name not in shared]:
        supernet.become(supernet.without(others))
        supernet.left_out |= {name: f"{own[name].source}: another worker left it out" for name in others}
