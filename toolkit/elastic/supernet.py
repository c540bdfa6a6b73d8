"""`elastify`: a pretrained model becomes a supernet, and the supernet runs any subnet."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..atomic import check_folder, new_folder, write_file
from ..data.preprocessing import Preprocessing
from ..documents import parse_json
from ..errors import ModelError, PackError, PreprocessingError
from ..graph.graph import Block, BlockGraph, Cut, Subnet
from ..pack.trained_on import TrainedOn
from . import recipe
from .defaults import ordinary_defaults
from .kinds import Kind, merge, prune, skip
from .models import load_model, unwrapped
from .tracing.stretches import Stretch, discover, subgraph, taps_of
from .tracing.trace import trace

FORMAT = "adaptivenet-supernet"
VERSION = 1
_FILES = {"supernet.json", "weights.safetensors"}


class Supernet(nn.Module):
    """A network whose blocks have alternatives: `supernet(x, subnet)` runs any path through `supernet.graph`.

    The original blocks are frozen and always in eval mode; only the alternatives train. `source` says what model it
    was made from, `preprocessing` how a picture becomes its input (None: unknown, or the input is no picture).
    `outputs` are the names and the shapes at batch size 1 of what the last cut holds: of one tensor, or of several,
    flattened and joined. `classes` are the names of the classes (None: unknown, or there are none). `trained_on`
    remembers the pictures that it was trained on (None: unknown, or not trained).
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
        self.outputs: tuple[tuple[str, tuple[int, ...]], ...] = (("", graph.cuts[-1].shape),)
        self.classes: tuple[str, ...] | None = None
        self.trained_on: TrainedOn | None = None
        self.blocks = nn.ModuleDict(blocks)
        for block in graph.blocks:
            if block.is_original:
                self.blocks[block.name].requires_grad_(False)
        self.eval()

    @property
    def scores(self) -> tuple[int, ...] | None:
        """The shape of the class scores that the network gives, `(1, classes, ...)`; None: it gives something else.

        One output with several numbers along dimension 1 is taken for class scores.
        """
        shape = self.graph.cuts[-1].shape
        return shape if len(self.outputs) == 1 and len(shape) >= 2 and shape[1] > 1 else None

    def forward(self, x: torch.Tensor, subnet: Sequence[str] | None = None) -> torch.Tensor:
        """The output of `subnet` (the oracle when None) for a batch `x` of inputs, any batch size.

        Raises GraphError when `subnet` is not a path through the graph.
        """
        output = x
        for _, feature in self.walk(x, subnet):
            output = feature
        return output

    def walk(
        self, x: torch.Tensor, subnet: Sequence[str] | None = None, known: Sequence[torch.Tensor] = ()
    ) -> Iterator[tuple[Block, torch.Tensor]]:
        """Runs `subnet` (the oracle when None) for a batch `x`, and gives each of its blocks with the block's output.

        With `known`, which `features(x)` gave, the original blocks before the first other one are not run again.
        Raises GraphError when `subnet` is not a path through the graph.
        """
        path = self.graph.oracle if subnet is None else subnet
        if not isinstance(path, Subnet) or path.graph is not self.graph:
            path = self.graph.subnet(path)
        features = {0: x}
        for name in path:
            block = self.graph[name]
            known = known if block.is_original else ()
            if known:
                features[block.end] = known[block.end]
            else:
                module = self.blocks[name]
                features[block.end] = module(*(readable(module, features[cut]) for cut in self.graph.reads(block)))
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
        return [block for block in self.graph.blocks if not block.is_original]

    def without(self, names: Collection[str]) -> Supernet:
        """A supernet of the same modules less the named alternatives; this one stays as it is."""
        graph = self.graph.without(names)
        return self.with_blocks(graph, {block.name: self.blocks[block.name] for block in graph.blocks})

    def become(self, other: Supernet) -> None:
        """Takes the graph and the blocks of `other`, which was made of this one's."""
        self.graph, self.blocks = other.graph, other.blocks

    def with_blocks(self, graph: BlockGraph, blocks: Mapping[str, nn.Module]) -> Supernet:
        """A supernet of other blocks for the same network: the same input, outputs and classes."""
        other = Supernet(graph, blocks, self.source, self.preprocessing)
        other.outputs, other.classes, other.trained_on = self.outputs, self.classes, self.trained_on
        return other

    def save(self, path: str | Path) -> None:
        """Writes the folder `path`: `supernet.json` (the recipe) and `weights.safetensors`. Replaces what was there.

        Raises ModelError when a block cannot be stored as data, when `path` is there and no supernet, or when the disk
        does not take it.
        """
        path = Path(path)
        check_path(path)
        document = self.document()
        weights = {
            f"{name}/{key}": tensor.contiguous().clone()
            for name, block in self.blocks.items()
            for key, tensor in recipe.tensors(block).items()
        }
        try:
            with new_folder(path) as folder:
                write_file(folder / "supernet.json", json.dumps(document, indent=1, allow_nan=False).encode())
                write_file(folder / "weights.safetensors", save(weights))
        except OSError as error:
            raise ModelError(f"cannot write the supernet to {path}: {error.strerror or error}") from error

    def document(self) -> dict[str, Any]:
        """What `save` writes as `supernet.json`: all but the weights.

        Raises ModelError when a block cannot be stored as data; training does not change whether it can.
        """
        return {
            "format": FORMAT,
            "version": VERSION,
            "source": self.source,
            "preprocessing": self.preprocessing.to_json() if self.preprocessing else None,
            "cuts": [{"shape": list(cut.shape), "dtype": cut.dtype} for cut in self.graph.cuts],
            **({} if self.classes is None else {"classes": list(self.classes)}),
            **({} if self.trained_on is None else {"trained_on": self.trained_on.to_text()}),
            "taps": list(self.graph.taps),
            "outputs": [{"name": name, "shape": list(shape)} for name, shape in self.outputs],
            "blocks": [
                {**vars(block), "program": recipe.to_json(self.blocks[block.name])} for block in self.graph.blocks
            ],
        }

    @staticmethod
    @ordinary_defaults()
    def load(path: str | Path) -> Supernet:
        """Reads what `save` wrote. No code is run from the files and the original model is not needed.

        Raises ModelError when something is missing, damaged, of another version, or does not fit together.
        """
        path = Path(path)
        try:
            doc = parse_json((path / "supernet.json").read_bytes(), 2**64)  # a slice may end at 2^63 - 1
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
            supernet.outputs = tuple((str(entry["name"]), tuple(entry["shape"])) for entry in doc["outputs"])
            if "classes" in doc:
                supernet.classes = checked_classes(doc["classes"], supernet.scores)
            if "trained_on" in doc:
                supernet.trained_on = TrainedOn.from_text(doc["trained_on"])
            with torch.no_grad(), _one_thread():
                for block in supernet.graph.blocks:
                    _check_shapes(supernet, block)
            return supernet
        except (
            LookupError,
            TypeError,
            ValueError,
            AttributeError,
            RecursionError,
            PackError,
            PreprocessingError,
        ) as error:
            raise ModelError(f"the supernet {path} is damaged: {type(error).__name__}: {error}") from error


