"""Medical segmentation in a few bits: train a U-Net with low-bit weights and activations, pack it, run it anywhere.

Public names are loaded when first used, so that ``import unetq`` and the device-side parts need no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import UnetqError
    from .export.lower import lower
    from .export.modelfile import load
    from .export.program import ModelMeta, Preprocessing, Program
    from .quant.calibrate import calibrate
    from .quant.convert import quantize
    from .quant.network import QuantNet
    from .runtime import Runtime

__version__ = "0.1.0"

_HOMES = {
    "ModelMeta": ".export.program",
    "Preprocessing": ".export.program",
    "Program": ".export.program",
    "QuantNet": ".quant.network",
    "Runtime": ".runtime",
    "UnetqError": ".errors",
    "calibrate": ".quant.calibrate",
    "load": ".export.modelfile",
    "lower": ".export.lower",
    "quantize": ".quant.convert",
}

__all__ = [
    "ModelMeta",
    "Preprocessing",
    "Program",
    "QuantNet",
    "Runtime",
    "UnetqError",
    "calibrate",
    "load",
    "lower",
    "quantize",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
