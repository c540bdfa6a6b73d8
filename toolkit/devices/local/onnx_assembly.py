"""Several ONNX programs joined to one model, byte by byte, without the ONNX library.

Protobuf joins repeated fields when messages are written one after another. So the graphs of blocks, whose names are
unique in their network and whose borders are called by their cuts (docs/pack.md), become one graph by joining their
nodes and weights: what one calls its output, another reads under the same name. The engine then sees the whole network,
and optimises and plans across what were borders. Only the outermost fields of a model are looked at here. The numbers
of fields are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, and the runner does the same in
android_runner/core/onnx_assembly.cpp.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ...errors import PackError
from .interpreter import Part

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # types of fields on the wire
_IR_VERSION, _GRAPH, _OPSET, _FUNCTION = 1, 7, 8, 25  # of a model
_DOMAIN, _VERSION = 1, 2  # of an opset
_NODE, _GRAPH_NAME, _INITIALIZER, _INPUT, _OUTPUT, _VALUE_INFO, _ANNOTATION, _SPARSE = 1, 2, 5, 11, 12, 13, 14, 15
_JOINED = {_NODE, _INITIALIZER, _VALUE_INFO, _ANNOTATION, _SPARSE}
_VALUE_NAME = 1
_LONGEST_VARINT = 10  # bytes


def border(cut: int) -> str:
    """What a program calls its value at a cut."""
    return f"cut{cut}"


def assemble(parts: Sequence[Part]) -> bytes:
    """The model of consecutive parts.

    It takes what no earlier part gives, in the order in which it is first read, and gives what the last part gives.
    Raises PackError, naming the part, for what is no such program, and for parts of different operator sets.
    """
    ir_version = 0
    opsets: dict[bytes, tuple[int, str]] = {}  # version, and the part that has it
    body: list[bytes | memoryview] = [_message(_GRAPH_NAME, b"assembled")]
    made: set[int] = set()
    for index, part in enumerate(parts):
        model = _model(part)
        ir_version = max(ir_version, model.ir_version)
        for domain, version in model.opsets.items():
            known, by = opsets.setdefault(domain, (version, part.what))
            if known != version:
                raise PackError(
                    f"{part.what} is made for operator set {version} and {by} for {known}, so they cannot run as one "
                    "model; export the pack again"
                )
        body += model.joined
        body += [_message(_INPUT, model.inputs[cut]) for cut in part.takes if cut not in made]
        body.append(_message(_VALUE_INFO if index < len(parts) - 1 else _OUTPUT, model.output))
        made |= {*part.takes, part.gives}
    header = [_tag(_IR_VERSION, _VARINT), _varint(ir_version)]
    for domain, (version, _) in sorted(opsets.items()):
        opset = (_message(_DOMAIN, domain) if domain else b"") + _tag(_VERSION, _VARINT) + _varint(version)
        header.append(_message(_OPSET, opset))
    header += [_tag(_GRAPH, _BYTES), _varint(sum(map(len, body)))]
    return b"".join([*header, *body])


@dataclass
class _Model:
    """What is needed of a model; `inputs` by cut, the fields to join with their tags."""

    ir_version: int = 0
    opsets: dict[bytes, int] = field(default_factory=dict)
    joined: list[memoryview] = field(default_factory=list)
    inputs: dict[int, memoryview] = field(default_factory=dict)
    output: memoryview = field(default_factory=lambda: memoryview(b""))


def _model(part: Part) -> _Model:
    """Raises PackError for what is no model of the part's inputs and output."""
    model, graphs = _Model(), []
    for each in _fields(part.what, memoryview(part.data)):
        if each.number == _IR_VERSION and each.wire == _VARINT:
            model.ir_version = each.value
        elif each.number == _OPSET and each.wire == _BYTES:
            domain, version = b"", 0
            for of_opset in _fields(part.what, each.content):
                if of_opset.number == _DOMAIN and of_opset.wire == _BYTES:
                    domain = bytes(of_opset.content)
                elif of_opset.number == _VERSION and of_opset.wire == _VARINT:
                    version = of_opset.value
            if model.opsets.setdefault(domain, version) != version:
                raise _refused(part.what, "it has two versions of an operator set")
        elif each.number == _GRAPH and each.wire == _BYTES:
            graphs.append(each.content)
        elif each.number == _FUNCTION:
            raise _refused(part.what, "it has functions of its own")
    if len(graphs) != 1:
        raise _refused(part.what, f"it has {len(graphs)} graphs")
    inputs: dict[bytes, memoryview] = {}
    outputs: dict[bytes, memoryview] = {}
    for each in _fields(part.what, graphs[0]):
        if each.wire != _BYTES:
            continue
        if each.number in _JOINED:
            model.joined.append(each.whole)
        elif each.number in (_INPUT, _OUTPUT):
            values = inputs if each.number == _INPUT else outputs
            name = _name(part.what, each.content)
            if name in values:
                raise _refused(part.what, "it has two inputs or outputs of one name")
            values[name] = each.content
    borders = {border(cut).encode(): cut for cut in part.takes}
    gives = border(part.gives).encode()
    if inputs.keys() != borders.keys() or outputs.keys() != {gives}:
        raise _refused(
            part.what, f"its inputs are not {', '.join(map(border, part.takes))} and its output {border(part.gives)}"
        )
    model.inputs = {cut: inputs[name] for name, cut in borders.items()}
    model.output = outputs[gives]
    return model


def _name(what: str, value: memoryview) -> bytes:
    """The name of a value in its description."""
    name = b""
    for each in _fields(what, value):
        if each.number == _VALUE_NAME and each.wire == _BYTES:
            name = bytes(each.content)
    return name


@dataclass(frozen=True)
class _Field:
    """A field of a message: `whole` with its tag, and its content, or its value when it is a number."""

    number: int
    wire: int
    whole: memoryview
    content: memoryview
    value: int = 0


def _fields(what: str, message: memoryview) -> Iterator[_Field]:
    """The outermost fields of a message. Raises PackError when it is none."""
    at = 0
    while at < len(message):
        begin = at
        tag, at = _read_varint(what, message, at)
        number, wire = tag >> 3, tag & 7
        value = 0
        if wire == _VARINT:
            value, end = _read_varint(what, message, at)
        elif wire == _BYTES:
            size, at = _read_varint(what, message, at)
            end = at + size
        elif wire in (_FIXED64, _FIXED32):
            end = at + (8 if wire == _FIXED64 else 4)
        else:
            raise _refused(what, f"it has a field of type {wire}")
        if not number or end > len(message):
            raise _refused(what, "a field has no number or no end")
        yield _Field(number, wire, message[begin:end], message[at:end], value)
        at = end


def _read_varint(what: str, message: memoryview, at: int) -> tuple[int, int]:
    """A number of up to 64 bits at a place in a message, and the place behind it."""
    value = 0
    for count in range(_LONGEST_VARINT):
        if at + count >= len(message):
            break
        byte = message[at + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value & (2**64 - 1), at + count + 1
    raise _refused(what, "a number has no end")


def _varint(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _tag(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _message(number: int, content: bytes | memoryview) -> bytes:
    return _tag(number, _BYTES) + _varint(len(content)) + bytes(content)


def _refused(what: str, why: str) -> PackError:
    return PackError(f"{what} is no ONNX program that can be joined with others: {why}; export the pack again")
