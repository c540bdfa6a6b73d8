"""How a block ends: its last linear layer, when all that follows is affine in that layer's output.

What follows is not matched against a list of operations. The block's graph is evaluated behind the layer, as a function
of the layer's output *y*, on random *y*: it must be affine, z = A y + r, and AᵀA must be one factor a channel. Then the
error ‖z - t‖² falls apart into one squared error for each element of *y*, and the *y* with which the block gives *t* is
Aᵀ(t - r) over that factor. This holds for a batch norm in eval mode, a layer scale, a residual that does not depend on
the layer, permutations and reshapes, and upsampling by repetition; not for an activation, a pooling, a gate or another
layer that mixes channels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..elastic.tracing.canonical import operation_name

LinearLayer = nn.Conv1d | nn.Conv2d | nn.Linear
_POINTWISE = {
    *("relu", "relu6", "leakyrelu", "elu", "selu", "celu", "gelu", "silu", "mish", "hardswish", "hardtanh", "softplus"),
    *("sigmoid", "hardsigmoid", "logsigmoid", "tanh", "softsign"),
}
_SEEDS = (0, 1)
_TOLERANCE = 1e-3  # of the largest value: rounding in float32 stays far below it, and an activation far above


@dataclass(frozen=True)
class Ending:
    """A layer of `block` and the affine rest of the block behind it.

    `end` is the node whose value is to come near the teacher's: the block's output, or the input of the activation that
    the block ends in. `power` is AᵀA: one factor for each of the layer's output channels, float32; 0 for a channel that
    does not reach the block's output. `norm` is the batch norm that reads the layer's output and that can take up a
    bias for it; None where there is none.
    """

    block: fx.GraphModule
    node: fx.Node
    layer: LinearLayer
    end: fx.Node
    power: torch.Tensor
    norm: _BatchNorm | None

    def wanted(self, inputs: Sequence[torch.Tensor], target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the layer reads when the block reads `inputs`, and what it should give for `end` to be `target`.

        Where a channel does not reach the block's output, that is 0: nothing depends on it.
        """
        fed, behind = _split(self.block, self.node, self.end, inputs)
        with torch.no_grad():
            zero = torch.zeros_like(self.layer(fed))
        _, pulled = _pulled_back(behind, zero, lambda rest: target - rest)
        power = _by_channel(self.power, self.layer, zero)
        return fed, torch.where(power > 0, pulled / power, 0.0)

    @property
    def has_bias(self) -> bool:
        """Whether a constant can be added to the layer's output: by its own bias, or by that of the norm behind it."""
        return self.layer.bias is not None or self.norm is not None

    def set(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        """Makes the layer give `weight` x + `bias`, of shapes (outputs, inputs) and (outputs,).

        Channels that do not reach the block's output stay as they are. Without `has_bias`, `bias` is not used.
        """
        layer, norm, live = self.layer, self.norm, self.power > 0
        with torch.no_grad():
            layer.weight[live] = weight.view(layer.weight.shape).to(layer.weight.dtype)[live]
            if layer.bias is not None:
                layer.bias[live] = bias.to(layer.bias.dtype)[live]
            elif norm is not None and norm.running_var is not None:
                shift = bias * norm.weight / (norm.running_var.double() + norm.eps).sqrt()
                norm.bias[live] += shift.to(norm.bias.dtype)[live]


def find_ending(block: nn.Module, inputs: Sequence[torch.Tensor], fixed: Collection[int] = ()) -> Ending | None:
    """The last layer of `block` behind which everything is affine; None where there is none, or it is not understood.

    Layers are convolutions over one or two dimensions without groups, and linear layers, that are called once and can
    be trained. `inputs` is a small batch for each of the block's inputs, on which the claim is tried; `fixed` are the
    ids of tensors that must not change, because an original block holds them too. A block that is no `fx.GraphModule`
    has no ending.
    """
    if not isinstance(block, fx.GraphModule):
        return None
    end, _ = last_activation(block)
    needed = _needed(end)
    for node in reversed(list(block.graph.nodes)):
        layer = layer_at(block, node, fixed)
        if layer is None or node not in needed:
            continue
        fed, behind = _split(block, node, end, inputs)
        power = _power(layer, fed, behind)
        if power is not None:
            return Ending(block, node, layer, end, power, norm_behind(block, node, fixed))
    return None


def last_activation(block: fx.GraphModule) -> tuple[fx.Node, Any]:
    """The node before the pointwise non-linearity that `block` ends in, and that operation with its settings.

    Where it ends in none: the node of its output, and None. Two blocks end alike where the second values are equal.
    """
    node: fx.Node = block.graph.output_node().args[0]  # type: ignore[assignment]
    while _module(block, node, (nn.Identity, nn.modules.dropout._DropoutNd)) is not None:
        node = node.args[0]  # type: ignore[assignment]
    module = _module(block, node, (nn.Module,))
    target = type(module) if module is not None else node.target
    name = operation_name(target).lower().replace("_", "")
    if name not in _POINTWISE or len(node.all_input_nodes) != 1 or node.args[:1] != tuple(node.all_input_nodes):
        return node, None
    if module is None:
        settings = [*enumerate(node.args[1:]), *node.kwargs.items()]
    else:
        settings = [(key, value) for key, value in vars(module).items() if key[0] != "_" and key != "training"]
    return node.all_input_nodes[0], (name, sorted((str(key), value) for key, value in settings if key != "inplace"))


def value_at(block: fx.GraphModule, node: fx.Node, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
    """What `node` is when `block` reads `inputs`."""
    needed = _needed(node)
    values = _fed(block, inputs)
    value: torch.Tensor = _run(block, [other for other in block.graph.nodes if other in needed], values)[node]
    return value


def _split(
    block: fx.GraphModule, node: fx.Node, end: fx.Node, inputs: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
    """The input of `node` for these inputs, and the value of `end` as a function of the output of `node`."""
    needed, depends = _needed(end), {node}
    for other in block.graph.nodes:
        if not depends.isdisjoint(other.all_input_nodes):
            depends.add(other)
    before = [other for other in block.graph.nodes if other in needed and other not in depends]
    behind = [other for other in block.graph.nodes if other in needed and other in depends and other is not node]
    with torch.no_grad():
        values = _run(block, before, _fed(block, inputs))
    fed: torch.Tensor = values[node.all_input_nodes[0]]
    read = {used for other in behind for used in other.all_input_nodes}
    values = {other: value for other, value in values.items() if other in read}

    def rest(output: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = _run(block, behind, {**values, node: output})[end]
        return value

    return fed, rest


def _power(
    layer: LinearLayer, fed: torch.Tensor, behind: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor | None:
    """The factor of AᵀA for each channel; None where what lies behind the layer is not of that form."""
    try:
        with torch.no_grad():
            now = layer(fed)
            rest, full = behind(torch.zeros_like(now)), behind(now)
            first, second = (_noise(now, seed) for seed in _SEEDS)
            # Large enough that an activation of what was there already would show, and not lost in rounding beside it.
            size = 4 * float(now.abs().max().clamp_min(1e-6))
            reach = float((behind(size * first) - rest).abs().max())
            if reach == 0:
                return None
            size *= max(1.0, 4 * float(torch.maximum(rest.abs(), full.abs()).max()) / reach)
            first, second = size * first, size * second
            one, two, both = behind(first), behind(second), behind(first + second)
            if not _close(one + two - rest, both, (both - rest).abs().max()):
                return None
            ones = behind(torch.full_like(now, size))
        _, squared = _pulled_back(behind, torch.zeros_like(now), lambda rest: (ones - rest) / size)
        _, pulled = _pulled_back(behind, torch.zeros_like(now), lambda rest: one - rest)
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError):
        return None  # an operation that does not take another tensor there, or has no derivative
    channel = squared.movedim(_channel_dim(layer, squared), -1).flatten(0, -2)
    power = channel.mean(0)
    largest = power.abs().max()
    if not _close(channel, power.expand_as(channel), largest) or not _close(pulled, squared * first, largest * size):
        return None
    return torch.where(power > 1e-8 * largest, power, 0.0)


def _pulled_back(
    behind: Callable[[torch.Tensor], torch.Tensor],
    output: torch.Tensor,
    wish: Callable[[torch.Tensor], torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """What lies behind the layer when it gives `output`, and Aᵀ of the wish that this leaves."""
    with torch.enable_grad():
        output = output.detach().requires_grad_(True)
        value = behind(output)
        (pulled,) = torch.autograd.grad(value, output, wish(value.detach()))
    return value.detach(), pulled


def layer_at(block: fx.GraphModule, node: fx.Node, fixed: Collection[int] = ()) -> LinearLayer | None:
    """The layer that `node` calls, if it can be fitted there: nothing else of the block hangs on its weights."""
    layer = _module(block, node, (nn.Conv1d, nn.Conv2d, nn.Linear))
    if layer is None or len(node.all_input_nodes) != 1 or getattr(layer, "groups", 1) != 1:
        return None
    weight: torch.Tensor = layer.weight  # type: ignore[assignment]
    if not weight.requires_grad or id(weight) in fixed or not _called_once(block, node, layer):
        return None
    return layer  # type: ignore[return-value]


def norm_behind(block: fx.GraphModule, node: fx.Node, fixed: Collection[int] = ()) -> _BatchNorm | None:
    """The batch norm that alone reads what `node` gives, if its bias can be trained."""
    users = list(node.users)
    norm = _module(block, users[0], (_BatchNorm,)) if len(users) == 1 else None
    if norm is None or norm.bias is None or norm.running_var is None or id(norm.bias) in fixed:
        return None
    return norm if _called_once(block, users[0], norm) else None  # type: ignore[return-value]


def _called_once(block: fx.GraphModule, node: fx.Node, module: nn.Module) -> bool:
    mine = {id(parameter) for parameter in module.parameters()}
    for other in block.graph.nodes:
        if other is not node and other.op == "call_module":
            if mine & {id(parameter) for parameter in block.get_submodule(str(other.target)).parameters()}:
                return False
        elif other.op == "get_attr" and id(_attribute(block, str(other.target))) in mine:
            return False
    return True


def _attribute(block: nn.Module, path: str) -> Any:
    owner, _, name = path.rpartition(".")
    return getattr(block.get_submodule(owner), name)


def _module(block: fx.GraphModule, node: fx.Node, kinds: tuple[type[nn.Module], ...]) -> nn.Module | None:
    module = block.get_submodule(str(node.target)) if node.op == "call_module" else None
    return module if isinstance(module, kinds) else None


def _needed(node: fx.Node) -> set[fx.Node]:
    """`node` and all that it is computed from."""
    found: set[fx.Node] = set()
    waiting = [node]
    while waiting:
        at = waiting.pop()
        if at not in found:
            found.add(at)
            waiting.extend(at.all_input_nodes)
    return found


def _fed(block: fx.GraphModule, inputs: Sequence[torch.Tensor]) -> dict[fx.Node, Any]:
    return dict(zip([node for node in block.graph.nodes if node.op == "placeholder"], inputs))


def _run(block: fx.GraphModule, nodes: Sequence[fx.Node], values: dict[fx.Node, Any]) -> dict[fx.Node, Any]:
    """Evaluates `nodes`, in order, and adds what they give to `values`."""
    interpreter = fx.Interpreter(block, garbage_collect_values=False)
    interpreter.env = values
    for node in nodes:
        if node not in values:
            values[node] = interpreter.run_node(node)
    return values


def _channel_dim(layer: LinearLayer, output: torch.Tensor) -> int:
    return output.dim() - 1 if isinstance(layer, nn.Linear) else 1


def _by_channel(values: torch.Tensor, layer: LinearLayer, output: torch.Tensor) -> torch.Tensor:
    shape = [1] * output.dim()
    shape[_channel_dim(layer, output)] = -1
    return values.view(shape)


def _noise(like: torch.Tensor, seed: int) -> torch.Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed)).to(like.device)


def _close(actual: torch.Tensor, expected: torch.Tensor, largest: torch.Tensor) -> bool:
    return bool((actual - expected).abs().max() <= _TOLERANCE * largest)
