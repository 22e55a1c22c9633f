"""What every page of ours is put into: templates, the theme's style, and the one script that its policy lets run."""

import base64
import hashlib
from importlib.resources import files
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def environment(*packages: str) -> Environment:
    """Templates of ``packages`` first, then the report's own; a page extends ``base.html.j2``."""
    return Environment(
        loader=ChoiceLoader([PackageLoader(name, ".") for name in (*packages, "unetq.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def script() -> dict[str, Any]:
    """``script`` and ``script_hash`` as ``base.html.j2`` takes them."""
    text = files("unetq.report").joinpath("script.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return {"script": Markup(text), "script_hash": f"sha256-{digest}"}
