"""`elastify`: a pretrained model becomes a supernet, and the supernet runs any subnet."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import fx, nn
from torch.utils.flop_counter import FlopCounterMode

from ..atomic import new_folder, write_file
from ..data import Preprocessing
from ..errors import ModelError, PackError
from ..graph import Block, BlockGraph, Cut, Subnet
from . import recipe
from .cuts import Stretch, discover, subgraph
from .models import load_model
from .options import merged, pruned
from .trace import trace

FORMAT = "adaptivenet-supernet"
VERSION = 1
_FILES = {"supernet.json", "weights.safetensors"}


class Supernet(nn.Module):
    """A network whose blocks have alternatives: `supernet(x, subnet)` runs any path through `supernet.graph`.

    The original blocks are frozen and always in eval mode; only the alternatives train. `source` says what model it
    was made from, `preprocessing` how a picture becomes its input (None: unknown, or the input is no picture).
    """

    def __init__(
        self,
        graph: BlockGraph,
        blocks: Mapping[str, nn.Module],
        source: str = "",
        preprocessing: Preprocessing | None = None,
    ) -> None:
        super().__init__()
        self.graph = graph
        self.source = source
        self.preprocessing = preprocessing
        self.blocks = nn.ModuleDict(blocks)
        for block in graph.blocks:
            if block.kind == "original":
                self.blocks[block.name].requires_grad_(False)
        self.eval()

    def forward(self, x: torch.Tensor, subnet: Sequence[str] | None = None) -> torch.Tensor:
        """The output of `subnet` (the oracle when None) for a batch `x` of inputs, any batch size.

        Raises GraphError when `subnet` is not a path through the graph.
        """
        output = x
        for _, feature in self.walk(x, subnet):
            output = feature
        return output

    def walk(self, x: torch.Tensor, subnet: Sequence[str] | None = None) -> Iterator[tuple[Block, torch.Tensor]]:
        """Runs `subnet` (the oracle when None) for a batch `x`, and gives each of its blocks with the block's output.

        Raises GraphError when `subnet` is not a path through the graph.
        """
        path = self.graph.oracle if subnet is None else subnet
        if not isinstance(path, Subnet) or path.graph is not self.graph:
            path = self.graph.subnet(path)
        features = {0: x}
        for name in path:
            block = self.graph[name]
            features[block.end] = self.blocks[name](*(features[cut] for cut in self.graph.reads(block)))
            yield block, features[block.end]
            features = {cut: features[cut] for cut in (*self.graph.taps, block.end) if cut in features}

    def features(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The original model's feature at every cut, the input first."""
        return [x, *(feature for _, feature in self.walk(x))]

    def train(self, mode: bool = True) -> Supernet:
        """Switches the alternatives; the original blocks stay in eval mode."""
        super().train(mode)
        for name in self.graph.oracle:
            self.blocks[name].eval()
        return self

    def alternatives(self) -> list[Block]:
        """The blocks that are not the original ones: those that train."""
        return [block for block in self.graph.blocks if block.kind != "original"]

    def save(self, path: str | Path) -> None:
        """Writes the folder `path`: `supernet.json` (the recipe) and `weights.safetensors`. Replaces what was there.

        Raises ModelError when a block cannot be stored as data, when `path` is there and no supernet, or when the disk
        does not take it.
        """
        path = Path(path)
        check_path(path)
        weights = {
            f"{name}/{key}": tensor.contiguous().clone()
            for name, block in self.blocks.items()
            for key, tensor in recipe.tensors(block).items()
        }
        doc = {
            "format": FORMAT,
            "version": VERSION,
            "source": self.source,
            "preprocessing": self.preprocessing.to_json() if self.preprocessing else None,
            "cuts": [{"shape": list(cut.shape), "dtype": cut.dtype} for cut in self.graph.cuts],
            "taps": list(self.graph.taps),
            "blocks": [
                {**vars(block), "program": recipe.to_json(self.blocks[block.name])} for block in self.graph.blocks
            ],
        }
        try:
            with new_folder(path) as folder:
                write_file(folder / "supernet.json", json.dumps(doc, indent=1, allow_nan=False).encode())
                write_file(folder / "weights.safetensors", save(weights))
        except OSError as error:
            raise ModelError(f"cannot write the supernet to {path}: {error.strerror or error}") from error

    @staticmethod
    def load(path: str | Path) -> Supernet:
        """Reads what `save` wrote. No code is run from the files and the original model is not needed.

        Raises ModelError when something is missing, damaged, of another version, or does not fit together.
        """
        path = Path(path)
        try:
            doc = json.loads((path / "supernet.json").read_bytes())
            if not isinstance(doc, dict) or doc.get("format") != FORMAT:
                raise ModelError(f"{path} is no supernet: its supernet.json does not say {FORMAT!r}")
            if doc.get("version") != VERSION:
                raise ModelError(f"{path} has version {doc.get('version')!r}; this toolkit reads version {VERSION}")
            weights = load_file(path / "weights.safetensors")
        except (FileNotFoundError, NotADirectoryError) as error:
            missing = next((name for name in sorted(_FILES) if not (path / name).exists()), "a file")
            raise ModelError(f"{path} is no supernet: {missing} is missing") from error
        except (ValueError, RecursionError, SafetensorError, OSError) as error:
            raise ModelError(f"the supernet {path} is damaged: {error}") from error
        values: dict[str, dict[str, torch.Tensor]] = {}
        for key, tensor in weights.items():
            name, _, rest = key.partition("/")
            values.setdefault(name, {})[rest] = tensor
        try:
            blocks, modules = [], {}
            for entry in doc["blocks"]:
                program = entry.pop("program")
                blocks.append(Block(**entry))
                name = blocks[-1].name
                modules[name] = recipe.from_json(program, values.get(name, {}), name)
            if unknown := set(values) - set(modules):
                raise ModelError(
                    f"the supernet {path} is damaged: it has weights for {sorted(unknown)}, but no such block"
                )
            cuts = [Cut(index, tuple(cut["shape"]), cut["dtype"]) for index, cut in enumerate(doc["cuts"])]
            preprocessing = None if doc["preprocessing"] is None else Preprocessing.from_json(doc["preprocessing"])
            supernet = Supernet(BlockGraph(cuts, blocks, doc["taps"]), modules, str(doc["source"]), preprocessing)
            with torch.no_grad():
                for block in supernet.graph.blocks:
                    _check_shapes(supernet, block)
            return supernet
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError, PackError) as error:
            raise ModelError(f"the supernet {path} is damaged: {type(error).__name__}: {error}") from error


