"""AdaptiveNet: make a pretrained network elastic, and let each device choose its own best version of it.

    supernet = elastify("timm:mobilenetv3_small_100", torch.zeros(1, 3, 224, 224))      # elastic; needs torch
    pack = BlockPack.open("pack")                                                       # made by adaptivenet.export
    with connect("local").open(pack) as session:
        result = profile(session, data, Settings(("75%",)))
        session.activate(result.choices[0].point.subnet)
        output = session.infer(x)

The names below are public. `elastify` and `Supernet` import torch when they are first used; nothing else here does.
"""

from typing import TYPE_CHECKING, Any

from .data import Dataset, Preprocessing, open_data
from .devices import Device, Session, connect
from .errors import AdaptiveNetError
from .front import Front, FrontPoint
from .graph import Block, BlockGraph, Cut, Subnet
from .latency import Latency, LatencyTable
from .pack import BlockPack
from .plan import Plan, compile_plan
from .profile import Profile, Settings, profile
from .quality import Quality
from .sampling import PathSampler

if TYPE_CHECKING:
    from .elastic import Supernet, elastify

__all__ = [
    "AdaptiveNetError",
    "Block",
    "BlockGraph",
    "BlockPack",
    "Cut",
    "Dataset",
    "Device",
    "Front",
    "FrontPoint",
    "Latency",
    "LatencyTable",
    "PathSampler",
    "Plan",
    "Preprocessing",
    "Profile",
    "Quality",
    "Session",
    "Settings",
    "Subnet",
    "Supernet",
    "compile_plan",
    "connect",
    "elastify",
    "open_data",
    "profile",
]


def __getattr__(name: str) -> Any:
    if name in ("Supernet", "elastify"):
        from . import elastic

        return getattr(elastic, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
