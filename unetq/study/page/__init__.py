"""The study's page: from ``study.json`` alone to ``study.html`` and ``study.md``. See docs/STUDY.md."""

from .build import write_page

__all__ = ["write_page"]
