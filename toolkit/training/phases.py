"""What a training run does, as data: its phases, and the settings that hold for all of them.

Four kinds of phase. In all of them the original blocks, the head among them, are frozen, and so are the batch-norm
statistics of the alternatives, which `initialise` set before the first step.

- `local`: the original model (the teacher) runs once a batch, and every alternative learns to give the teacher's
  feature at its end cut from the teacher's feature at its start cut, all of them in the same pass. No labels.
- `branch`: sampled subnets run, and the feature behind each of their alternatives is pulled to the teacher's feature
  at that cut (the first phase of AdaptiveNet; Wen et al., MobiCom 2023). No labels.
- `subnets`: sampled subnets' outputs are pulled to the teacher's, and, with a weight, their features as in `branch`.
  No labels.
- `tune`: cross-entropy of sampled subnets with labels (AdaptiveNet's second phase).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..errors import TrainingError

KINDS = ("local", "branch", "subnets", "tune")
SAMPLING = ("front", "cost", "walk")
_MOST_LOADERS = 256
STEPS = ("copies", "channels", "factors", "statistics", "fit")  # of the initialisation, in order
PRECISIONS = ("auto", "float32", "bfloat16")
_RISING = 20  # steps in which a phase's learning rate rises


@dataclass(frozen=True)
class Phase:
    """`steps` batches of one kind of training. The learning rate rises to `learning_rate` over the first 20 of them, a
    fifth at most, and falls to 0 along a cosine.

    `subnets` is how many are sampled for a batch (not used by `local`). `features` is the weight of the features'
    error beside the outputs' in a `subnets` phase. Raises TrainingError for values that make no sense.
    """

    kind: str
    steps: int
    learning_rate: float
    subnets: int = 1
    features: float = 0.0

    def __post_init__(self) -> None:
        _check_choice("the kind of a phase", self.kind, KINDS)
        for name, least in (("steps", 0), ("learning_rate", 0), ("subnets", 1), ("features", 0)):
            _check_least(name, getattr(self, name), least)

    @property
    def needs_labels(self) -> bool:
        """Whether every image of a batch must have a label."""
        return self.kind == "tune" and self.steps > 0


@dataclass(frozen=True)
class Training:
    """All settings of a run.

    `batch_size` counts the images of a step on all workers together. `sampling` is how subnets are drawn: `cost`,
    evenly over the range of costs from `cheapest` (a share of the oracle's cost) to just below the oracle, so that
    cheap ones are trained as often as dear ones; or `walk`, where at every cut each block that starts there is equally
    likely, as AdaptiveNet does, which rarely yields a cheap one; or `front`, those of the range that local losses and
    costs say are best (see `SubnetDraws.near_front`). With `storage`, alternatives are left out: the dominated ones in
    any case, then others until all blocks have at most so many times the parameters of the original ones (see
    `thinning`), or as many as `storage_least`: a small network takes little to store anyway. `precision` is `float32`,
    or `bfloat16` for mixed precision: weights and losses stay float32; `auto` is the one in which a step is faster
    here, by timing it. `flip` mirrors every second image, `shift` moves each by up to so many pixels (He et al. 2015,
    section 4.2); both are functions of the seed and the step. `initialise` names the steps that are taken before the
    first gradient (see `initialise`); then, with `arriving`, alternatives are fitted to what arrives in so many subnets
    near the front (see `arriving`). With `averaging`, so many images at most are not trained on; they decide at the end
    of each phase how far the weights go (see `averaging`). `gradient_clip` is the largest norm of one block's gradient.
    `checkpoint_every` counts steps, `loaders` the threads that load images.

    With `max_minutes` a run's progress is the larger of its share of the steps and of the minutes, and that decides
    phase and learning rate: the schedule is always finished in time. Raises TrainingError for values that make no
    sense.
    """

    phases: tuple[Phase, ...]
    batch_size: int = 32
    seed: int = 0
    sampling: str = "cost"
    cheapest: float = 0.5
    storage: float | None = None
    storage_least: int = 0
    precision: str = "float32"
    flip: bool = False
    shift: int = 0
    initialise: tuple[str, ...] = STEPS
    arriving: int = 0
    averaging: int = 0
    gradient_clip: float | None = None
    calibration_batches: int = 8
    checkpoint_every: int = 50
    max_minutes: float | None = None
    loaders: int = 2

    def __post_init__(self) -> None:
        _check_choice("sampling", self.sampling, SAMPLING)
        _check_choice("precision", self.precision, PRECISIONS)
        for name in ("batch_size", "calibration_batches", "checkpoint_every", "loaders"):
            _check_least(name, getattr(self, name), 1)
        for name in ("seed", "cheapest", "shift", "arriving", "averaging", "storage_least"):
            _check_least(name, getattr(self, name), 0)
        for name in ("gradient_clip", "max_minutes", "storage"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise TrainingError(f"{name} is {value}; it must be above 0")
        if self.loaders > _MOST_LOADERS:
            raise TrainingError(
                f"loaders is {self.loaders}; more than {_MOST_LOADERS} threads only wait for each other"
            )

    @property
    def steps(self) -> int:
        """The batches of all phases together."""
        return sum(phase.steps for phase in self.phases)

    @property
    def needs_labels(self) -> bool:
        """Whether any phase needs labels."""
        return any(phase.needs_labels for phase in self.phases)

    def lasting(self, steps: int) -> Training:
        """The same training with `steps` batches, divided over the phases in their present proportions.

        Raises TrainingError when there is nothing to divide in proportion to.
        """
        _check_least("steps", steps, 0)
        if not self.steps:
            raise TrainingError(f"a training without steps cannot be stretched to {steps}: give its phases steps")
        phases, before = [], 0
        for phase in self.phases:
            first, last = (at * steps // self.steps for at in (before, before + phase.steps))
            phases.append(replace(phase, steps=last - first))
            before += phase.steps
        return replace(self, phases=tuple(phases))

    def number_at(self, position: float) -> int:
        """How many phases have ended `position` steps into the run."""
        ends = itertools.accumulate(phase.steps for phase in self.phases)
        return sum(end <= position for end in ends)

    def at(self, position: float) -> tuple[Phase, float]:
        """The phase `position` steps into the run, and its learning rate there.

        Raises IndexError at the end and beyond.
        """
        for phase in self.phases:
            if position < phase.steps:
                # Adam's first steps are as long for small gradients as for large ones: what was fitted would be lost.
                rising = (position + 1) / max(1, min(_RISING, phase.steps // 5))
                falling = 0.5 * (1 + math.cos(math.pi * position / phase.steps))
                return phase, phase.learning_rate * min(1.0, rising) * falling
            position -= phase.steps
        raise IndexError("the training is over")


_LITTLE = 4_000_000  # parameters: 16 MB in float32
_DECIDING = 64  # images, at most


def ours() -> Training:
    """Local distillation of all blocks, then distillation of subnets near the front. No labels.

    Alternatives that the front is hardly worse without are left out before.
    """
    local, subnets = uniform().phases
    return Training(
        (local, replace(subnets, learning_rate=1e-4)),
        sampling="front",
        storage=2.0,
        storage_least=_LITTLE,
        averaging=_DECIDING,
    )


def front() -> Training:
    """`ours` without local distillation: alternatives are fitted to what arrives near the front in its place."""
    return Training(
        (Phase("subnets", 300, 1e-4, subnets=2),),
        sampling="front",
        storage=2.0,
        storage_least=_LITTLE,
        arriving=4,
        averaging=_DECIDING,
    )


def uniform() -> Training:
    """Local distillation of all blocks, then distillation of subnets over the whole range of costs. No labels."""
    return Training((Phase("local", 200, 1e-3), Phase("subnets", 100, 2e-4, subnets=2)))


def paper() -> Training:
    """AdaptiveNet's two phases: branch distillation, then tuning with labels (Wen et al., MobiCom 2023).

    Both on subnets from a random walk, one a step. Unlike the authors' code, a feature's squared error is divided by
    the feature's variance, so that deep and shallow branches weigh the same, and batch-norm statistics are fixed, once
    recalibrated.
    """
    return Training((Phase("branch", 200, 1e-3), Phase("tune", 100, 2e-4)), sampling="walk", initialise=("statistics",))


def naive() -> Training:
    """Cross-entropy with labels on subnets from a random walk, from the first step: the baseline."""
    return Training((Phase("tune", 300, 1e-3),), sampling="walk", initialise=("statistics",))


def polishing() -> Training:
    """Distillation of given subnets, whose alternatives are trained already (see `polish`). No labels."""
    return Training((Phase("subnets", 300, 1e-4, subnets=2),), initialise=())


RECIPES: dict[str, Callable[[], Training]] = {
    "ours": ours,
    "uniform": uniform,
    "front": front,
    "paper": paper,
    "naive": naive,
}


def _check_choice(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise TrainingError(f"{what} is {value!r}; known are {', '.join(known)}")


def _check_least(name: str, value: float, least: float) -> None:
    if not (math.isfinite(value) and value >= least):
        raise TrainingError(f"{name} is {value}; it must be at least {least}")
