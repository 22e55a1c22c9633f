"""Files found by a path pattern, each with the id that the pattern reads from its path."""

import re
from pathlib import Path

from unetq.errors import ConfigError, DataError
from unetq.imageio import DICOM_SUFFIX, SUFFIXES

ID = "{id}"


def find_images(root: Path, pattern: str) -> dict[str, Path]:
    """Every image below ``root`` whose path fits, by its id, in the natural order of ids (2 before 10).

    Args:
        root: the folder that patterns start from.
        pattern: a path with ``{id}``, ``*`` (anything but /) and ``**`` (any folders); a single ``*`` is the id where
            ``{id}`` is not written. A folder that fits is a DICOM series.

    Raises:
        ConfigError: no pattern, or one without an id. DataError: two paths of one id, or none at all.
    """
    pattern = _with_id(pattern, "images")
    try:
        wanted = re.compile(_regex(pattern))
    except re.error as error:
        raise ConfigError(f"option images = {pattern!r} is no path pattern ({error}); correct its brackets.") from error
    found: dict[str, Path] = {}
    for path in sorted(root.glob(_glob(pattern))):
        fits = wanted.fullmatch(path.relative_to(root).as_posix())
        usable = path.is_dir() or path.name.lower().endswith((*SUFFIXES, DICOM_SUFFIX))
        if fits is None or not usable or path.name.startswith("."):
            continue
        name = fits["id"]
        if name in found:
            raise DataError(
                f"{found[name]} and {path} have one id, {name}: ids tell cases apart; move {ID} in {pattern!r} to "
                "where paths differ."
            )
        found[name] = path
    if not found:
        raise DataError(f"no image in {root} fits {pattern!r}; check the folder and the option images.")
    return {name: found[name] for name in sorted(found, key=natural)}


def find_label(root: Path, pattern: str, name: str) -> Path:
    """The one file that fits ``pattern`` with ``{id}`` replaced.

    Raises:
        ConfigError: a pattern without an id. DataError: no such file, or several.
    """
    pattern = _with_id(pattern, "labels")
    escaped = re.sub(r"([\[\]?*])", r"[\1]", name)
    found = sorted(path for path in root.glob(pattern.replace(ID, escaped)))
    if len(found) != 1:
        listed = f" ({', '.join(path.name for path in found[:3])})" if found else ""
        raise DataError(
            f"{len(found)} labels fit {pattern.replace(ID, name)!r} in {root}{listed}: every image has one; "
            "add or rename it, or correct the option labels."
        )
    return found[0]


def natural(text: str) -> tuple[list[tuple[int, int, str]], str]:
    """A sort key by which numbers within names count as numbers."""
    parts = re.findall(r"\d+|\D+", text)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts], text


def named(expression: str, text: str, what: str) -> str:
    """What the regular ``expression`` reads from ``text``: its group ``what``, or its first, or all that matched.

    Raises:
        ConfigError: no regular expression. DataError: it does not match.
    """
    try:
        found = re.search(expression, text)
    except re.error as error:
        raise ConfigError(f"option {what} = {expression!r} is no regular expression ({error}); correct it.") from error
    if found is None:
        raise DataError(f"{text} does not fit the option {what}, {expression!r}: every case needs one; correct it.")
    groups = found.groupdict()
    return str(groups.get(what) or (found.groups() or (found[0],))[0] or "")


def _with_id(pattern: str, what: str) -> str:
    path = Path(pattern)
    if path.is_absolute() or ".." in path.parts or not pattern:
        raise ConfigError(f"option {what} = {pattern!r}: a path below the data folder is expected; leave / and .. out.")
    if any("**" in part and part != "**" for part in pattern.split("/")):
        raise ConfigError(
            f"option {what} = {pattern!r}: ** is any folders and stands alone between two /; write * for a part of a "
            "name, or **/ before it."
        )
    if ID not in pattern:
        if pattern.replace("**", "").count("*") != 1:
            raise ConfigError(f"option {what} = {pattern!r} does not say where the id of a case is; write {ID} there.")
        pattern = re.sub(r"(?<!\*)\*(?!\*)", ID, pattern)
    return pattern


def _glob(pattern: str) -> str:
    """The pattern for ``Path.glob``, which finds no less than ``_regex``: stars that meet are one there."""
    parts = (part if part == "**" else re.sub(r"\*+", "*", part.replace(ID, "*")) for part in pattern.split("/"))
    return "/".join(parts)


def _regex(pattern: str) -> str:
    seen = False

    def part(token: str) -> str:
        nonlocal seen
        if token == ID:
            again, seen = seen, True
            return "(?P=id)" if again else "(?P<id>[^/]+)"
        known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
        if token.startswith("[") and len(token) > 2:
            return f"[^{token[2:]}" if token[1] == "!" else token
        return known.get(token) or re.escape(token)

    return "".join(part(token) for token in re.findall(r"\{id\}|\*\*/|\*\*|\*|\?|\[[^\]]*\]|[^*?\[{]+|.", pattern))
