"""The network at lower resolutions, each as one program that takes and gives what the original does.

A convolutional network runs on a smaller picture as well. It is the same network with the same weights, takes less time
in proportion to the pixels, and loses accuracy slowly at first: no training is needed for one more way to be faster
(arXiv 1908.09791 has resolution among its elastic dimensions; arXiv 1906.06423 tells what a network loses on sizes that
it was not trained for). The picture is made smaller inside the program, so that whoever calls it sees no difference.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from adaptivenet.toolkit.elastic import Supernet
from adaptivenet.toolkit.elastic.making import counted
from adaptivenet.toolkit.errors import ExportError, ModelError
from adaptivenet.toolkit.graph.graph import Block, BlockGraph
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn.functional import avg_pool2d, interpolate

from .networks import WHOLE, noise_for

RESOLUTIONS = (0.86, 0.71, 0.57)
"""Shares of the sides of a picture: of 224 pixels 192, 160 and 128."""
_LEAST_PICTURE, _LEAST_MAP = 16, 2  # pixels that each side of the picture and of the network's smallest map keeps

Sides = tuple[int, int]


def sides_at(graph: BlockGraph, ratios: Sequence[float]) -> list[Sides]:
    """Height and width of the picture at each of the ratios, without those that are equal or leave too little.

    They are multiples of what the network reduces them by, so that all its maps become smaller alike. There are none
    where the input is no float32 picture, (1, channels, height, width). Raises ExportError for what is no share.
    """
    if wrong := [ratio for ratio in ratios if not 0 < ratio < 1]:
        raise ExportError(f"cannot export at {wrong[0]:g} of the resolution: a share between 0 and 1 is needed")
    first = graph.cuts[0]
    maps = [cut.shape[2:] for cut in graph.cuts if len(cut.shape) == 4 and min(cut.shape[2:]) > 1]
    if first.shape[2:] not in maps or first.dtype != "float32":
        return []
    full, least = first.shape[2:], tuple(map(min, zip(*maps)))
    steps = [max(1, round(side / smallest)) for side, smallest in zip(full, least)]
    found: dict[Sides, None] = {}
    for ratio in ratios:
        counts = [round(side * ratio / step) for side, step in zip(full, steps)]
        sides = (counts[0] * steps[0], counts[1] * steps[1])
        kept = min(sides) >= _LEAST_PICTURE and min(counts) >= _LEAST_MAP
        if kept and sides[0] < full[0] and sides[1] < full[1]:
            found[sides] = None
    return list(found)


def at_resolutions(
    supernet: Supernet, ratios: Sequence[float] | None, say: Callable[[str], None]
) -> dict[Block, fx.GraphModule]:
    """The block `whole` of the supernet at lower resolutions: blocks of kind `resized`, and their modules.

    Where the output is a map, what comes out at a lower resolution is made as large again. Without `ratios` these are
    the usual ones, and `say` is given a line where the network takes pictures and does not run on smaller ones. Raises
    ExportError where it does not and ratios are given.
    """
    graph, whole = supernet.graph, supernet.graph[WHOLE]
    program, last = cast(fx.GraphModule, supernet.blocks[WHOLE]), graph.cuts[-1]
    found = sides_at(graph, RESOLUTIONS if ratios is None else ratios)
    if not found:
        if ratios:
            raise ExportError(
                f"no programs at lower resolutions: of an input of shape {graph.cuts[0].shape} none of "
                f"{', '.join(f'{ratio:g}' for ratio in ratios)} leaves a picture that is smaller and large enough"
            )
        return {}
    features = [noise_for(supernet), torch.empty(last.shape)]
    ShapeProp(program).propagate(features[0])
    made: dict[Block, fx.GraphModule] = {}
    for sides in found:
        height, width = sides
        name = f"{WHOLE}-{height}" if height == width else f"{WHOLE}-{height}x{width}"
        block = Block(name, 0, 1, "resized", f"{whole.source} at {height}×{width}")
        try:
            module = _resized(program, features[0], sides, last.shape)
            made[replace(counted(block, module, features, (0,)), end=graph.end)] = module
        except ModelError as error:
            why = f"no programs at lower resolutions: {whole.source} does not run at {height}×{width}: {error}"
            if ratios is not None:
                raise ExportError(why) from error
            say(f"note: {why}")
            return {}
    return made


def _resized(program: fx.GraphModule, example: torch.Tensor, sides: Sides, output: tuple[int, ...]) -> fx.GraphModule:
    """The program, run on its input made smaller, with what comes out made as large as before.

    Its nodes know the shapes that they have on `example`. Where a model asks for the sides of a map, its trace has
    numbers: an average over a whole map, an enlargement to the sides of another one and a reshape are given those that
    hold now, of a reshape where only one way fits. Raises ModelError, naming what does not run.
    """
    graph, run = fx.Graph(), fx.Interpreter(program)
    copies: dict[fx.Node, fx.Node] = {}
    values: dict[fx.Node, Any] = {}
    now: dict[int, int] = {}  # what sides of maps, and their products, have become
    for node in program.graph.nodes:
        if node.op == "output":
            answer = copies[node.args[0]]
            continue
        if node.op == "placeholder":
            copy = graph.call_function(interpolate, (graph.placeholder(node.name), sides), _BILINEAR)
            values[copy] = interpolate(example, sides, **_BILINEAR)
        else:
            copy = graph.node_copy(node, copies.__getitem__)
            _write_anew(program, node, copy, values, now)
            try:
                args, kwargs = fx.node.map_arg((copy.args, copy.kwargs), values.__getitem__)
                with torch.no_grad():
                    values[copy] = getattr(run, copy.op)(copy.target, args, kwargs)
            except Exception as error:  # whatever an operation raises that takes no smaller map
                raise ModelError(f"{node.name} takes no map that is smaller: {error}") from error
        copies[node] = copy
        if isinstance(values[copy], torch.Tensor) and values[copy].dim() == 4:
            before, after = node.meta["tensor_meta"].shape[2:], values[copy].shape[2:]
            pairs = [*zip(before, after), (math.prod(before), math.prod(after))]
            now |= {was: side for was, side in pairs if was != side}
    if len(output) == 4 and min(output[2:]) > 1:
        answer = graph.call_function(interpolate, (answer, output[2:]), _BILINEAR)
    graph.output(answer)
    return fx.GraphModule(program, graph, class_name="Block").eval()


def _write_anew(
    program: fx.GraphModule, node: fx.Node, copy: fx.Node, values: Mapping[fx.Node, Any], now: Mapping[int, int]
) -> None:
    """Gives the copy of a node the sides that its maps have `now` in place of those that they had."""
    if _averages_all(program, node):
        copy.op, copy.target = "call_function", torch.mean
        copy.args, copy.kwargs = (copy.args[0], (2, 3), True), {}
    elif node.target is interpolate and node.kwargs.get("size") is not None:
        copy.update_kwarg("size", tuple(now.get(side, side) for side in node.meta["tensor_meta"].shape[2:]))
    elif node.target in ("reshape", torch.reshape):
        elements = values[copy.all_input_nodes[0]].numel()
        copy.args = (copy.args[0], *_shape_now(copy, node.meta["tensor_meta"].shape, elements, now))


def _shape_now(node: fx.Node, before: Sequence[int], elements: int, now: Mapping[int, int]) -> tuple[Any, ...]:
    """What a reshape is given for so many elements, which gave the shape `before`: its numbers, of which those that are
    sides of maps become what they are now in the only way that fits; or else its numbers as they are."""
    asked = node.args[1:]
    if len(asked) == 1 and isinstance(asked[0], (tuple, list)):
        asked = tuple(asked[0])
    sides = [{side, now.get(side, side)} if isinstance(each, int) else {side} for each, side in zip(asked, before)]
    fitting = [shape for shape in itertools.product(*sides) if math.prod(shape) == elements]
    if len(fitting) != 1:
        return asked
    return tuple(side if isinstance(each, int) and each != -1 else each for each, side in zip(asked, fitting[0]))


def _averages_all(program: fx.GraphModule, node: fx.Node) -> bool:
    """Whether it is an average over the whole map, whose sides it names."""
    if node.op == "call_module":
        layer = program.get_submodule(str(node.target))
        kernel: Any = layer.kernel_size if isinstance(layer, nn.AvgPool2d) else None
    elif node.target is avg_pool2d:
        kernel = node.kwargs.get("kernel_size") or node.args[1]
    else:
        return False
    given = node.all_input_nodes[0].meta["tensor_meta"].shape
    return kernel in (given[-1], tuple(given[2:])) and tuple(node.meta["tensor_meta"].shape[2:]) == (1, 1)


# Without averages over the pixels in between, after which networks know less: see docs/front.md.
_BILINEAR: dict[str, Any] = {"mode": "bilinear", "align_corners": False}
