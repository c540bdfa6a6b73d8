"""Every error this toolkit raises on purpose, in one tree.

AdaptiveNetError
├── GraphError           a block graph or a subnet that is not one (also a ValueError)
├── ModelError           a model that cannot be loaded, traced, cut or made elastic
├── TrainingError        training that cannot go on: a NaN loss, a checkpoint that does not fit
│   └── WorkerLost       another process of a data-parallel run failed, was killed, or does not answer
├── ExportError          a block that does not export, or whose artifact differs from torch
├── PackError            a block pack that is damaged, edited, hostile or of another version
├── PreprocessingError   a recipe for pictures that makes no sense
├── DataError            images, labels or tensors of the wrong form
├── PlanError            a plan that cannot run, or needs more feature memory than allowed
├── BudgetError          a latency budget that no subnet meets
├── DeviceError          an address nobody answers at, or a device that failed
│   ├── EngineMissing    the engine that was asked for is not installed
│   ├── EnergyUnknown    a device that does not tell its energy, or not as it is now
│   ├── FeaturesLost     what a plan begins from is not kept on the device any more
│   ├── ConnectionLost   a phone that was reached no longer answers
│   ├── NotAuthorized    a phone whose owner has not allowed this computer
│   └── SeveralDevices   more than one device fits; carries the table of them
└── ProfileError         a profile that is damaged or belongs to another pack

A message names what failed, the value that made it fail, and what to do. The commands print it on one line and exit
with status 1, as they do with what the operating system refuses (OSError). Anything else is a defect and keeps its
traceback.
"""


class AdaptiveNetError(Exception):
    """The root of the tree: something the user can act on."""


class GraphError(AdaptiveNetError, ValueError):
    """A block graph or a subnet that is not one."""


class ModelError(AdaptiveNetError):
    """A model that cannot be loaded, traced, cut or made elastic."""


class TrainingError(AdaptiveNetError):
    """Training that cannot go on."""


class WorkerLost(TrainingError):
    """Another process of a data-parallel run failed, was killed, or does not answer."""


class ExportError(AdaptiveNetError):
    """A block that does not export, or whose artifact differs from torch beyond the tolerance."""


class PackError(AdaptiveNetError):
    """A block pack that is damaged, edited, hostile or of another version."""


class PreprocessingError(AdaptiveNetError):
    """A recipe for pictures that makes no sense: a field that is missing, or a value that it may not have."""


class DataError(AdaptiveNetError):
    """Images, labels or tensors of the wrong form."""


class PlanError(AdaptiveNetError):
    """An evaluation plan that cannot run, or needs more feature memory than is allowed."""


class BudgetError(AdaptiveNetError):
    """A latency budget that no subnet meets."""


class DeviceError(AdaptiveNetError):
    """An address nobody answers at, or a device that failed."""


class EngineMissing(DeviceError):
    """The engine that was asked for is not installed."""


class EnergyUnknown(DeviceError):
    """A device that does not tell how much energy it takes, or not as it is now: a battery that is charged."""


class FeaturesLost(DeviceError):
    """The features that a plan begins from are not kept on the device any more: compile one without them."""


class ConnectionLost(DeviceError):
    """A phone that was reached no longer answers. Trying again may help."""


class NotAuthorized(DeviceError):
    """A phone whose owner has not allowed this computer to use it over ADB."""


class SeveralDevices(DeviceError):
    """More than one device fits. `table` shows them, each with the flag to type, in lines of text."""

    def __init__(self, message: str, table: str) -> None:
        super().__init__(message)
        self.table = table


class ProfileError(AdaptiveNetError):
    """A profile that is damaged or belongs to another pack."""