def readable(module: nn.Module, feature: torch.Tensor) -> torch.Tensor:
    """The feature, such that the gradients of `module`'s weights can be taken.

    Torch 2.13 crashes on a CPU in the gradient of a group norm whose input is channels-last and needs none itself.
    """
    if torch.is_grad_enabled() and not feature.requires_grad and feature.dim() == 4:
        norms = [layer for layer in module.modules() if isinstance(layer, nn.GroupNorm) and layer.affine]
        if any(weight.requires_grad for norm in norms for weight in norm.parameters()):
            return feature.detach().requires_grad_()
    return feature


def checked_classes(classes: Sequence[str], scores: tuple[int, ...] | None) -> tuple[str, ...]:
    """The names of a network's classes. Raises ModelError when there is not one for each of its scores."""
    names = tuple(map(str, classes))
    if scores is None or len(names) != scores[1]:
        gives = "no class scores" if scores is None else f"{scores[1]} class scores"
        raise ModelError(f"{len(names)} class names are given and the network gives {gives}; name each of its classes")
    return names


def check_path(path: Path) -> None:
    """Raises ModelError when something is at `path` that `Supernet.save` would not replace, or it cannot be written."""
    if os.path.lexists(path) and not (path.is_dir() and {file.name for file in path.iterdir()} <= _FILES):
        raise ModelError(f"{path} is not a supernet and will not be overwritten; choose another name")
    try:
        check_folder(path)
    except OSError as error:
        raise ModelError(
            f"cannot write the supernet to {path}: {error.strerror or error}; choose another name"
        ) from error


DEFAULT_KINDS = (merge(2), merge(3), prune(0.25), prune(0.5), skip())


