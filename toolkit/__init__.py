"""AdaptiveNet: make a pretrained network elastic, and let each device choose its own best version of it.

    supernet = elastify("timm:mobilenetv3_small_100", torch.zeros(1, 3, 224, 224))      # elastic; needs torch
    train(supernet, pictures)
    pack = export_pack(supernet, "pack")                                                # of adaptivenet.export
    with connect("local") as device, device.open(pack) as session:
        result = profile(session, data, Settings(("75%",)))
        session.activate(result.choices[0].point.subnet)
        output = session.infer(x)

The names below are public. `elastify`, `train`, `polish` and `Supernet` import torch when they are first used; nothing
else here does.
"""

from typing import TYPE_CHECKING, Any

from .data import Dataset, open_data
from .data.preprocessing import Preprocessing
from .devices.base import Device, DeviceInfo, Evaluation, Observer, PageIn, Session
from .devices.connect import connect
from .errors import (
    AdaptiveNetError,
    BudgetError,
    ConnectionLost,
    DataError,
    DeviceError,
    EnergyUnknown,
    EngineMissing,
    ExportError,
    FeaturesLost,
    GraphError,
    ModelError,
    NotAuthorized,
    PackError,
    PlanError,
    PreprocessingError,
    ProfileError,
    SeveralDevices,
    TrainingError,
    WorkerLost,
)
from .graph.front import Front, FrontPoint
from .graph.graph import Block, BlockGraph, Cut, Subnet
from .graph.latency import Latency, LatencyTable
from .graph.quality import Quality
from .graph.sampling import PathSampler
from .pack.pack import BlockPack
from .plan.plan import Plan, compile_plan
from .profiling.profile import Choice, Profile
from .profiling.profiling import profile
from .profiling.settings import Budget, Settings
from .serving.controller import Controller
from .serving.decision import Budgets, Decision, Point, Signals, points_of
from .serving.model import Model, Status

if TYPE_CHECKING:
    from .elastic import Supernet, elastify
    from .training.polish import polish
    from .training.train import train

__all__ = [
    "AdaptiveNetError",
    "Block",
    "BlockGraph",
    "BlockPack",
    "Budget",
    "BudgetError",
    "Budgets",
    "Choice",
    "ConnectionLost",
    "Controller",
    "Cut",
    "DataError",
    "Dataset",
    "Decision",
    "Device",
    "DeviceError",
    "DeviceInfo",
    "EnergyUnknown",
    "EngineMissing",
    "Evaluation",
    "ExportError",
    "FeaturesLost",
    "Front",
    "FrontPoint",
    "GraphError",
    "Latency",
    "LatencyTable",
    "Model",
    "ModelError",
    "NotAuthorized",
    "Observer",
    "PackError",
    "PageIn",
    "PathSampler",
    "Plan",
    "PlanError",
    "Point",
    "Preprocessing",
    "PreprocessingError",
    "Profile",
    "ProfileError",
    "Quality",
    "Session",
    "Settings",
    "SeveralDevices",
    "Signals",
    "Status",
    "Subnet",
    "Supernet",
    "TrainingError",
    "WorkerLost",
    "compile_plan",
    "connect",
    "elastify",
    "open_data",
    "points_of",
    "polish",
    "profile",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in ("Supernet", "elastify"):
        from . import elastic

        return getattr(elastic, name)
    if name == "polish":
        from .training.polish import polish

        return polish
    if name == "train":
        from .training.train import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
