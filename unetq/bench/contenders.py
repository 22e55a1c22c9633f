"""Who takes part: names, what each needs installed, and whether an instruction-set cap reaches it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from ..errors import ConfigError

OWN = "own"
NO_SWITCH = "it chooses its kernels by the processor and documents no switch"


@dataclass(frozen=True)
class Contender:
    """One engine in one arithmetic.

    Attributes:
        kind: "ours", "int8" or "float32".
        module: its file in ``peers``.
        option: handed to that module.
        needs: modules that must be importable.
        install: the command that brings them.
        switch: what carries a cap to it: "UNETQ_ISA", "ONEDNN_MAX_CPU_ISA" or "" where nothing does.
    """

    name: str
    label: str
    kind: str
    module: str
    option: str
    needs: tuple[str, ...] = ()
    install: str = ""
    switch: str = ""

    def absent(self) -> str | None:
        """Why it cannot take part here, None where all it needs is installed."""
        missing = [name for name in self.needs if find_spec(name) is None]
        return f"not installed ({', '.join(missing)})" if missing else None


_ONEDNN = "ONEDNN_MAX_CPU_ISA"
_OPENVINO, _LITERT = ("openvino", "nncf"), ("ai_edge_litert", "litert_torch")
_PIP_OPENVINO = "pip install openvino nncf"
_PIP_LITERT = "pip install ai-edge-litert litert-torch"
PEERS = (
    Contender("openvino-int8", "OpenVINO int8", "int8", "openvino", "int8", _OPENVINO, _PIP_OPENVINO, _ONEDNN),
    Contender("torch-x86", "torch int8, x86 engine", "int8", "torch", "x86", (), "", _ONEDNN),
    Contender(
        "torch-pt2e", "torch int8, PT2E + inductor", "int8", "torch", "pt2e",
        ("torchao",), "pip install torchao", _ONEDNN,
    ),
    Contender(
        "onnxruntime-int8", "ONNX Runtime int8", "int8", "onnxruntime", "int8",
        ("onnxruntime", "onnx"), "pip install onnxruntime onnx",
    ),
    Contender("litert-int8", "LiteRT int8", "int8", "litert", "int8", (*_LITERT, "ai_edge_quantizer"), _PIP_LITERT),
    Contender("torch-qnnpack", "torch int8, QNNPACK engine", "int8", "torch", "qnnpack"),
    Contender(
        "openvino-float32", "OpenVINO float32", "float32", "openvino", "float32",
        ("openvino",), "pip install openvino", _ONEDNN,
    ),
    Contender("torch-float32", "torch float32", "float32", "torch", "float32", (), "", _ONEDNN),
    Contender(
        "onnxruntime-float32", "ONNX Runtime float32", "float32", "onnxruntime", "float32",
        ("onnxruntime",), "pip install onnxruntime",
    ),
    Contender("litert-float32", "LiteRT float32", "float32", "litert", "float32", _LITERT, _PIP_LITERT),
    Contender(
        "ncnn-float32", "ncnn float32", "float32", "ncnn", "float32", ("ncnn", "pnnx"), "pip install ncnn pnnx"
    ),
)  # fmt: skip


def own(option: str) -> Contender:
    """This toolkit at "w4a6" and the like, or "own": the bits that the given model has."""
    bits = "" if option == OWN else " " + option.upper()
    return Contender(f"unetq-{option}", f"unetq{bits}", "ours", "ours", option, switch="UNETQ_ISA")


def parse_bits(text: str) -> tuple[str, ...]:
    """ "w4a6,w2a2" as its parts.

    Raises:
        ConfigError: a part is no pair of widths.
    """
    parts = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    for part in parts:
        if not re.fullmatch(r"w[1-8]a[1-8]", part):
            raise ConfigError(
                f"bits {part!r}: give weight and activation widths from 1 to 8, such as w4a6 or w4a6,w2a2."
            )
    if not parts:
        raise ConfigError(f"bits {text!r}: name at least one pair of widths, such as w4a6.")
    return parts


def choose(options: Sequence[str], only: str | None, with_peers: bool = True) -> list[Contender]:
    """Who takes part: ours at every option, then the peers; ``only`` keeps names that start with one of its parts.

    Raises:
        ConfigError: a part of ``only`` fits nobody.
    """
    everyone = [own(option) for option in options] + (list(PEERS) if with_peers else [])
    if only is None:
        return everyone
    wanted = [part.strip().lower() for part in only.split(",") if part.strip()]
    for part in wanted:
        if not any(contender.name.startswith(part) for contender in everyone):
            raise ConfigError(f"--only {part!r} fits nobody; there are {', '.join(c.name for c in everyone)}.")
    return [c for c in everyone if any(c.name.startswith(part) for part in wanted)]
