"""A lowered program as a standard ONNX model: built, checked, written whole or not at all."""

import tempfile
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper
from onnx.external_data_helper import convert_model_to_external_data

from .. import __version__
from ..errors import ConfigError, OutputError, UnsupportedError
from ..export.modelfile import with_labels
from ..export.program import ModelMeta, Program
from ..export.validate import check_meta, check_program
from ..files import write_bytes
from .graph import Graph
from .metadata import KEY, OnnxMeta, to_text
from .ops import Emitter

OPSET = 21
OPSETS = (13, 23)  # DequantizeLinear has per-channel scales from 13 on; later ones are not tried
INPUT, OUTPUT = "image", "logits"
PROTO_LIMIT = (1 << 31) - 1  # bytes of one protocol buffer; beyond it constants go to a file beside the model,
EXTERNAL_BYTES = 1024  # but for those smaller than this, which shape inference must see
AXES = ("depth", "height", "width")


def _sizes(program: Program, prefix: str, known: bool) -> list[str | int]:
    """Axes of space: their names, or numbers for the input of a program that takes one size only."""
    if known and program.fixed_size is not None:
        return list(program.fixed_size[3 - program.spatial_rank :])
    return [prefix + name for name in AXES[3 - program.spatial_rank :]]


def build(
    program: Program,
    meta: ModelMeta | None = None,
    opset: int = OPSET,
    data: dict[str, Any] | None = None,
    norm_nodes: bool = False,
) -> Any:
    """The ONNX model that computes what ``program`` does; equal arguments give equal bytes.

    Input ``image`` float32 (batch, C, [depth,] height, width), already normalised and extended as its metadata says;
    output ``logits`` float32 (batch, K, …). Between them QuantizeLinear and DequantizeLinear stand around every
    activation, DequantizeLinear behind the integer weights, and the epilogues are nodes of their own, in order.

    What an engine may compute differently from the program: sums of float32 in another order where they are not
    exact (steps that are no powers of two, accumulators beyond 2**24, float32 layers), division by a step that is no
    power of two, float32 instead of exact statistics with ``norm_nodes``. Each moves single codes by one.

    Args:
        program: any program that the model file can hold.
        meta: labels, preprocessing, provenance.
        opset: 13 to 23; from 21 on codes of up to 4 bits have 4-bit types.
        data: name and options of the data set, for ``unetq evaluate``.
        norm_nodes: instance and group norm as the opset's own nodes in place of float64 statistics spelled out.

    Raises:
        ConfigError: an opset outside that range. UnsupportedError: a program that breaks a rule of the model file.
    """
    if not OPSETS[0] <= opset <= OPSETS[1]:
        raise ConfigError(
            f"opset {opset}: {OPSETS[0]} to {OPSETS[1]} can be written; choose one of them, {OPSET} for 4-bit types."
        )
    meta = with_labels(program, meta or ModelMeta())
    check_program(program)
    check_meta(program, meta)
    graph = Graph(opset, program.spatial_rank + 2, norm_nodes)
    for name in (INPUT, OUTPUT):
        graph.name(name)
    emitter = Emitter(program, graph, INPUT)
    for op in program.ops:
        emitter.emit(op)
    last = emitter.values[program.output].name
    graph.nodes.append(helper.make_node("Identity", [last], [OUTPUT], name=OUTPUT))
    channels = [program.tensors[t].channels for t in (program.input, program.output)]
    shapes = [
        ["batch", channels[0], *_sizes(program, "", True)],
        ["batch", channels[1], *_sizes(program, "output_", False)],
    ]
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in zip((INPUT, OUTPUT), shapes, strict=True)
    ]
    proto = helper.make_graph(graph.nodes, meta.name, [ends[0]], [ends[1]], graph.initializers)
    imports = [helper.make_opsetid("", opset)]
    version = helper.find_min_ir_version_for(imports)
    model = helper.make_model(proto, opset_imports=imports, ir_version=version, producer_name="unetq")
    model.producer_version = __version__
    known = OnnxMeta(meta, program.spatial_rank, program.input_multiple, program.fixed_size, data or {})
    helper.set_model_props(model, {KEY: to_text(known)})
    return model


def _check(model: Any) -> None:
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UnsupportedError(
            f"the ONNX checker refuses the model ({reason}), so nothing was written; try another opset, "
            "or report the network."
        ) from None


def save(
    program: Program,
    path: str | Path,
    meta: ModelMeta | None = None,
    opset: int = OPSET,
    data: dict[str, Any] | None = None,
    norm_nodes: bool = False,
) -> None:
    """Write ``build``'s model after ``onnx.checker`` has passed it; beyond 2 GB with the weights in ``<path>.data``.

    Raises:
        ConfigError, UnsupportedError: as ``build``, or the checker refuses the model.
        OutputError: the file cannot be written.
    """
    target = Path(path)
    model = build(program, meta, opset, data, norm_nodes)
    if model.ByteSize() <= PROTO_LIMIT:
        _check(model)
        write_bytes(target, model.SerializeToString(deterministic=True))
        return
    beside = f"{target.name}.data"
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
            convert_model_to_external_data(model, location=beside, size_threshold=EXTERNAL_BYTES)
            onnx.save_model(model, str(Path(folder) / target.name))
            _check(str(Path(folder) / target.name))
            (Path(folder) / beside).replace(target.parent / beside)  # first: a model never lacks its weights
            (Path(folder) / target.name).replace(target)
    except OSError as error:
        raise OutputError(
            f"cannot write {target}: {error.strerror or error}; it needs room for the model beside it. "
            "Free some space or choose another place."
        ) from error
