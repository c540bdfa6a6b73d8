"""What the layers of `torch.nn` do to the axes of the tensors that they read, and to those of their own weights."""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from .axes import fix, fixed_axis, refold, size_of, unify
from .operations import Axes, Followed, convolution, padded, pooled, unify_if

NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
_POINTWISE_MODULES = (nn.modules.dropout._DropoutNd, nn.Identity)
_POOL_MODULES = (
    *(nn.modules.pooling._AvgPoolNd, nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd),
    *(nn.modules.pooling._AdaptiveMaxPoolNd, nn.Upsample),
)
_PAD_MODULES = (
    *(nn.modules.padding._ConstantPadNd, nn.modules.padding._ReflectionPadNd, nn.modules.padding._ReplicationPadNd),
)


def layer_axes(found: Followed, n: fx.Node, module: nn.Module, weights: dict[str, Axes], result: Any) -> Any:
    """The axes of what a layer gave; `weights` are those of its own tensors. None for a layer that is not known."""
    if len(found.operands(n)) != 1:
        return None
    path, x = str(n.target), found.of(n.args[0])
    if isinstance(module, nn.Linear):
        unify(x[-1], weights["weight"][1])
        unify_if(weights, "bias", weights["weight"][0])
        return [*x[:-1], weights["weight"][0]]
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        spatial = [fixed_axis(size) for size in result.shape[2:]]
        return convolution(found, path, x, weights, module.groups, spatial, transposed=False)
    if isinstance(module, nn.ConvTranspose2d):
        spatial = [fixed_axis(size) for size in result.shape[2:]]
        return convolution(found, path, x, weights, module.groups, spatial, transposed=True)
    if isinstance(module, NORMS):
        for name in weights:
            unify_if(weights, name, x[1])
        return x
    if isinstance(module, nn.GroupNorm):
        grouped = refold([x[1]], (module.num_groups, size_of(x[1]) // module.num_groups))
        for name in weights:
            unify_if(weights, name, x[1])
        found.groups[path] = grouped[0] if grouped else fixed_axis(module.num_groups)
        if not grouped:
            fix(x[1])
        return x
    if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        for axes in weights.values():
            for axis, other in zip(axes, x[-len(axes) :], strict=True):
                unify(axis, other)
        if not weights:
            for axis in x[-len(module.normalized_shape) :]:
                fix(axis)
        return x
    if isinstance(module, nn.PReLU):
        if module.num_parameters > 1:
            unify(weights["weight"][0], x[1])
        return x
    if isinstance(module, _POINTWISE_MODULES) or type(module).__module__ == "torch.nn.modules.activation":
        return x if len(x) == result.dim() and not weights else None
    if isinstance(module, _POOL_MODULES):
        return pooled(x, result, type(module).__name__)
    if isinstance(module, _PAD_MODULES):
        return padded(x, result, module.padding)
    if isinstance(module, nn.Flatten):
        return refold(x, tuple(result.shape))
    return None
