"""A supernet: a network as blocks with alternatives, of which it runs any subnet. It is saved and loaded as data."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ..atomic import check_folder, new_folder, write_file
from ..data.inputs import Input, require_known
from ..data.preprocessing import Preprocessing
from ..documents import parse_json
from ..errors import ModelError, PackError, PreprocessingError
from ..graph.graph import Block, BlockGraph, Cut, Subnet
from ..pack.trained_on import TrainedOn
from . import recipe
from .defaults import ordinary_defaults
from .tracing.inputs import limited, row_of

FORMAT = "adaptivenet-supernet"
VERSION = 1
_FILES = {"supernet.json", "weights.safetensors"}


class Supernet(nn.Module):
    """A network whose blocks have alternatives: `supernet(x, subnet)` runs any path through `supernet.graph`.

    The original blocks are frozen and always in eval mode; only the alternatives train. `source` says what model it
    was made from, `preprocessing` how a picture becomes its input (None: unknown, or the input is no picture).
    `outputs` are the names and the shapes at batch size 1 of what the last cut holds: of one tensor, or of several,
    flattened and joined. `inputs` are those of a network that has several, which cut 0 holds in one row (empty: cut 0
    is the one input; see `row`). `classes` are the names of the classes (None: unknown, or there are none).
    `trained_on` remembers the pictures that it was trained on (None: unknown, or not trained). `left_out` names the
    alternatives that were not made, and why, when it was (`Patience`), and `notes` says what is odd about the network;
    neither is saved.
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
        self.inputs: tuple[Input, ...] = ()
        self.classes: tuple[str, ...] | None = None
        self.trained_on: TrainedOn | None = None
        self.left_out: dict[str, str] = {}
        self.notes: tuple[str, ...] = ()
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

    def row(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """A batch of the network's several inputs by name, each `(N, *shape[1:])`, as it is called with: `(N, width)`.

        Raises DataError when one is missing, unknown or does not fit.
        """
        require_known(inputs, self.inputs)
        return row_of(inputs, self.inputs)

    def take_inputs(self, inputs: Sequence[Input]) -> None:
        """Makes these the network's several inputs. Which numbers they may have is told from the original blocks."""
        reads = {name: self.graph.reads(self.graph[name]) for name in self.graph.oracle}
        self.inputs = limited(inputs, [(self.blocks[name], cuts.index(0)) for name, cuts in reads.items() if 0 in cuts])

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
            features = {cut: features[cut] for cut in (*self.graph.kept, block.end) if cut in features}

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

    def having(self, more: Mapping[Block, nn.Module]) -> Supernet:
        """A supernet of the same modules and `more`, by the blocks that they are. Raises GraphError for a name that is
        taken, or a block that does not fit the cuts."""
        graph = BlockGraph(self.graph.cuts, [*self.graph.blocks, *more], self.graph.taps)
        return self.with_blocks(
            graph, {**dict(self.blocks.items()), **{block.name: module for block, module in more.items()}}
        )

    def become(self, other: Supernet) -> None:
        """Takes the graph and the blocks of `other`, which was made of this one's."""
        self.graph, self.blocks = other.graph, other.blocks

    def with_blocks(self, graph: BlockGraph, blocks: Mapping[str, nn.Module]) -> Supernet:
        """A supernet of other blocks for the same network: the same input, outputs and classes."""
        other = Supernet(graph, blocks, self.source, self.preprocessing)
        other.outputs, other.inputs = self.outputs, self.inputs
        other.classes, other.trained_on = self.classes, self.trained_on
        other.left_out, other.notes = self.left_out, self.notes
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
            f"{name}/{key}": tensor
            for name, block in self.blocks.items()
            for key, tensor in recipe.tensors(block).items()
        }
        try:
            with new_folder(path) as folder:
                write_file(folder / "supernet.json", json.dumps(document, indent=1, allow_nan=False).encode())
                save_file(_apart(weights), folder / "weights.safetensors")
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ModelError(f"cannot write the supernet to {path}: {reason}") from error

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
            **({"inputs": [each.to_json() for each in self.inputs]} if self.inputs else {}),
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
            supernet.take_inputs([Input.from_json(each) for each in doc.get("inputs", ())])
            if supernet.inputs and cuts[0].shape != (1, sum(each.width for each in supernet.inputs)):
                raise ModelError(f"the supernet {path} is damaged: its inputs do not fit its first cut")
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


def _apart(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors, each whole and in memory of its own; what is so already is not copied."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in weights.items():
        memory = tensor.untyped_storage()
        alone = memory.data_ptr() not in seen and memory.nbytes() == tensor.nbytes and tensor.is_contiguous()
        seen.add(memory.data_ptr())
        apart[name] = tensor if alone else tensor.clone(memory_format=torch.contiguous_format)
    return apart


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
