"""Whole networks as blocks from the first cut to the last: the original as one program, and others beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from adaptivenet.toolkit.data.inputs import noise_rows
from adaptivenet.toolkit.elastic import Supernet, load_model
from adaptivenet.toolkit.elastic.making import counted
from adaptivenet.toolkit.elastic.models import unwrapped
from adaptivenet.toolkit.elastic.tracing.comparing import noises, undefined
from adaptivenet.toolkit.elastic.tracing.stretches import Stretch, subgraph
from adaptivenet.toolkit.elastic.tracing.trace import trace
from adaptivenet.toolkit.errors import AdaptiveNetError, ExportError
from adaptivenet.toolkit.graph.graph import Block, reads_together
from torch import fx, nn

WHOLE = "whole"


def noise_for(supernet: Supernet) -> torch.Tensor:
    """An input to run a network on where no better one is known, of the shape of its first cut: one that it has an
    answer for, if there is one."""
    if supernet.inputs:
        return torch.from_numpy(noise_rows(supernet.inputs))
    generator, zeros = torch.Generator().manual_seed(0), torch.zeros(supernet.graph.cuts[0].shape)
    tried = [noise for noise, _ in noises(zeros, generator)]
    with torch.no_grad():
        return next((noise for noise in tried if not undefined([supernet(noise)])), tried[0])


def with_networks(supernet: Supernet, also: Mapping[str, nn.Module | str] | None = None) -> Supernet:
    """The supernet, and in its graph the block `whole`, its oracle as one program, and a block for each of `also`.

    These are networks by name, modules or names as `load_model` takes them, with the same input and output. Raises
    ExportError for one that differs there, or cannot be traced, or whose name is taken.
    """
    graph = supernet.graph
    originals = [graph[name] for name in graph.oracle]
    whole = Block(
        WHOLE,
        0,
        graph.end,
        "whole",
        supernet.source,
        params=sum(block.params for block in originals),
        macs=sum(block.macs for block in originals),
        loss=0.0,
    )
    networks: dict[Block, nn.Module] = {whole: one_program(supernet, graph.oracle)}
    networks.update(_other(supernet, name, model) for name, model in (also or {}).items())
    if taken := [block.name for block in networks if block.name in graph]:
        raise ExportError(f"the supernet has a block {taken[0]!r} already: give the network another name")
    return supernet.having(networks)


def one_program(supernet: Supernet, path: Sequence[str]) -> fx.GraphModule:
    """The blocks of a path as one module. It leads from one cut to a later one, and takes what such a block reads.

    The module is the same for a supernet that was saved and loaded: what its blocks shared before has a name for each.
    Raises ExportError for a block that cannot be traced.
    """
    graph = supernet.graph
    blocks = [graph[name] for name in path]
    joined = Block("joined", blocks[0].start, blocks[-1].end, "joined", reads=reads_together(blocks))
    program, root = fx.Graph(), nn.Module()
    features = {cut: program.placeholder(f"cut{cut}") for cut in graph.reads(joined)}
    for at, block in enumerate(blocks):
        module = supernet.blocks[block.name]
        if not isinstance(module, fx.GraphModule):
            try:
                module = fx.symbolic_trace(module)
            except Exception as error:  # whatever the block raises when it is given what is no tensor
                first = next(iter(str(error).splitlines()), "")
                raise ExportError(
                    f"block {block.name!r} cannot be traced to be joined with others: {type(error).__name__}: {first}"
                ) from error
        root.add_module(str(at), module)
        nodes = dict(zip(_nodes(module, "placeholder"), (features[cut] for cut in graph.reads(block)), strict=True))
        for node in module.graph.nodes:
            if node.op in ("placeholder", "output"):
                continue
            nodes[node] = copy = program.node_copy(node, nodes.__getitem__)
            if node.op in ("call_module", "get_attr"):
                copy.target = f"{at}.{node.target}"
        (answer,) = _nodes(module, "output")
        (given,) = answer.all_input_nodes
        features[block.end] = nodes[given]
    program.output(features[blocks[-1].end])
    return fx.GraphModule(root, program, class_name="Block").eval()


def _nodes(module: fx.GraphModule, op: str) -> list[fx.Node]:
    return [node for node in module.graph.nodes if node.op == op]


def _other(supernet: Supernet, name: str, model: nn.Module | str) -> tuple[Block, fx.GraphModule]:
    """A network as a block. How far it is from the original is not known."""
    last = supernet.graph.cuts[-1]
    source = model if isinstance(model, str) else type(model).__qualname__
    example = noise_for(supernet)
    try:
        traced = trace(
            load_model(model) if isinstance(model, str) else unwrapped(model), example, None, supernet.inputs
        )
        start, *nodes, answer = traced.graph.nodes
        (end,) = answer.all_input_nodes
        module = subgraph(traced, Stretch(source, tuple(nodes), (start,), end, False))
        with torch.no_grad():
            output = module(example)
        block = counted(Block(name, 0, 1, "also", source), module, [example, output], (0,))
    except AdaptiveNetError as error:
        raise ExportError(f"the network {name}: {error}") from error
    if tuple(output.shape) != last.shape:
        raise ExportError(
            f"the network {name} gives {tuple(output.shape)} and the supernet {last.shape}: only networks with the "
            "same output can stand for each other"
        )
    return replace(block, end=supernet.graph.end), module
