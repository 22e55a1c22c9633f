"""ONNX models of small programs, run in onnxruntime; only for tests that have both packages."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime as engine

from unetq.export.program import Epilogue, Op, Program, TensorSpec
from unetq.fixedpoint import Grid
from unetq.onnx.model import build


def session(model: Any) -> Any:
    onnx.checker.check_model(model, full_check=True)
    options = engine.SessionOptions()
    options.intra_op_num_threads = 1
    return engine.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def in_onnx(program: Program, x: np.ndarray, opset: int = 21) -> np.ndarray:
    return np.asarray(session(build(program, opset=opset)).run(None, {"image": x})[0])


def nodes(program: Program, opset: int = 21) -> Counter[str]:
    return Counter(node.op_type for node in build(program, opset=opset).graph.node)


def chain(*ops: Op, grids: list[Grid | None], channels: int = 2) -> Program:
    """``ops`` one after the other; ``grids`` are those of their outputs."""
    tensors = [TensorSpec("input", channels, None)]
    tensors += [TensorSpec(f"t{i}", channels, grid) for i, grid in enumerate(grids)]
    numbered = [replace(op, output=i + 1) for i, op in enumerate(ops)]  # type: ignore[type-var]
    return Program(tuple(tensors), tuple(numbered), 0, len(ops), 2, (1, 1, 1))  # type: ignore[arg-type]


def plain(gain: float, offset: float = 0.0) -> Epilogue:
    return Epilogue(np.full(2, gain, np.float32), np.full(2, offset, np.float32))


def noise(size: int = 12, scale: float = 3.0) -> np.ndarray:
    return (np.random.default_rng(3).standard_normal((2, 2, size, size)) * scale).astype(np.float32)