def check_path(path: Path) -> None:
    """Raises ModelError when something is at `path` that `Supernet.save` would not replace."""
    if os.path.lexists(path) and not (path.is_dir() and {file.name for file in path.iterdir()} <= _FILES):
        raise ModelError(f"{path} is not a supernet and will not be overwritten; choose another name")


def elastify(
    model: nn.Module | str,
    example: torch.Tensor,
    *,
    merge: Sequence[int] = (2, 3),
    prune: Sequence[float] = (0.25, 0.5),
    preprocessing: Preprocessing | None = None,
) -> Supernet:
    """Makes a pretrained model elastic.

    `model` is a module or a name (`timm:NAME`, `torchvision:NAME`, `package.module:function`); `example` is one
    input, batch first, for instance of shape (1, 3, 224, 224). Every block gets merged alternatives that replace
    `merge` blocks and pruned ones that lose the shares `prune` of their inner channels, wherever its shapes allow
    them. `preprocessing` says how a picture becomes an input; it travels with the supernet and its packs. The model
    itself is not changed. Raises ModelError when the model cannot be traced or cut, saying where and why.
    """
    if any(length < 2 for length in merge):
        raise ModelError(f"merge is {tuple(merge)}: a merged block replaces at least 2")
    if any(not 0 < ratio < 1 for ratio in prune) or len({_percent(ratio) for ratio in prune}) < len(prune):
        raise ModelError(f"prune is {tuple(prune)}: shares between 0 and 1 that differ by a hundredth are needed")
    source = model if isinstance(model, str) else type(model).__qualname__
    module = load_model(model) if isinstance(model, str) else model
    if not isinstance(example, torch.Tensor) or example.dim() < 2 or example.dtype != torch.float32:
        raise ModelError("the example must be a float32 tensor, batch first, for instance of shape (1, 3, 224, 224)")
    traced = trace(module, example)
    stretches = discover(traced)
    cuts = _cuts(stretches)
    blocks: dict[Block, fx.GraphModule] = {}
    originals = [subgraph(traced, stretch) for stretch in stretches]
    names = [f"b{index:02d}" for index in range(len(stretches))]
    for index, (stretch, original) in enumerate(zip(stretches, originals)):
        blocks[Block(names[index], index, index + 1, "original", stretch.source)] = original
    for start, end in _spans(stretches, merge):
        shapes = [cut.shape for cut in cuts[start : end + 1]]
        module_ = merged(originals[start:end], shapes)
        if module_ is not None:
            source_ = f"{stretches[start].source}…{stretches[end - 1].source}"
            blocks[Block(f"{names[start]}-m{end - start}", start, end, "merged", source_)] = module_
    for index, (stretch, original) in enumerate(zip(stretches, originals)):
        sizes = set()
        # Channels go in eights, so that a narrow block may lose as many for two ratios: then the larger is the truer.
        for ratio in sorted(prune, reverse=True) if stretch.elastic else ():
            thinner = pruned(original, cuts[index].shape, ratio)
            if thinner is not None and (size := sum(tensor.numel() for tensor in thinner.parameters())) not in sizes:
                sizes.add(size)
                name = f"{names[index]}-p{_percent(ratio):02d}"
                blocks[Block(name, index, index + 1, "pruned", stretch.source, ratio)] = thinner
    counted = [_counted(block, module, cuts[block.start].shape) for block, module in blocks.items()]
    graph = BlockGraph(cuts, counted)
    return Supernet(graph, {block.name: module for block, module in blocks.items()}, source, preprocessing)


