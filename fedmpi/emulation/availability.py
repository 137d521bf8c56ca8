"""Which clients can be asked at the start of a round: the interface of availability models, and ``always``.

To add one, write a file with an ``AvailabilityModel``; ``BUILT_IN`` gives it a name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmpi.config.schema import AvailabilityConfig
from fedmpi.numerics.streams import Purpose, generator

BUILT_IN = {"always": "fedmpi.emulation.availability:ALWAYS"}


@dataclass(frozen=True)
class Setup:
    """What does not change during a run: ``[emulation.availability]``, how many clients there are, and the seed."""

    section: AvailabilityConfig
    clients: int
    seed: int

    def draw(self, round_index: int) -> np.random.Generator:
        """The generator of a round, the only source of randomness."""
        return generator(self.seed, Purpose.AVAILABILITY, round_index)


Available = Callable[[Setup, int, float], NDArray[np.bool_]]
"""``available(setup, round_index, start_s)``: who can be asked at the emulated moment ``start_s``, bool (N,)."""

Next = Callable[[Setup, int, float], float]
"""``next_s(setup, round_index, start_s)``: the first emulated moment after ``start_s`` at which somebody can be."""


@dataclass(frozen=True, kw_only=True)
class AvailabilityModel:
    """An availability model. ``summary``: one sentence; ``source``: the publication.

    ``available`` says who can be asked. ``next_s``: when, if nobody can be; None: a run ends there.
    """

    summary: str
    source: str = ""
    available: Available
    next_s: Next | None = None


@dataclass(frozen=True)
class Availability:
    """An availability model with what it needs of a run."""

    model: AvailabilityModel
    setup: Setup

    def clients(self, round_index: int, start_s: float) -> NDArray[np.int64]:
        """The clients that can be asked, rising. Raises ValueError where the model gives anything but bool (N,)."""
        flags = np.asarray(self.model.available(self.setup, round_index, start_s))
        if flags.dtype != np.bool_ or flags.shape != (self.setup.clients,):
            raise ValueError(
                f"the availability model gave {flags.dtype} of shape {flags.shape}; "
                f"bool of shape ({self.setup.clients},) is expected"
            )
        return np.flatnonzero(flags)

    def next_s(self, round_index: int, start_s: float) -> float | None:
        """When somebody can be asked again, after ``start_s``; None: never."""
        if self.model.next_s is None:
            return None
        moment = float(self.model.next_s(self.setup, round_index, start_s))
        return moment if start_s < moment < np.inf else None


def _everybody(setup: Setup, round_index: int, start_s: float) -> NDArray[np.bool_]:
    return np.ones(setup.clients, np.bool_)


ALWAYS = AvailabilityModel(summary="every client can be asked in every round", available=_everybody)
