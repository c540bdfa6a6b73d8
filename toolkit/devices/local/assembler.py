"""What runs of the blocks of a pack: which programs a subnet consists of, how each is loaded, and their chain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...graph.graph import Block, Cut
from ...pack.pack import Artifact, BlockPack
from .interpreter import Chain, Engine, Link, Part, Program, TensorType, first_readers

Programs = Mapping[tuple[str, ...], Program]
"""Of pieces, by the names of their blocks."""


@dataclass(frozen=True)
class Piece:
    """What is loaded as one program: a block, or where the engine makes one program of several, a whole subnet.

    `bytes` are those of the artifacts.
    """

    blocks: tuple[str, ...]
    bytes: int


class Assembler:
    """Loads what an engine runs of a pack."""

    def __init__(self, pack: BlockPack, engine: Engine) -> None:
        self.pack, self.engine = pack, engine
        self._graph = pack.graph

    def joins(self, blocks: Sequence[Block]) -> bool:
        """Whether consecutive blocks run as one program: where the engine can do that, several blocks, and one that is
        a whole network; another is only a block of one."""
        whole = blocks[0].start == 0 and blocks[-1].end == self._graph.end
        return self.engine.assemble is not None and (len(blocks) > 1 or whole)

    def pieces(self, names: Iterable[str]) -> tuple[Piece, ...]:
        """What must be loaded for consecutive blocks to run, in the order in which it does."""
        names = tuple(names)
        if self.joins([self._graph[name] for name in names]):
            return (Piece(names, self.bytes(names)),)
        return tuple(Piece((name,), self.bytes((name,))) for name in names)

    def artifact(self, name: str) -> Artifact:
        """That of a block."""
        return self.pack.artifact(name, self.engine.backend)

    def layout(self, name: str) -> str:
        """The one in which a block reads its input."""
        return self.artifact(name).layout

    def bytes(self, names: Iterable[str]) -> int:
        """Those of the artifacts of blocks."""
        return sum(self.artifact(name).bytes for name in names)

    def load(self, piece: Piece) -> Program:
        """The program of a piece. Raises DeviceError where it does not load, PackError where an artifact is damaged."""
        blocks = [self._graph[name] for name in piece.blocks]
        if self.engine.assemble is not None and self.joins(blocks):
            parts = [self._part(block) for block in blocks]
            return self.engine.assemble(parts, [_type(cut) for cut in self._graph.cuts])
        return self.block(piece.blocks[0])

    def block(self, name: str) -> Program:
        """The program of one block, which takes and gives features; raises what `load` raises."""
        block, artifact = self._graph[name], self.artifact(name)
        takes = [_type(self._graph.cuts[cut]) for cut in self._graph.reads(block)]
        gives = _type(self._graph.cuts[block.end])
        return self.engine.load(f"block {name!r}", self.pack.read(artifact), artifact.layout, takes, gives)

    def metric(self, name: str) -> Program:
        """The program of a metric; raises what `load` raises."""
        output = _type(self._graph.cuts[-1])
        label: TensorType = (self.pack.label, "int64")
        takes = [label if kind == "label" else output for kind in self.pack.metrics[name]]
        gives: TensorType = ((len(self.pack.sums[name]),), "float32")
        artifact = self.pack.metric_artifact(name, self.engine.backend)
        return self.engine.load(f"metric {name!r}", self.pack.read(artifact), artifact.layout, takes, gives)

    def chain(self, names: Iterable[str], programs: Programs) -> Chain:
        """Consecutive blocks, ready to run; `programs` has those of their pieces."""
        pieces = self.pieces(names)
        links = []
        for piece in pieces:
            blocks = [self._graph[name] for name in piece.blocks]
            # One block reads in the order of its artifact's inputs, several joined in that of their first readers.
            reads = self._graph.reads(blocks[0]) if len(blocks) == 1 else tuple(first_readers(self._graph, blocks))
            links.append(Link(programs[piece.blocks], reads, blocks[-1].end))
        return Chain(self._graph, links, self.engine, self.layout(pieces[0].blocks[0]))

    def load_chain(self, names: Iterable[str], known: Programs | None = None) -> Chain:
        """Consecutive blocks, loaded but for the pieces that `known` has, ready to run; raises what `load` raises."""
        names, known = tuple(names), known or {}
        return self.chain(
            names, {each.blocks: known.get(each.blocks) or self.load(each) for each in self.pieces(names)}
        )

    def _part(self, block: Block) -> Part:
        data = self.pack.read(self.artifact(block.name))
        return Part(f"block {block.name!r}", data, self._graph.reads(block), block.end)


def _type(cut: Cut) -> TensorType:
    return cut.shape, cut.dtype
