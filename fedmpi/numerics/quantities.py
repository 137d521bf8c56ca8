"""Durations and sizes in a few characters, for people."""

from __future__ import annotations

from collections.abc import Iterable
from math import floor, inf, log10


def duration(seconds: float) -> str:
    """Seconds in the two largest units: ``8.4 s``, ``3 min 05 s``, ``2 h 10 min``, ``4 d 06 h``."""
    if seconds < 59.95:  # which one decimal would show as 60.0
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24:02d} h"


def plain_seconds(seconds: float) -> str:
    """Seconds as a number with at least three digits that count: ``0.565``, ``12.3``, ``1,234``."""
    return f"{seconds:,.{_decimals(seconds, 3)}f}"


def form_of(amounts: Iterable[float], decimals: int = 0) -> str:
    """A format for a column of amounts: so many decimals, or as many as show two digits of the least above 0."""
    least = min((amount for amount in amounts if amount > 0), default=inf)
    return f"{{:,.{max(decimals, _decimals(least, 2))}f}}"


def _decimals(amount: float, digits: int) -> int:
    """Decimals that show at least so many digits of an amount."""
    return max(0, digits - 1 - floor(log10(amount))) if 0 < amount < inf else 0


def bytes_text(count: float) -> str:
    """A number of bytes with a decimal unit and three digits: ``4.85 MB``."""
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if size < 999.5:
            break
        size, unit = size / 1000, larger
    return f"{size:.3g} {unit}"
