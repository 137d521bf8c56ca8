"""The nearest spelling of a word, for messages about unknown names."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher

_LIKENESS = 0.6
"""Ratio of matching characters (Ratcliff and Obershelp) from which two words are taken for one another."""

_MOST_CHARACTERS = 100
"""Of a word that are compared: the time that it takes grows with its length, and no name is that long."""


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like ``word``, or None when none is near.

    Ties go to the one that is most like it in upper and lower case too, then to the alphabetically first.
    """
    word = word[:_MOST_CHARACTERS]
    folded = _folded(word)
    likeness = {name: SequenceMatcher(None, folded, _folded(name)).ratio() for name in candidates}
    most = max(likeness.values(), default=0.0)
    if most < _LIKENESS:
        return None
    best = [name for name, value in likeness.items() if value == most]
    return min(best, key=lambda name: (-SequenceMatcher(None, word, name).ratio(), name))


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """``; did you mean NAME?``, or nothing when no candidate is near."""
    name = nearest(word, candidates)
    return f"; did you mean {name}?" if name is not None else ""


def _folded(word: str) -> str:
    return word.lower().replace("-", "_")
