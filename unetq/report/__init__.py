"""One self-contained HTML page, a CSV and a JSON out of finished run folders. Imports no torch."""

from .page import build

__all__ = ["build"]
