"""The preprocessing of a model file: how its fields stand in the program record, and which values they may have."""

import math
from collections.abc import Mapping
from typing import Any

from .checks import AXES, require
from .program import Preprocessing, Program
from .records import MAX_EXTENT, MAX_OVERLAP, MAX_SPACING, NORMALIZE, OVER

DEFAULT = Preprocessing()
PAIRS = ("LR", "AP", "SI")  # an orientation has one letter of each
AT = 72  # of the program record: what follows is geometry from version 4 on, and was reserved before


def needs_geometry(rule: Preprocessing) -> bool:
    """Whether ``rule`` says something that versions before 4 cannot."""
    spatial = bool(rule.orientation) or any(rule.spacing) or bool(rule.window)
    return spatial or rule.context != 0 or rule.over != DEFAULT.over or rule.overlap != DEFAULT.overlap


def rule_values(rule: Preprocessing) -> dict[str, object]:
    """The fields of the program record that hold a checked ``rule``."""
    values: dict[str, object] = {"normalize": NORMALIZE.index(rule.normalize)}
    values |= {"low": float(rule.low), "high": float(rule.high)}
    if not needs_geometry(rule):
        return values
    spacing, window = (tuple(entries) for entries in (rule.spacing, rule.window))
    return values | {
        "orientation": rule.orientation.encode("ascii"),
        "context": rule.context,
        "spacing": (0.0,) * (3 - len(spacing)) + tuple(float(mm) for mm in spacing),
        "window": (0,) * (3 - len(window)) + tuple(int(length) for length in window),
        "over": OVER.index(rule.over),
        "overlap": float(rule.overlap),
    }


def read_rule(row: Mapping[str, Any], rank: int, geometry: bool = True) -> Preprocessing:
    """Back from ``rule_values``; without ``geometry`` (a version before 4) its fields have their defaults.

    Raises:
        UnsupportedError: a choice that is not known, or what a network of ``rank`` axes cannot have.
    """
    where = "the program record"
    require(row["normalize"] < len(NORMALIZE), where, f"normalize = {row['normalize']}: an unknown choice.")
    plain = (NORMALIZE[row["normalize"]], row["low"], row["high"])
    if not geometry:
        return Preprocessing(*plain)
    require(row["over"] < len(OVER), where, f"over = {row['over']}: an unknown choice.")
    letters = bytes(row["orientation"]).rstrip(b"\0")
    require(letters.isascii(), where, f"orientation {letters!r}: no axes code.")
    skip = 3 - rank
    for name in ("spacing", "window"):
        require(not any(row[name][:skip]), where, f"{name} {row[name]}: a 2-D program has 0 in depth.")
    return Preprocessing(
        *plain,
        over=OVER[row["over"]],
        orientation=letters.decode("ascii"),
        spacing=tuple(row["spacing"][skip:]) if any(row["spacing"]) else (),
        context=row["context"],
        window=tuple(row["window"][skip:]) if any(row["window"]) else (),
        overlap=row["overlap"],
    )


def in_words(rule: Preprocessing) -> str:
    """For people: what becomes of an image on its way to the network, in this order."""
    steps = [f"turned to {rule.orientation}"] if rule.orientation else []
    if any(rule.spacing):
        steps.append(f"resampled to {' x '.join(f'{mm:g}' if mm else 'as stored' for mm in rule.spacing)} mm")
    window = f" {rule.low:g} to {rule.high:g}" if rule.normalize == "window" else ""
    whole = " over the volume" if rule.normalize == "zscore" and rule.over == "volume" else ""
    steps.append(f"{rule.normalize}{window}{whole}")
    if rule.context:
        steps.append(f"with {rule.context} slice(s) on each side")
    if rule.window:
        steps.append(f"in windows of {' x '.join(map(str, rule.window))} that share {rule.overlap:g} of their length")
    return ", ".join(steps)


def check_rule(where: str, rule: Preprocessing, program: Program) -> None:
    """Raise ``UnsupportedError`` unless ``rule`` has known choices, sane numbers, and fits ``program``."""
    require(rule.normalize in NORMALIZE, where, f"normalize = {rule.normalize!r}: one of {', '.join(NORMALIZE)}.")
    finite = math.isfinite(rule.low) and math.isfinite(rule.high)
    rising = finite and (rule.normalize != "window" or rule.high > rule.low)
    require(rising, where, f"window {rule.low} to {rule.high}: finite and rising.")
    require(rule.over in OVER, where, f"over = {rule.over!r}: one of {', '.join(OVER)}.")
    letters = rule.orientation
    whole = len(letters) == 3 and all(sum(letter in pair for letter in letters) == 1 for pair in PAIRS)
    require(
        not letters or whole, where, f"orientation {letters!r}: one letter of L and R, one of A and P, one of S and I."
    )
    _check_spacing(where, rule, program)
    _check_window(where, rule, program)
    channels = program.tensors[program.input].channels
    require(
        rule.context == 0 or (rule.context > 0 and program.spatial_rank == 2),
        where,
        f"context = {rule.context}: neighbour slices, 0 or more, are for 2-D networks.",
    )
    require(
        channels % (2 * rule.context + 1) == 0,
        where,
        f"context = {rule.context}: the network's {channels} input channels are no multiple of {2 * rule.context + 1}.",
    )


def _check_spacing(where: str, rule: Preprocessing, program: Program) -> None:
    rank = program.spatial_rank
    require(len(rule.spacing) in (0, rank), where, f"spacing {rule.spacing}: none, or one for each of the {rank} axes.")
    for axis, mm in zip(AXES[3 - rank :], rule.spacing, strict=False):
        sane = math.isfinite(mm) and 0 <= mm <= MAX_SPACING
        require(sane, where, f"spacing in {axis} = {mm}: 0 (as stored) to {MAX_SPACING:g} mm.")


def _check_window(where: str, rule: Preprocessing, program: Program) -> None:
    rank, window = program.spatial_rank, tuple(rule.window)
    require(
        math.isfinite(rule.overlap) and 0 <= rule.overlap <= MAX_OVERLAP,
        where,
        f"overlap = {rule.overlap}: 0 to {MAX_OVERLAP}.",
    )
    if not window:
        return
    require(len(window) == rank, where, f"window {window}: none, or one for each of the {rank} axes.")
    for axis, length, step in zip(AXES[3 - rank :], window, program.input_multiple[3 - rank :], strict=True):
        fits = 1 <= length <= MAX_EXTENT and length % step == 0
        require(fits, where, f"window in {axis} = {length}: a multiple of the stride {step} up to {MAX_EXTENT}.")
    fixed = program.fixed_size
    require(
        fixed is None or window == tuple(fixed[3 - rank :]),
        where,
        f"window {window}: the network takes exactly {fixed}; the window must be that.",
    )
