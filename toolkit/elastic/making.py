"""`elastify`: a pretrained model becomes a supernet.

The model is traced and cut, and each of its blocks gets the alternatives that its shapes allow.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram

from ..data.inputs import Input
from ..data.preprocessing import Preprocessing
from ..errors import ModelError
from ..freed import give_freed_memory_back
from ..graph.graph import Block, BlockGraph, Cut, reads_together
from .counting import multiply_accumulates
from .defaults import ordinary_defaults
from .kinds import Kind, forget_blocks, merge, prune, skip
from .models import load_model, unwrapped
from .patience import OutOfPatience, Patience, bytes_needed, check_memory, within
from .supernet import Supernet, checked_classes
from .tracing.comparing import alike
from .tracing.granularity import Granularity, checked
from .tracing.inputs import check_names, inputs_of, row_of
from .tracing.stretches import Stretch, discover, reads_of, subgraph, taps_of
from .tracing.trace import trace

DEFAULT_KINDS = (merge(2), merge(3), prune(0.25), prune(0.5), skip())
DEFAULT_PATIENCE = Patience()


@ordinary_defaults()
def elastify(
    model: nn.Module | ExportedProgram | str,
    example: torch.Tensor | Mapping[str, torch.Tensor],
    *,
    kinds: Sequence[Kind] = DEFAULT_KINDS,
    output: str | None = None,
    preprocessing: Preprocessing | None = None,
    classes: Sequence[str] | None = None,
    patience: Patience = DEFAULT_PATIENCE,
    granularity: Granularity = "auto",
) -> Supernet:
    """Makes a pretrained model elastic.

    `model` is a module, a program of `torch.export` or a name (`timm:NAME`, `torchvision:NAME`,
    `package.module:function`); `example` is one input, batch first, for instance of shape (1, 3, 224, 224). For a
    network of several inputs, or of one that is no float32 tensor, it is a dict of them by the names that its `forward`
    gives them, batch first: the first one is what changes from block to block, and any block may read the others. The
    supernet then reads all of them from one row (`Supernet.inputs`, `Supernet.row`). Every block gets an alternative of
    each of the `kinds` that its shapes allow. `output` names the tensor to keep where the model answers with several
    ("out"); without it all are kept, flattened and joined. `preprocessing` says how a picture becomes an input; it
    travels with the supernet and its packs, as do `classes`, the names of the classes. An alternative for which the
    `patience` is not enough is left out, and named in `left_out` of the supernet. `granularity` is how much becomes one
    block: what repeats ("auto"), the smallest that does ("fine"), as many in a row as repeat in four places ("coarse"),
    or so many in a row. The model itself is not changed. Raises ModelError when the model cannot be traced or cut,
    saying where and why, when a kind makes a module that does not lead from its first cut to its last, when no block
    allows an alternative of any kind, when there is not one name for each class, when an original block takes longer
    than the patience, or when there is not enough memory; DataError when one of several inputs holds numbers that its
    row cannot.
    """
    tags = [(kind.tag or kind.name, kind.length) for kind in kinds]
    if len(set(tags)) < len(tags):
        raise ModelError(f"two kinds of alternatives have one tag: {', '.join(tag for tag, _ in tags)}")
    source = model if isinstance(model, str) else type(model).__qualname__
    module = load_model(model) if isinstance(model, str) else unwrapped(model)
    inputs, row = _row_of(example)
    check_names(module, inputs)
    traced = trace(module, row, output, inputs)
    give_freed_memory_back()
    written_anew, stretches = discover(traced, checked(granularity))
    plain = _plain(written_anew, stretches, source, preprocessing)
    features = _features(plain, row[:1], patience)
    with torch.no_grad():
        widths = [math.prod(shape[1:]) for _, shape in traced.meta["outputs"]]
        if not alike(features[-1], traced(row[:1].clone()), widths):
            raise ModelError(f"{source} cannot be divided: its blocks together compute something else than it does")
    modules: dict[Block, nn.Module] = {
        counted(block, plain.blocks[block.name], features, plain.graph.reads(block)): plain.blocks[block.name]
        for block in plain.graph.blocks
    }
    left_out = _add_alternatives(modules, plain, stretches, features, kinds, patience)
    if kinds and len(modules) == len(stretches):
        raise ModelError(_rigid(source, stretches, kinds, left_out))
    graph = BlockGraph(plain.graph.cuts, list(modules), plain.graph.taps)
    supernet = Supernet(graph, {block.name: made for block, made in modules.items()}, source, preprocessing)
    supernet.left_out = left_out
    if traced.meta["mixes"]:
        supernet.notes = (_mixing(source),)
    supernet.outputs = tuple(traced.meta["outputs"])
    supernet.take_inputs(inputs)
    supernet.classes = None if classes is None else checked_classes(classes, supernet.scores)
    return supernet


def _row_of(example: torch.Tensor | Mapping[str, torch.Tensor]) -> tuple[tuple[Input, ...], torch.Tensor]:
    """The network's several inputs, and the example as their row; of a network with one input, none and the example."""
    if isinstance(example, Mapping):
        inputs = inputs_of(example)
        return inputs, row_of(example, inputs, "the example")
    if not isinstance(example, torch.Tensor) or example.dim() < 2 or example.dtype != torch.float32:
        raise ModelError(
            "the example must be a float32 tensor, batch first, for instance of shape (1, 3, 224, 224), or a dict of "
            "the inputs by name"
        )
    return (), example


