"""Numbers as people read them."""

BYTE_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
COUNT_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def bytes_text(value: int | float | None) -> str:
    """``2.31 MiB``; an en dash for None."""
    if value is None:
        return "–"
    for size, unit in BYTE_UNITS:
        if value >= size:
            return f"{three_digits(value / size)} {unit}"
    return f"{value:.0f} B"


def count_text(value: int | float | None) -> str:
    """``54.2 G``; an en dash for None."""
    if value is None:
        return "–"
    for size, unit in COUNT_UNITS:
        if value >= size:
            return f"{three_digits(value / size)} {unit}"
    return f"{value:.0f}"


def three_digits(value: float) -> str:
    """Three significant digits below 1000, no exponent."""
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def percent(value: float | None) -> str:
    """A Dice of 0…1 as ``95.12``; an en dash for None."""
    return "–" if value is None else f"{100 * value:.2f}"


def points(value: float | None) -> str:
    """A signed difference of two Dice, in points: ``−0.21``, ``+0.05``, ``±0.00``; an en dash for None."""
    if value is None:
        return "–"
    rounded = round(100 * value, 2)
    return "±0.00" if rounded == 0 else f"{'+' if rounded > 0 else '−'}{abs(rounded):.2f}"


def ratio(reference: int | None, value: int | None) -> str:
    """How many times smaller ``value`` is than ``reference``: ``8.0×``; empty where that says nothing."""
    text = f"{reference / value:.1f}×" if reference and value else ""
    return "" if text == "1.0×" else text


def seconds_text(value: float | None) -> str:
    """``42 s``, ``3 min 05 s``, ``2 h 10 min``; an en dash for None."""
    if value is None:
        return "–"
    total = round(value)
    if total < 60:
        return f"{value:.1f} s" if value < 10 else f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60:02d} s"
    return f"{total // 3600} h {total % 3600 // 60:02d} min"


def milliseconds(value: float | None) -> str:
    """Seconds of one pass as ``41.2 ms``, ``1.23 s``; an en dash for None."""
    if value is None:
        return "–"
    return f"{three_digits(value)} s" if value >= 1 else f"{three_digits(1000 * value)} ms"


def probability(value: float | None) -> str:
    """A p-value: ``p = 0.03``, ``p < 0.001``; empty for None."""
    if value is None:
        return ""
    if value < 0.001:
        return "p < 0.001"
    return f"p = {value:.3f}" if value < 0.2 else f"p = {value:.2f}"


def share(value: float | None) -> str:
    """A share of 0…1 in percent: ``3.4 %``, ``<0.01 %``, ``0``; an en dash for None."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    hundred = 100 * value
    return "<0.01 %" if hundred < 0.01 else f"{hundred:.2f} %" if hundred < 1 else f"{hundred:.1f} %"


def number(value: float | None, digits: int = 2) -> str:
    """A plain number with a true minus; an en dash for None."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def scale_text(value: float) -> str:
    """A step size in three significant digits: ``0.0312``, ``2.5e-05``."""
    return f"{value:.3g}".replace("-", "−")
