"""AdaptiveNet: make a pretrained network elastic, and let each device choose its own best version of it.

    supernet = elastify("timm:mobilenetv3_small_100", torch.zeros(1, 3, 224, 224))      # elastic; needs torch
    train(supernet, pictures)
    pack = export_pack(supernet, "pack")                                                # of adaptivenet.export
    with connect("local") as device, device.open(pack) as session:
        result = profile(session, data, Settings(("75%",)))
        session.activate(result.choices[0].point.subnet)
        output = session.infer(x)

The names below are public. What is named here is imported when it is first used, so that commands start quickly;
`elastify`, `train`, `polish` and `Supernet` import torch, and nothing else here does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data import Dataset, open_data
    from .data.preprocessing import Preprocessing
    from .devices.base import Device, DeviceInfo, Evaluation, Observer, PageIn, Session
    from .devices.connect import connect
    from .elastic import Supernet, elastify
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
_NAMES = {
    ".data": ["Dataset", "open_data"],
    ".data.preprocessing": ["Preprocessing"],
    ".devices.base": ["Device", "DeviceInfo", "Evaluation", "Observer", "PageIn", "Session"],
    ".devices.connect": ["connect"],
    ".elastic": ["Supernet", "elastify"],
    ".errors": [
        "AdaptiveNetError",
        "BudgetError",
        "ConnectionLost",
        "DataError",
        "DeviceError",
        "EnergyUnknown",
        "EngineMissing",
        "ExportError",
        "FeaturesLost",
        "GraphError",
        "ModelError",
        "NotAuthorized",
        "PackError",
        "PlanError",
        "PreprocessingError",
        "ProfileError",
        "SeveralDevices",
        "TrainingError",
        "WorkerLost",
    ],
    ".graph.front": ["Front", "FrontPoint"],
    ".graph.graph": ["Block", "BlockGraph", "Cut", "Subnet"],
    ".graph.latency": ["Latency", "LatencyTable"],
    ".graph.quality": ["Quality"],
    ".graph.sampling": ["PathSampler"],
    ".pack.pack": ["BlockPack"],
    ".plan.plan": ["Plan", "compile_plan"],
    ".profiling.profile": ["Choice", "Profile"],
    ".profiling.profiling": ["profile"],
    ".profiling.settings": ["Budget", "Settings"],
    ".serving.controller": ["Controller"],
    ".serving.decision": ["Budgets", "Decision", "Point", "Signals", "points_of"],
    ".serving.model": ["Model", "Status"],
    ".training.polish": ["polish"],
    ".training.train": ["train"],
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name], __name__), name)
    globals()[name] = value
    return value
