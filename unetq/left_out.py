"""What a data set could not use, told once and recorded: which cases, why, and of how many."""

from collections.abc import Mapping

from .cases import Skipped
from .samples import Samples

SHOWN = 20


def tell(splits: Mapping[str, Samples]) -> list[str]:
    """Lines on what was skipped of ``splits``; none where all was used.

    A case of which only slices were left out, or to which a data set has a remark, counts as used and is told behind
    the others.
    """
    used = {sample.volume for samples in splits.values() for sample in samples}
    items = list(dict.fromkeys(item for samples in splits.values() for item in samples.skipped))
    whole = [item for item in items if item.case not in used]
    parts = [item for item in items if item.case in used]
    names = {item.case for item in whole}
    lines = []
    if whole:
        head = f"skipped {len(names)} of {len(used | names)} cases:"
        lines += [f"{head} {_line(whole[0])}"] if len(whole) == 1 else [head, *_listed(whole)]
    if parts:
        head = f"used with a remark, {len({item.case for item in parts})} of {len(used | names)} cases:"
        lines += [f"{head} {_line(parts[0])}"] if len(parts) == 1 else [head, *_listed(parts)]
    return lines


def record(splits: Mapping[str, Samples]) -> dict[str, list[dict[str, str]]]:
    """The same for ``run.json``: a list of ``case`` and ``reason`` for each split."""
    return {
        split: [{"case": item.case, "reason": item.reason} for item in samples.skipped]
        for split, samples in splits.items()
    }


def _line(item: Skipped) -> str:
    return f"{item.case}: {item.reason}"


def _listed(items: list[Skipped]) -> list[str]:
    lines = [f"  {_line(item)}" for item in items[:SHOWN]]
    return lines if len(items) <= SHOWN else [*lines, f"  … and {len(items) - SHOWN} more"]
