"""Float32 programs quantised to int8 after training, by the quantisers of ExecuTorch and of ONNX Runtime.

What a program takes and gives stays float32: it is quantised inside, so that it stands wherever its float32 block does.
At a cut all ONNX programs have one scale, from the original features there. Where two int8 blocks are joined, what the
first one undoes the second does again in exactly the same way, and ONNX Runtime leaves both out.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .onnx_part import Place, rename

if TYPE_CHECKING:
    import onnx

Inputs = tuple[torch.Tensor, ...]

_ONNX_LAYERS = {"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"}
LEAST_SNR_DB = 5.0
"""The least ratio of signal to noise that an int8 program may have: below it, a third of its output is noise."""


@dataclass(frozen=True)
class Calibration:
    """What int8 programs are made with: some inputs of the block, and the least and largest value that the original
    features have at cuts, by cut. `row` is which of the inputs is a network's row of several inputs, None: none is.
    What is computed from it before any weights stays as it is: a token's number has no scale."""

    inputs: Sequence[Inputs]
    ranges: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    row: int | None = None


def onnx_int8(model: onnx.ModelProto, calibration: Calibration, place: Place) -> onnx.ModelProto:
    """The model in QDQ form: weights per channel, activations by their extremes, borders by those of their cuts."""
    import onnx
    from onnxruntime.quantization import (  # type: ignore[import-untyped]
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    copied = onnx.ModelProto()
    copied.CopyFrom(model)  # the quantiser moves the weights of what it is given to a file
    model = _with_ends(copied)
    names = [value.name for value in model.graph.input]

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.inputs = iter(calibration.inputs)

        def get_next(self) -> dict[str, Any] | None:
            given = next(self.inputs, None)
            return None if given is None else {name: x.numpy() for name, x in zip(names, given, strict=True)}

    row = None if calibration.row is None else names[calibration.row]
    borders = [*zip(names, place.takes, strict=True), (model.graph.output[0].name, place.gives)]
    borders = [(name, cut) for name, cut in borders if name != row]
    ranges = {name: calibration.ranges[cut] for name, cut in borders if cut in calibration.ranges}
    overrides: dict[str, list[dict[str, Any]]] = {
        name: [{"rmin": np.float32(low), "rmax": np.float32(high)}] for name, (low, high) in ranges.items()
    }
    overrides |= {name: [{"symmetric": True}] for name in _of_one_scale(model)}
    needed = _is_needed(model, ranges)
    with tempfile.TemporaryDirectory(prefix="adaptivenet-int8-") as folder:
        path = Path(folder) / "int8.onnx"
        quantize_static(
            model,
            path,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[] if row is None else _before_weights(model, row),
            extra_options={"TensorQuantOverrides": overrides, "QDQKeepRemovableActivations": needed},
        )
        return onnx.load(path)


def _with_ends(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, changed: with a mark at the end of every name but those of its inputs and outputs.

    Of a bias that several layers share the quantiser makes one for each, and numbers them: `val_1` becomes `val_15`,
    which may be there.
    """
    borders = {value.name for value in (*model.graph.input, *model.graph.output)}
    rename(model.graph, lambda name: f"{name}_" if name and name not in borders else name)
    return model


def _of_one_scale(model: onnx.ModelProto) -> list[str]:
    """The weights whose channels cannot have scales of their own: those of transposed convolutions in groups.

    Channels are then shared among groups along the dimension that has the scales, and a bias has more of them.
    """
    return [
        node.input[1]
        for node in model.graph.node
        if node.op_type == "ConvTranspose" and any(each.name == "group" and each.i > 1 for each in node.attribute)
    ]


def _before_weights(model: onnx.ModelProto, row: str) -> list[str]:
    """The names of the nodes that follow from an input before any layer with weights."""
    tables = {each.name for each in model.graph.initializer if len(each.dims) > 1}
    constants = {each.name for each in model.graph.initializer}
    held, found = {row}, []
    for node in model.graph.node:
        read = {name for name in node.input if name} - constants
        layer = node.op_type in _ONNX_LAYERS or (node.op_type == "Gather" and node.input[0] in tables)
        if not node.input:
            constants.update(node.output)
        elif read <= held and not layer:
            held.update(node.output)
            found.append(node.name)
    return found


def _is_needed(model: onnx.ModelProto, ranges: Mapping[str, tuple[float, float]]) -> bool:
    """Whether the activation that the model ends with does more than its output's range.

    The quantiser leaves out a ReLU or a clip, because the range behind it ends where it does. That of a cut need not.
    """
    from onnx import numpy_helper

    output = model.graph.output[0].name
    last = next((node for node in model.graph.node if output in node.output), None)
    if last is None or last.op_type not in ("Relu", "Clip") or output not in ranges:
        return False
    low, high = ranges[output]
    if last.op_type == "Relu":
        return low < 0
    constants = {each.name: float(numpy_helper.to_array(each)) for each in model.graph.initializer if not each.dims}
    ends = [constants.get(name) for name in last.input[1:3]]
    return len(ends) < 2 or ends[0] is None or ends[1] is None or low < ends[0] or high > ends[1]


def executorch_int8(
    exported: torch.export.ExportedProgram, inputs: Inputs, calibration: Calibration
) -> torch.export.ExportedProgram:
    """A program as XNNPACK's quantiser prepares it: weights per channel, activations by their extremes.

    The inputs of the calibration are brought into the memory order of `inputs`.
    """
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e import MinMaxObserver  # type: ignore[import-untyped]
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e  # type: ignore[import-untyped]
    from torchao.quantization.pt2e.quantizer import QuantizationAnnotation  # type: ignore[import-untyped]

    aten = torch.ops.aten
    clamps = {aten.hardtanh.default, aten.hardtanh_.default, aten.clamp.default, aten.relu.default, aten.relu_.default}

    class Quantizer(XNNPACKQuantizer):  # type: ignore[misc]
        """ExecuTorch 1.5 knows ReLU as part of a convolution, and no other activation that XNNPACK clamps to.

        Before a ReLU6 it would spread its 256 steps over values that are cut off right afterwards: EfficientNet-Lite0
        then has 6 dB of signal to noise, and 19 dB when they are spread over what is left. The patterns for training
        match nothing here, and looking for them is half of the time that quantising takes.
        """

        SUPPORTED_PATTERNS = tuple(each for each in XNNPACKQuantizer.SUPPORTED_PATTERNS if not each.is_qat)

        def annotate(self, model: torch.fx.GraphModule) -> torch.fx.GraphModule:
            model = super().annotate(model)
            for node in model.graph.nodes:
                source = node.args[0] if node.target in clamps else None
                if not isinstance(source, torch.fx.Node) or len(source.users) > 1:
                    continue
                of_source = source.meta.get("quantization_annotation")
                if of_source is not None and of_source.output_qspec is not None:
                    node.meta["quantization_annotation"] = QuantizationAnnotation(
                        output_qspec=of_source.output_qspec, _annotated=True
                    )
                    of_source.output_qspec = None
            if calibration.row is not None:
                _leave_before_weights(model, calibration.row)
            return model

    usual = get_symmetric_quantization_config(is_per_channel=True)
    extremes = replace(usual.input_activation, observer_or_fake_quant_ctr=MinMaxObserver.with_args(eps=2**-12))
    config = replace(usual, input_activation=extremes, output_activation=extremes)
    prepared = prepare_pt2e(exported.module(), Quantizer().set_global(config))
    for given in calibration.inputs:
        prepared(*(x.contiguous(memory_format=_order(like)) for x, like in zip(given, inputs, strict=True)))
    return torch.export.export(convert_pt2e(prepared), inputs)


def _leave_before_weights(model: torch.fx.GraphModule, row: int) -> None:
    """Takes back what a quantiser noted on the nodes that follow from an input before any layer with weights."""
    aten = torch.ops.aten
    layers = {aten.linear, aten.addmm, aten.mm, aten.bmm, aten.matmul, aten.conv1d, aten.conv2d, aten.convolution}
    layers |= {aten.conv_transpose2d, aten.embedding}
    held = {[node for node in model.graph.nodes if node.op == "placeholder"][row]}
    constants = {node for node in model.graph.nodes if node.op == "get_attr"}
    for node in model.graph.nodes:
        if node.op != "call_function":
            continue
        read = set(node.all_input_nodes) - constants
        if not read:
            constants.add(node)
        elif read <= held and getattr(node.target, "overloadpacket", None) not in layers:
            held.add(node)
            node.meta.pop("quantization_annotation", None)


def _order(like: torch.Tensor) -> torch.memory_format:
    last = like.dim() == 4 and not like.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def snr_db(expected: Sequence[torch.Tensor], actual: Sequence[torch.Tensor]) -> float:
    """The ratio of signal to noise in decibels: of what is expected to what differs from it, over all tensors."""
    signal = sum(float(x.double().square().sum()) for x in expected)
    noise = sum(float((x.double() - y.double()).square().sum()) for x, y in zip(expected, actual, strict=True))
    return 10 * math.log10(max(signal, 1e-30) / max(noise, 1e-30))
