"""Paths as a page may show them: only their last component, since a report is passed on."""

import re
import shlex
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import yaml

_START = r"(?:file:/+|~(?:[A-Za-z][\w.-]*)?[/\\]|[A-Za-z]:[/\\]|\\\\|/(?!/))"
_INSIDE = re.compile(rf"(?<![\w./\\~]){_START}[^\s'\",;|<>()\[\]{{}}/\\][^\s'\",;|<>()\[\]{{}}]*")
_WHOLE = re.compile(rf"{_START}.*", re.DOTALL)
_PLAIN = re.compile(r"[A-Za-z_][\w.-]*")
_WORDS = ("true", "false", "null", "yes", "no", "on", "off", "y", "n")  # what YAML would not read as text


def shown_path(path: str) -> str:
    """The last component of an absolute path (or one from a home folder); a relative one as it is."""
    if not _WHOLE.fullmatch(path):
        return path
    kind = PurePosixPath if path.startswith(("/", "~/", "file:")) else PureWindowsPath
    return kind(path).name or "/"


def shown_text(text: str) -> str:
    """A sentence, with every absolute path in it shortened to its last component."""
    return _INSIDE.sub(lambda found: _shortened(found.group()), text)


def _shortened(path: str) -> str:
    bare = path.rstrip(".:/\\")
    return shown_path(bare) + path[len(bare) :].rstrip("/\\")


def shown_command(command: Any) -> str:
    """A command line (one string, or a list of arguments) with its paths shortened, those behind ``=`` too."""
    if isinstance(command, list):
        return shlex.join(_argument(str(item)) for item in command)
    try:
        return shlex.join(_argument(item) for item in shlex.split(str(command)))
    except ValueError:  # a quote that is not closed
        return shown_text(str(command))


def _argument(text: str) -> str:
    name, equals, value = text.partition("=")
    if equals and not _WHOLE.fullmatch(name):
        return f"{name}={shown_text(shown_path(value))}"
    return shown_text(shown_path(text))


def shown_config(text: str) -> str:
    """YAML as it stands, with every absolute path in it shortened."""
    try:
        spans = [(start, end, shown_path(value)) for start, end, value in _scalars(yaml.compose(text, yaml.SafeLoader))]
    except (yaml.YAMLError, RecursionError):
        return shown_text(text)
    for start, end, value in sorted(spans, reverse=True):
        plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
        text = text[:start] + (value if plain else "'" + value.replace("'", "''") + "'") + text[end:]
    return shown_text(text)


def _scalars(node: Any) -> set[tuple[int, int, str]]:
    """Where the absolute paths of a YAML tree stand, keys included."""
    if isinstance(node, yaml.ScalarNode):
        whole = _WHOLE.fullmatch(node.value)
        return {(node.start_mark.index, node.end_mark.index, node.value)} if whole else set()
    if isinstance(node, yaml.MappingNode):
        return {found for pair in node.value for item in pair for found in _scalars(item)}
    if isinstance(node, yaml.SequenceNode):
        return {found for item in node.value for found in _scalars(item)}
    return set()
