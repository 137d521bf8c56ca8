"""The command line: a parser whose errors are raised, and parsers of numbers that say what is allowed."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from math import nan
from typing import NoReturn

from fedmpi.config import ConfigError
from fedmpi.config.errors import shortened
from fedmpi.config.ranges import COUNT, Range

_MOST_DIGITS = 20
"""More than any integer that is allowed has; Python itself reads no integers of more than 4300."""


class Parser(argparse.ArgumentParser):
    """Errors are raised, so that they take one line and only one rank prints them."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(self.prog, message.replace("(choose from", "(allowed:"))


def integer(low: int, high: int = int(COUNT.high)) -> Callable[[str], int]:
    """A parser of integers from ``low`` to ``high``."""
    allowed = Range(low, high, whole=True)

    def parse(text: str) -> int:
        plain = text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS
        if not plain or not allowed.holds(int(text)):
            raise argparse.ArgumentTypeError(f"found {shortened(text)}; allowed: {allowed.allowed}")
        return int(text)

    return parse


def number(allowed: Range) -> Callable[[str], float]:
    """A parser of numbers in a range."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = nan
        if not allowed.holds(value):
            raise argparse.ArgumentTypeError(f"found {shortened(text)}; allowed: {allowed.allowed}")
        return value

    return parse