@ordinary_defaults()
def elastify(
    model: nn.Module | str,
    example: torch.Tensor,
    *,
    kinds: Sequence[Kind] = DEFAULT_KINDS,
    output: str | None = None,
    preprocessing: Preprocessing | None = None,
    classes: Sequence[str] | None = None,
) -> Supernet:
    """Makes a pretrained model elastic.

    `model` is a module or a name (`timm:NAME`, `torchvision:NAME`, `package.module:function`); `example` is one
    input, batch first, for instance of shape (1, 3, 224, 224). Every block gets an alternative of each of the `kinds`
    that its shapes allow. `output` names the tensor to keep where the model answers with several ("out"); without it
    all are kept, flattened and joined. `preprocessing` says how a picture becomes an input; it travels with the
    supernet and its packs, as do `classes`, the names of the classes. The model itself is not changed. Raises
    ModelError when the model cannot be traced or cut, saying where and why, when a kind makes a module that does not
    lead from its first cut to its last, or when there is not one name for each class.
    """
    tags = [(kind.tag or kind.name, kind.length) for kind in kinds]
    if len(set(tags)) < len(tags):
        raise ModelError(f"two kinds of alternatives have one tag: {', '.join(tag for tag, _ in tags)}")
    source = model if isinstance(model, str) else type(model).__qualname__
    module = load_model(model) if isinstance(model, str) else unwrapped(model)
    if not isinstance(example, torch.Tensor) or example.dim() < 2 or example.dtype != torch.float32:
        raise ModelError("the example must be a float32 tensor, batch first, for instance of shape (1, 3, 224, 224)")
    traced = trace(module, example, output)
    stretches = discover(traced)
    taps = taps_of(stretches)
    originals = [subgraph(traced, stretch) for stretch in stretches]
    names = [f"b{index:02d}" for index in range(len(stretches))]
    blocks = [Block(name, index, index + 1, "original", stretches[index].source) for index, name in enumerate(names)]
    plain = Supernet(BlockGraph(_cuts(stretches), blocks, taps), dict(zip(names, originals)), source, preprocessing)
    with torch.no_grad():
        features = plain.features(example[:1])
    modules: dict[Block, nn.Module] = dict(zip(blocks, originals))
    for start in range(len(stretches)):
        for kind in kinds:
            end = start + kind.length
            if end > len(stretches) or not all(stretch.elastic for stretch in stretches[start:end]):
                continue
            if any(start < tap < end for tap in taps):
                continue
            made = kind.make(originals[start:end], features[start : end + 1])
            if made is None or _is_there(modules, start, end, kind.name, made):
                continue
            block = Block(
                f"{names[start]}-{kind.tag or kind.name}",
                start,
                end,
                kind.name,
                _source(stretches[start:end]),
                kind.ratio,
            )
            modules[block] = made.eval()
    known = [counted(block, made, features, plain.graph.reads(block)) for block, made in modules.items()]
    graph = BlockGraph(plain.graph.cuts, known, taps)
    supernet = Supernet(graph, {block.name: made for block, made in modules.items()}, source, preprocessing)
    supernet.outputs = tuple(traced.meta["outputs"])
    supernet.classes = None if classes is None else checked_classes(classes, supernet.scores)
    return supernet


def _source(stretches: Sequence[Stretch]) -> str:
    return stretches[0].source if len(stretches) == 1 else f"{stretches[0].source}…{stretches[-1].source}"


def _is_there(modules: Mapping[Block, nn.Module], start: int, end: int, kind: str, made: nn.Module) -> bool:
    """Whether a kind has made a module of this size for this span before, as when two ratios round to one width."""
    size = _size(made)
    return any(
        (block.start, block.end, block.kind) == (start, end, kind) and _size(other) == size
        for block, other in modules.items()
    )


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
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            answer = module(*(features[cut] for cut in reads))
    except Exception as error:  # a kind of the user's own may fail in any way
        raise ModelError(f"block {block.name!r} of kind {block.kind!r} does not run: {error}") from error
    expected = features[block.end]
    if not isinstance(answer, torch.Tensor) or (answer.shape, answer.dtype) != (expected.shape, expected.dtype):
        shape = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        raise ModelError(
            f"block {block.name!r} of kind {block.kind!r} gives {shape}, and cut {block.end} is {tuple(expected.shape)}"
        )
    return replace(block, params=_size(module), macs=counter.get_total_flops() // 2)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Where other programs run, the threads of small operations wait for each other longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _check_shapes(supernet: Supernet, block: Block) -> None:
    """Makes sure that a block leads from the cuts that it reads to its end cut. Raises ModelError."""
    end = supernet.graph.cuts[block.end]
    given = [torch.zeros(supernet.graph.cuts[cut].shape) for cut in supernet.graph.reads(block)]
    try:
        shape: Any = tuple(supernet.blocks[block.name](*given).shape)
    except Exception as error:
        raise ModelError(f"block {block.name!r} does not run: {(str(error) or repr(error)).splitlines()[0]}") from error
    if shape != end.shape:
        raise ModelError(f"block {block.name!r} gives shape {shape} where cut {block.end} has {end.shape}")
