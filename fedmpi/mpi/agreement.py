"""Ranks agreeing on success: a step that fails on one rank ends the run on all of them, with one message."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np

from fedmpi.mpi.collectives import Ranks

Result = TypeVar("Result")
_MESSAGE_BYTES = 2000
_FAILURE = np.dtype([("code", np.int64), ("message", f"S{_MESSAGE_BYTES}")])


class Refused(Exception):
    """A step of the run failed on some rank; raised alike on all of them. ``code`` is the exit code."""

    def __init__(self, message: str, code: int) -> None:
        self.code = code
        super().__init__(message)


def on_server(
    ranks: Ranks, step: Callable[[], Result], expected: Mapping[type[Exception], int]
) -> Result | None:
    """Run ``step`` on rank 0 while the others wait; they return None.

    Exceptions of the ``expected`` types (with their exit codes) become Refused on every rank.
    """
    return _agree(ranks, step if ranks.is_server else lambda: None, expected)


def on_every_rank(
    ranks: Ranks, step: Callable[[], Result], expected: Mapping[type[Exception], int]
) -> Result:
    """Run ``step`` on every rank; where it raises one of ``expected`` on any, all raise Refused.

    The message is that of the lowest rank that failed.
    """
    return _agree(ranks, step, expected)


def any_rank(ranks: Ranks, value: bool) -> bool:
    """Whether ``value`` is true on any rank; the same answer on all of them."""
    gathered = ranks.gather_rows(np.array([value], dtype=np.int8), [1] * ranks.size)
    answer = np.array([gathered is not None and gathered.any()], dtype=np.int8)
    ranks.broadcast(answer)
    return bool(answer[0])


def _agree(ranks: Ranks, step: Callable[[], Result], expected: Mapping[type[Exception], int]) -> Result:
    mine = np.zeros(1, dtype=_FAILURE)
    try:
        result = step()
    except tuple(expected) as error:
        code = next(code for kind, code in expected.items() if isinstance(error, kind))
        message = " ".join((str(error) or type(error).__name__).split())
        mine[0] = (code, message.encode(errors="backslashreplace")[:_MESSAGE_BYTES])
    gathered = ranks.gather_rows(mine, [1] * ranks.size)
    first = np.zeros(1, dtype=_FAILURE)
    if gathered is not None:
        failures = gathered[gathered["code"] != 0]
        first[:] = failures[:1] if len(failures) else first
    ranks.broadcast(first)
    if first["code"][0]:
        raise Refused(first["message"][0].decode(errors="replace"), int(first["code"][0]))
    return result