def _plain(
    traced: fx.GraphModule, stretches: list[Stretch], source: str, preprocessing: Preprocessing | None
) -> Supernet:
    """The original blocks alone."""
    blocks = [
        Block(f"b{index:02d}", index, index + 1, "original", stretch.source, reads=reads)
        for index, (stretch, reads) in enumerate(zip(stretches, reads_of(stretches), strict=True))
    ]
    modules = {block.name: subgraph(traced, stretch) for block, stretch in zip(blocks, stretches)}
    graph = BlockGraph(_cuts(stretches), blocks, taps_of(stretches))
    for block in blocks:
        for node, cut in zip(_given(modules[block.name]), graph.reads(block), strict=True):
            node.meta["cut"] = cut  # which stays on what copies of it are given
    return Supernet(graph, modules, source, preprocessing)


def _add_alternatives(
    modules: dict[Block, nn.Module],
    plain: Supernet,
    stretches: Sequence[Stretch],
    features: Sequence[torch.Tensor],
    kinds: Sequence[Kind],
    patience: Patience,
) -> dict[str, str]:
    """Adds what every span of blocks allows of every kind, and says what is left out, and why."""
    blocks = plain.graph.blocks
    left_out: dict[str, str] = {}
    for start, kind in itertools.product(range(len(stretches)), kinds):
        end = start + kind.length
        if end > len(stretches) or not all(stretch.elastic for stretch in stretches[start:end]):
            continue
        if any(start < kept < end for kept in plain.graph.kept):
            continue
        span: Any = [plain.blocks[block.name] for block in blocks[start:end]]
        name, place = f"{blocks[start].name}-{kind.tag or kind.name}", _source(stretches[start:end])
        needed = bytes_needed(span, kind.copies)
        if needed > patience.megabytes * 1e6:
            left_out[name] = f"{place}: it needs about {needed / 1e6:.3g} MB of memory"
            continue
        check_memory(f"the block {name} of {plain.source}", needed)
        try:
            with within(patience.seconds):
                made = kind.make(span, features[start : end + 1])
                if made is None or _is_there(modules, start, end, kind.name, made):
                    continue
                made.eval()
                block = Block(name, start, end, kind.name, place, kind.ratio)
                reads = _reads(made, blocks[start:end])
                if start in reads:
                    continue  # a copy of a later block would read its own start twice
                if reads and _taken(made) > len(plain.graph.reads(block)):
                    block = replace(block, reads=reads)
                modules[counted(block, made, features, plain.graph.reads(block))] = made
        except OutOfPatience:
            left_out[name] = f"{place}: it takes more than {patience.seconds:g} s"
    forget_blocks()
    return left_out


def _features(plain: Supernet, example: torch.Tensor, patience: Patience) -> list[torch.Tensor]:
    """The feature at every cut. Raises ModelError when a block takes too long."""
    features = [example]
    running = plain.walk(example)
    for name in plain.graph.oracle:
        try:
            with torch.no_grad(), within(patience.seconds):
                features.append(next(running)[1])
        except OutOfPatience:
            raise ModelError(
                f"the original block {name} ({plain.graph[name].source or 'its own operations'}) takes more than "
                f"{patience.seconds:g} s for one input: give --patience more seconds, or a smaller input"
            ) from None
    return features


