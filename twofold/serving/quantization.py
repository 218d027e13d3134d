"""int8 quantization for `twofold export onnx --precision int8`, with onnxruntime.

Reads a float32 ONNX file of `twofold.serving.export` and pixels of training images; writes the same graph with uint8
activations (one scale per tensor) and int8 weights (one scale per output channel) in the backbone. The range of a
tensor is its minimum and maximum over the images (docs/guides/serving.md compares other methods).

Normalisation, views, head and calibration stay in float32, as in bfloat16: their cost is negligible.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

METHOD = "minmax"
# An activation function costs nothing of its own: the range of its quantized output clips the values as it would.
OPERATORS = ("Add", "Clip", "Conv", "MaxPool", "Relu")


def quantize(graph: Path, batches: Iterable[NDArray[np.uint8]], to: Path) -> None:
    """Write an int8 version of a graph; the same graph and images give the same bytes.

    Args:
        graph: a float32 file of `twofold.serving.export`.
        batches: (n, S, S, 3) uint8, for the ranges; the activations of one batch are in memory at once.
        to: the file, without metadata (see `replace_metadata`).
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    inputs = ({"pixels": batch} for batch in batches)
    model = onnx.load(graph)
    # Batch norms are folded and shapes are known; without this mark onnxruntime logs that they should be.
    add_pre_process_metadata(model)
    quantize_static(
        model,
        to,
        SimpleNamespace(get_next=lambda: next(inputs, None)),  # called until it returns None
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(OPERATORS),
        nodes_to_quantize=backbone_nodes(model.graph),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        # 8 bits, not 7: 7 bits would avoid saturation on processors without VNNI, and cost 0.006 of ROC-AUC.
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
    )
    replace_metadata(to, {})


def replace_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    """Replace all metadata of an ONNX file."""
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.save(model, path)


def backbone_nodes(graph: Any) -> list[str]:
    """Return the names of the nodes to quantize: from the first convolution up to the head's first layer."""
    nodes = list(graph.node)  # in the order of computation
    after_conv: set[str] = set()
    for node in nodes:
        if node.op_type == "Conv" or after_conv & set(node.input):
            after_conv |= set(node.output)
    head = next(index for index, node in enumerate(nodes) if node.op_type == "Gemm")
    before_head = set(nodes[head].input)
    for node in reversed(nodes[:head]):
        if before_head & set(node.output):
            before_head |= set(node.input)
    return [node.name for node in nodes if node.op_type in OPERATORS and after_conv & before_head & set(node.output)]