def _percent(ratio: float) -> int:
    return round(ratio * 100)


def _cuts(stretches: Sequence[Stretch]) -> list[Cut]:
    nodes = [stretches[0].start, *(stretch.end for stretch in stretches)]
    return [
        Cut(index, (1, *node.meta["seen"][0][1:]), node.meta["dtype"] or "float32") for index, node in enumerate(nodes)
    ]


def _spans(stretches: Sequence[Stretch], lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The runs of neighbouring elastic blocks of each length."""
    for length in lengths:
        for start in range(len(stretches) - length + 1):
            if all(stretch.elastic for stretch in stretches[start : start + length]):
                yield start, start + length


def _counted(block: Block, module: nn.Module, shape: tuple[int, ...]) -> Block:
    """The block with its parameters and multiply-accumulates counted."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.zeros(shape))
    params = sum(tensor.numel() for tensor in module.parameters())
    return replace(block, params=params, macs=counter.get_total_flops() // 2)


def _check_shapes(supernet: Supernet, block: Block) -> None:
    """Makes sure that a block leads from its start cut to its end cut. Raises ModelError."""
    start, end = supernet.graph.cuts[block.start], supernet.graph.cuts[block.end]
    try:
        shape: Any = tuple(supernet.blocks[block.name](torch.zeros(start.shape)).shape)
    except Exception as error:
        raise ModelError(f"block {block.name!r} does not run: {(str(error) or repr(error)).splitlines()[0]}") from error
    if shape != end.shape:
        raise ModelError(f"block {block.name!r} gives shape {shape} where cut {block.end} has {end.shape}")
