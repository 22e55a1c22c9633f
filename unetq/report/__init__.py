"""One self-contained HTML page, Markdown, CSV and JSON out of finished run folders. Imports no torch."""

from .build import build

__all__ = ["build"]
