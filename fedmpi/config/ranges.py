"""Ranges of numbers, and how a field of the configuration says what it can be.

Every range has two ends, so that sums and products of them stay finite.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Any

RANGE, CHOICES = "range", "choices"
"""What a field's metadata hold of what it can be."""


@dataclass(frozen=True)
class Range:
    """The numbers from ``low`` to ``high``; NaN is in no range.

    ``low`` itself is left out where ``above``, ``high`` itself where ``below``. With ``or_inf`` infinity is allowed
    too, as "no limit". ``zero`` says what 0 means where it is no number like the others.
    """

    low: float
    high: float
    whole: bool = False
    above: bool = False
    below: bool = False
    or_inf: bool = False
    zero: str = ""

    @property
    def allowed(self) -> str:
        """The range in words."""
        kind = "an integer" if self.whole else "a number"
        low, high = (str(end) if isinstance(end, int) else f"{end:g}" for end in (self.low, self.high))
        start = f"above {low}" if self.above else f"from {low}"
        stop = f"to below {high}" if self.below else f"and at most {high}" if self.above else f"to {high}"
        zero = f", or 0 for {self.zero}" if self.zero else ""
        return f"{kind} {start} {stop}" + (", or inf" if self.or_inf else "") + zero

    def holds(self, value: float) -> bool:
        """Whether ``value`` is in the range; a comparison with NaN is never true."""
        if (self.or_inf and value == inf) or (self.zero and value == 0):
            return True
        above = self.low < value if self.above else self.low <= value
        return above and (value < self.high if self.below else value <= self.high)


_MOST_INT32 = 2**31 - 1
"""Rounds key the random streams with 32 bits, and indices of a flat vector are int32."""

COUNT = Range(1, _MOST_INT32, whole=True)
COUNT_OR_ZERO = Range(0, _MOST_INT32, whole=True)
SEED = Range(0, 2**63 - 1, whole=True)
"""As large as integers of HDF5, and of other readers of TOML, can be."""
CLIENTS = Range(1, 10**6, whole=True)
"""Devices are drawn and looked at one by one: with so many, that takes seconds."""
STEPS = Range(1, 10**6, whole=True)
EPOCHS = Range(0, 10**6, whole=True)
ARMS = Range(0, 10**6, whole=True)
THREADS = Range(1, 1024, whole=True)
PIXELS = Range(0, 4096, whole=True)
CLASSES = Range(0, 10**6, whole=True)
"""The classes of a data set; every one is an output of the model."""
WIDTH = Range(1, _MOST_INT32, whole=True)
MOST_LAYERS = 1000
MOST_PARAMETERS = _MOST_INT32
MOST_SAMPLES = 10**8
"""That one client takes in one round: the order of all of them is drawn at once."""
FRACTION = Range(0, 1, above=True)
FRACTION_OR_ZERO = Range(0, 1, above=True, zero="none")
BELOW_ONE = Range(0, 1, below=True)
FLOAT32 = Range(1e-37, 1e38)
"""What multiplies gradients, which are float32."""
FLOAT32_OR_ZERO = Range(0, 1e38)
OVER_SELECTION = Range(0, 100)
ALPHA = Range(1e-6, 1e6)
"""Beyond, Dirichlet's draws are all-or-nothing, or equal, within rounding, or not numbers at all."""
HALF_LIFE = Range(1e-3, 1e12, or_inf=True)
SECONDS = Range(1e-9, 1e9)
"""A time that passes in one piece: from a nanosecond to 32 years."""
SECONDS_OR_ZERO = Range(0, 1e9)
SECONDS_OR_INF = Range(1e-9, 1e9, or_inf=True)
TOTAL_SECONDS = Range(1e-9, 1e18)
FACTOR = Range(1e-9, 1e9)
RATE = Range(1e-6, 1e6)
"""Mbit/s: from a bit to a terabit per second. Wider apart, rates on one link are beyond the digits of float64."""
RATE_OR_INF = Range(1e-6, 1e6, or_inf=True)
BIN = Range(1e-3, 1e6)
"""Seconds: chances to send stand in a file by the millisecond."""
WATTS = Range(0, 1e4)
"""Of a whole device; 0 is a power like any other, an unknown one is left out."""
FLOPS_PER_S = Range(1e3, 1e18)
TIMEOUT = Range(1, 10**6, zero="none")


def within(default: float | None, allowed: Range) -> Any:
    """A field of the configuration that is a number in a range, or None where that is the default: not set."""
    return field(default=default, metadata={RANGE: allowed})


def one_of(*names: str) -> Any:
    """A field of the configuration that is one of some names, the first by default."""
    return field(default=names[0], metadata={CHOICES: names})
