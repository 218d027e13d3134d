"""A graph in int8: what `twofold export onnx --precision int8` makes of one in float32, with onnxruntime's quantiser.

In: an ONNX file of `twofold.serving.export`, and pixels of training images. Out: the same graph with the backbone's maps as
uint8 and its weights as int8, each map with one scale and each output channel of a convolution with its own. The range
of a map is the least and the largest value that it takes on the images (docs/serving.md has what others came to).

Normalisation, the views, the head and the temperature stay in float32, as in bfloat16: they cost nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

METHOD = "minmax"
# An activation is no work of its own: where its map is quantised, the map's range cuts off what it would.
OPERATORS = ("Add", "Clip", "Conv", "MaxPool", "Relu")


def quantize(graph: Path, batches: Iterable[NDArray[np.uint8]], to: Path) -> None:
    """Write a graph in int8; the same graph and images give the same bytes.

    Args:
        graph: a file of `twofold.serving.export`, in float32; it stays as it is.
        batches: (n, S, S, 3) uint8, of which the ranges come; each one's maps are in memory at once.
        to: the file, without metadata (see `label`).
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    model = onnx.load(graph)
    # Batch norms are folded and shapes known already; without this mark it asks for that to be done, and logs.
    add_pre_process_metadata(model)
    quantize_static(
        model,
        to,
        _Reader(batches),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(OPERATORS),
        nodes_to_quantize=backbone_nodes(model.graph),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        # Of 8 bits, not 7: those would keep processors without VNNI from saturating, and cost 0.006 of ROC-AUC.
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
    )
    replace_metadata(to, {})


def replace_metadata(path: Path, about: Mapping[str, str]) -> None:
    """Put metadata in the place of what an ONNX file has."""
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, dict(about))
    onnx.save(model, path)


def backbone_nodes(graph: Any) -> list[str]:
    """The names of the nodes to quantise: from the first convolution on, and before the head's first layer."""
    nodes = list(graph.node)  # in the order in which they compute
    following: set[str] = set()
    for node in nodes:
        if node.op_type == "Conv" or following & set(node.input):
            following |= set(node.output)
    head = next(place for place, node in enumerate(nodes) if node.op_type == "Gemm")
    needed = set(nodes[head].input)
    for node in reversed(nodes[:head]):
        if needed & set(node.output):
            needed |= set(node.input)
    return [node.name for node in nodes if node.op_type in OPERATORS and following & needed & set(node.output)]


class _Reader:
    """Batches, as onnxruntime asks for them."""

    def __init__(self, batches: Iterable[NDArray[np.uint8]]) -> None:
        self._batches: Iterator[NDArray[np.uint8]] = iter(batches)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"pixels": batch}
