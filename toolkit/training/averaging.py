"""How far the weights go from where a phase found them to where it took them.

A short training moves weights further than it has learned to: what a few batches ask for beyond what is true of all
pictures is noise, and it harms most the subnets that were close to the original network before. Weights between the two
are often better than either (Wortsman et al. 2022, WiSE-FT, arXiv 2109.01903). So some points on the way are tried when
a phase ends, and pictures that no step has seen decide, by subnets near the front. To stay where the phase began is one
of these points.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

import torch

from ..elastic.supernet import Supernet
from ..graph.graph import Subnet
from .batches import Part, TrainingData, set_apart
from .losses import output_loss
from .parallel import Workers

SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)  # of the way, in the order in which they win where they are as good
SUBNETS = 6  # near the front, by which it is decided
_FEWEST, _SHARE = 8, 0.1  # pictures that decide: so many at least, and so much of all at most
_LEAST = 0.002  # of a subnet's loss: with less, it is as good as the original


def divided(data: TrainingData, most: int, seed: int) -> tuple[TrainingData, TrainingData]:
    """The images to train on, and those that decide, drawn by the seed: a tenth of them, 8 to `most`. None decide where
    there are fewer than 16, and where `most` is 0."""
    count = min(most, max(_FEWEST, round(_SHARE * len(data)))) if len(data) >= 2 * _FEWEST else 0
    return set_apart(data, count, f"{seed}/averaging") if count else (data, Part(data, []))


class Averaging:
    """Of a run: where the weights were `before` its phase, one tensor for each of `parameters`, and how much of the way
    from there was `kept` in each phase that has ended.

    `subnets` and `batches` of images decide, and `variance` is that of the original network's output, as for
    `output_loss`. Without batches, all of the way is kept.
    """

    def __init__(
        self,
        supernet: Supernet,
        parameters: Sequence[torch.nn.Parameter],
        subnets: Sequence[Subnet],
        batches: Sequence[torch.Tensor],
        variance: torch.Tensor,
    ) -> None:
        self._supernet, self._parameters, self._subnets = supernet, parameters, subnets
        self._batches, self._variance = batches, variance
        self.before = self._weights() if batches else []
        self.kept: list[float] = []

    def end_phases(self, count: int, group: Workers, progress: Callable[[int, int], None]) -> None:
        """Ends phases until so many have ended: the weights are set to what is best on the way, and what comes next
        begins there. The first worker decides. `progress(batches done, batches in all)` is called while it does."""
        while self._batches and len(self.kept) < count:
            after = self._weights()
            share = SHARES[0]
            if not all(torch.equal(start, end) for start, end in zip(self.before, after, strict=True)):
                share = float(group.told(lambda end=after: repr(self._best(end, progress))))  # type: ignore[misc]
            self._go(share, after)
            self.before = self._weights()
            self.kept.append(share)

    def _best(self, after: Sequence[torch.Tensor], progress: Callable[[int, int], None]) -> float:
        """The share with the least geometric mean of the subnets' losses, those without finite ones last."""
        losses = {share: [0.0] * len(self._subnets) for share in SHARES}
        done, total = 0, len(self._batches) * len(SHARES)
        images = sum(len(batch) for batch in self._batches)
        with torch.no_grad():
            for batch in self._batches:
                features = self._supernet.features(batch)
                for share, sums in losses.items():
                    self._go(share, after)
                    for at, subnet in enumerate(self._subnets):
                        _, output = deque(self._supernet.walk(batch, subnet, features), maxlen=1).pop()
                        loss = output_loss(output, features[-1], self._variance, self._supernet.scores is not None)
                        sums[at] += len(batch) / images * float(loss)
                    done += 1
                    progress(done, total)
        return min(SHARES, key=lambda share: _mean_logarithm(losses[share]))

    def _go(self, share: float, after: Sequence[torch.Tensor]) -> None:
        with torch.no_grad():
            for parameter, start, end in zip(self._parameters, self.before, after, strict=True):
                # At either end the weights are exactly those; an interpolation rounds.
                parameter.copy_(end if share == 1 else start if share == 0 else torch.lerp(start, end, share))

    def _weights(self) -> list[torch.Tensor]:
        return [parameter.detach().clone() for parameter in self._parameters]


def _mean_logarithm(losses: Sequence[float]) -> float:
    """Infinite where one of them is not finite."""
    if not all(math.isfinite(loss) for loss in losses):
        return math.inf
    return math.fsum(math.log(max(loss, _LEAST)) for loss in losses) / len(losses)
