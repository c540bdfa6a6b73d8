"""Fits one linear layer in closed form to what it should give.

The normal equations are accumulated in float64 over a bounded sample of the layer's output positions. The solution is
pulled towards the weights that are there: with W₀ those and W the new ones, it minimises

    Σ ‖W x + b - y‖² + λ ‖W - W₀‖²,    λ = 10 s trace(Σ x xᵀ) / rows,

(x centred where there is a bias to fit, which is itself not pulled). The trace over the rows is what as many rows of
average size as the layer has inputs would weigh: with far more rows than inputs the data decide, with far fewer the old
weights do, and a direction in which the inputs hardly vary keeps its weights in either case. s is the share of y's
variance that stays unexplained, as the fit with 10 s = 1 leaves it: the ratio of noise to signal by which a ridge
is best scaled (Hoerl, Kennard and Baldwin, 1975). What can be reached is thereby reached, and not pulled back. The 10
is because neighbouring positions of one image say much the same, so that about so many rows count as one: measured on
16 and on 128 images of CIFAR-10, where a smaller factor is worse for the 16 and a larger one better for neither.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from .endings import LinearLayer

MOST_INPUTS = 4608  # 512 channels under a 3x3 kernel; the normal equations of such a layer take 170 MB
MOST_ROWS = 16384
ROWS_ALIKE = 10
_SIDE = 128  # columns of x whose products are taken at once


@dataclass
class NormalEquations:
    """The sums that a linear layer's least-squares fit needs: over rows of inputs x and of wanted outputs y."""

    layer: LinearLayer
    count: int = 0
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))
    _upper: torch.Tensor = field(init=False)  # of the squares, of which the other half is the same
    products: torch.Tensor = field(init=False)
    sum_x: torch.Tensor = field(init=False)
    sum_y: torch.Tensor = field(init=False)
    squares_y: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        outputs, inputs = self.layer.weight.flatten(1).shape
        zeros = partial(torch.zeros, dtype=torch.float64, device=self.layer.weight.device)
        self._upper = zeros(inputs, inputs)
        self.products = zeros(inputs, outputs)
        self.sum_x = zeros(inputs)
        self.sum_y = zeros(outputs)
        self.squares_y = zeros(outputs)

    def add(self, fed: torch.Tensor, wanted: torch.Tensor, rows: int) -> None:
        """Adds one batch: what the layer reads, and what it should give, in the layer's own shapes.

        Where it has more than `rows` output positions, so many of them are drawn, always the same ones.
        """
        if not isinstance(self.layer, nn.Linear):
            wanted = wanted.movedim(1, -1)
        y = wanted.flatten(0, -2)
        index = drawn(len(y), rows, self.generator).to(y.device)
        x = rows_of(self.layer, fed, index, wanted.shape[:-1]).double()
        y = y[index].double()
        self.count += len(index)
        for at in range(0, x.shape[1], _SIDE):
            self._upper[at : at + _SIDE, at:].addmm_(x[:, at : at + _SIDE].T, x[:, at:])
        self.products.addmm_(x.T, y)
        self.sum_x += x.sum(0)
        self.sum_y += y.sum(0)
        self.squares_y += y.square().sum(0)

    @property
    def squares(self) -> torch.Tensor:
        """The sum of x xᵀ, of shape (inputs, inputs)."""
        return self._upper.triu() + self._upper.triu(1).T

    def solve(self, with_bias: bool) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The weights of shape (outputs, inputs) and the bias, float64; None where the equations have no solution.

        Without `with_bias` the bias that comes back is the mean error, for nobody to add.
        """
        present = self.layer.weight.detach().flatten(1).double()
        squares, products, squares_y = self.squares, self.products, self.squares_y
        mean_x, mean_y = self.sum_x / self.count, self.sum_y / self.count
        if with_bias:
            squares = squares - self.count * torch.outer(mean_x, mean_x)
            products = products - self.count * torch.outer(mean_x, mean_y)
            squares_y = squares_y - self.count * mean_y.square()
        missing = products - squares @ present.T

        def pulled(pull: float) -> torch.Tensor | None:
            ridged = squares.clone()
            ridged.diagonal().add_((pull * squares.trace() / self.count).clamp_min(1e-30))
            factor, failed = torch.linalg.cholesky_ex(ridged)
            return None if failed else present + torch.cholesky_solve(missing, factor).T

        weight = pulled(1.0)
        if weight is not None:
            left = squares_y - 2 * (weight * products.T).sum(1) + (weight @ squares * weight).sum(1)
            weight = pulled(ROWS_ALIKE * float((left.sum() / squares_y.sum().clamp_min(1e-30)).clamp(1e-6, 1)))
        return None if weight is None else (weight, mean_y - weight @ mean_x)


def drawn(count: int, rows: int, generator: torch.Generator) -> torch.Tensor:
    """The numbers of `rows` of so many rows, drawn without repetition; of all where they are no more, in order."""
    return torch.randperm(count, generator=generator)[:rows] if count > rows else torch.arange(count)


def rows_of(layer: LinearLayer, fed: torch.Tensor, index: torch.Tensor, places: torch.Size) -> torch.Tensor:
    """What the layer multiplies its weights with at the output positions `index`, of shape (positions, inputs).

    `places` is the shape of its output without the channels; `index` counts through it, last dimension first.
    """
    if isinstance(layer, nn.Linear):
        return fed.flatten(0, -2)[index]
    padded = _padded(layer, fed)
    if padded.dim() == 3:
        padded, places = padded.unsqueeze(2), torch.Size((places[0], 1, places[1]))
    kernel, stride, dilation = (
        (1,) * (2 - len(sides)) + tuple(sides) for sides in (layer.kernel_size, layer.stride, layer.dilation)
    )
    image, row, column = (
        index // (places[1] * places[2]),
        index // places[2] % places[1],
        index % places[2],
    )
    rows = (row * stride[0])[:, None] + torch.arange(kernel[0], device=fed.device) * dilation[0]
    columns = (column * stride[1])[:, None] + torch.arange(kernel[1], device=fed.device) * dilation[1]
    patches = padded[image[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return patches.permute(0, 3, 1, 2).flatten(1)


def _padded(layer: nn.Conv1d | nn.Conv2d, fed: torch.Tensor) -> torch.Tensor:
    sides: list[int] = []
    for index in reversed(range(len(layer.kernel_size))):
        if layer.padding == "same":
            total = layer.dilation[index] * (layer.kernel_size[index] - 1)
            sides += [total // 2, total - total // 2]
        elif layer.padding == "valid":
            sides += [0, 0]
        else:
            sides += [int(layer.padding[index])] * 2
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(fed, sides, mode) if any(sides) else fed
