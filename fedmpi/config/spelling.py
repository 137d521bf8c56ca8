"""The nearest spelling of a word, for messages about unknown names."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher

_LIKENESS = 0.6
"""Ratio of matching characters (Ratcliff and Obershelp) from which two words are taken for one another."""

_MOST_CHARACTERS = 100
"""Of a word that are compared: the time that it takes grows with its length, and no name is that long."""


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like ``word`` (ties to the alphabetically first), or None when none is near."""
    folded = _folded(word[:_MOST_CHARACTERS])
    likeness = {name: SequenceMatcher(None, folded, _folded(name)).ratio() for name in candidates}
    best = min(likeness, key=lambda name: (-likeness[name], name), default=None)
    return best if best is not None and likeness[best] >= _LIKENESS else None


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """``; did you mean NAME?``, or nothing when no candidate is near."""
    name = nearest(word, candidates)
    return f"; did you mean {name}?" if name is not None else ""


def _folded(word: str) -> str:
    return word.lower().replace("-", "_")
