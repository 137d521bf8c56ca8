"""What the checks have in common: faults of parts become AssertionErrors of one line."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

from fedmpi.config.errors import ConfigError
from fedmpi.config.guarding import Guard

_P = ParamSpec("_P")


def asserting(check: Callable[_P, None]) -> Callable[_P, None]:
    """``check``, whose ConfigErrors, of guards and of fedmpi itself, are raised as AssertionErrors of the same text."""

    @wraps(check)
    def wrapped(*arguments: _P.args, **keywords: _P.kwargs) -> None:
        try:
            check(*arguments, **keywords)
        except ConfigError as error:
            raise AssertionError(str(error)) from error.__cause__

    return wrapped


def guard_of(check: str, part: Any, kind: type) -> Guard:
    """The thorough guard of a ``part`` that ``check`` was given; AssertionError unless it is a ``kind``."""
    if not isinstance(part, kind):
        made = ", and not the function that makes one" if callable(part) else ""
        raise AssertionError(
            f"{check} was given a {type(part).__name__}; allowed: a {kind.__qualname__}{made}"
        )
    return Guard(check, str(getattr(part, "summary", check)), thorough=True)