def _rigid(source: str, stretches: Sequence[Stretch], kinds: Sequence[Kind], left_out: Mapping[str, str]) -> str:
    """Why a model of which no block got an alternative cannot be made elastic, in a line."""
    if left_out:
        name, why = next(iter(left_out.items()))
        return (
            f"no alternative of a block of {source} is within the limits of --patience: {len(left_out)} are left out, "
            f"the first of them {name} of {why}; give it more"
        )

    def shape(node: fx.Node) -> str:
        return "×".join(map(str, node.meta["seen"][0][1:]))

    looked = [stretch for stretch in stretches if stretch.elastic]
    some = ", ".join(f"{each.source or 'its own'} ({shape(each.start)} → {shape(each.end)})" for each in looked[:6])
    asked = ", ".join(f"{kind.name} {kind.tag}".strip() for kind in kinds)
    return (
        f"no block of {source} can be replaced: of {some}{', …' if len(looked) > 6 else ''} none allows {asked}. To "
        "merge takes neighbours of which one leads from the first shape to the last, to prune takes channels that only "
        "one block uses, to skip a block that keeps the shape"
    )


def _mixing(source: str) -> str:
    return (
        f"{source} answers differently to an input alone than beside others in a batch, as a norm without running "
        "statistics does; packs have one input at a time, while training and validation see batches"
    )


def _source(stretches: Sequence[Stretch]) -> str:
    return stretches[0].source if len(stretches) == 1 else f"{stretches[0].source}…{stretches[-1].source}"


def _is_there(modules: Mapping[Block, nn.Module], start: int, end: int, kind: str, made: nn.Module) -> bool:
    """Whether a kind has made a module of this size for this span before, as when two ratios round to one width."""
    size = _size(made)
    return any(
        (block.start, block.end, block.kind) == (start, end, kind) and _size(other) == size
        for block, other in modules.items()
    )


def _reads(made: nn.Module, span: Sequence[Block]) -> tuple[int, ...]:
    """The cuts that an alternative reads besides where it starts: those of the block that it is a copy of, or else of
    all that it replaces together."""
    together = reads_together(span)
    cuts = [node.meta.get("cut") for node in _given(made)[1:]] if isinstance(made, fx.GraphModule) else [None]
    return together if None in cuts else tuple(cut for cut in cuts if cut in (span[0].start, *together))


def _given(module: fx.GraphModule) -> list[fx.Node]:
    return [node for node in module.graph.nodes if node.op == "placeholder"]


def _taken(module: nn.Module) -> int:
    """How many tensors a module must be given."""
    parameters = inspect.signature(module.forward).parameters.values()
    return sum(each.default is each.empty for each in parameters)


def _size(module: nn.Module) -> int:
    return sum(tensor.numel() for tensor in module.parameters())


def _cuts(stretches: Sequence[Stretch]) -> list[Cut]:
    nodes = [stretches[0].start, *(stretch.end for stretch in stretches)]
    return [
        Cut(index, (1, *node.meta["seen"][0][1:]), node.meta["dtype"] or "float32") for index, node in enumerate(nodes)
    ]


def counted(block: Block, module: nn.Module, features: Sequence[torch.Tensor], reads: Sequence[int]) -> Block:
    """The block with its parameters and multiply-accumulates counted.

    Raises ModelError when it does not lead from its first cut to its last.
    """
    try:
        with torch.no_grad(), multiply_accumulates() as macs:
            answer = module(*(features[cut] for cut in reads))
    except Exception as error:  # a kind of the user's own may fail in any way
        raise ModelError(f"block {block.name!r} of kind {block.kind!r} does not run: {error}") from error
    expected = features[block.end]
    if not isinstance(answer, torch.Tensor) or (answer.shape, answer.dtype) != (expected.shape, expected.dtype):
        shape = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        raise ModelError(
            f"block {block.name!r} of kind {block.kind!r} gives {shape}, and cut {block.end} is {tuple(expected.shape)}"
        )
    return replace(block, params=_size(module), macs=macs())
