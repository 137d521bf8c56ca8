"""Which clients can be asked at the start of a round: the interface of availability models, and the simple ones.

To add one, write a file with an ``AvailabilityModel``; ``BUILT_IN`` gives it a name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import expm1, inf, log1p

import numpy as np
from numpy.typing import NDArray

from fedmpi.config.emulation_schema import AvailabilityConfig
from fedmpi.config.errors import ConfigError, refusal, shown_value
from fedmpi.config.guarding import PartError
from fedmpi.numerics.streams import Purpose, generator

FloatArray = NDArray[np.float64]

BUILT_IN = {
    "always": "fedmpi.emulation.availability:ALWAYS",
    "probability": "fedmpi.emulation.availability:PROBABILITY",
    "intervals": "fedmpi.emulation.intervals:INTERVALS",
}


_MOST_MOMENTS = 30_000
"""So many moments one after the other at which there is nobody are a fault of the model, and no end of them."""


@dataclass(frozen=True)
class Setup:
    """What does not change during a run: ``[emulation.availability]``, how many clients there are, and the seed.

    ``prepared`` is what the model's ``prepare`` gave, None without one.
    """

    section: AvailabilityConfig
    clients: int
    seed: int
    prepared: object = None

    def draw(self, round_index: int) -> np.random.Generator:
        """The generator of a round, the only source of randomness."""
        return generator(self.seed, Purpose.AVAILABILITY, round_index)


Available = Callable[[Setup, int, float], NDArray[np.bool_]]
"""``available(setup, round_index, start_s)``: who can be asked at the emulated moment ``start_s``, bool (N,)."""

Next = Callable[[Setup, int, float], float]
"""``next_s(setup, round_index, start_s)``: the first emulated moment after ``start_s`` at which somebody can be."""

Leaves = Callable[[Setup, int, float], FloatArray]
"""``leaves_s(setup, round_index, start_s)``: the emulated moments at which those who can be asked at ``start_s`` will
be gone, float64 (N,); inf: not before the round's end, whenever that is."""


@dataclass(frozen=True, kw_only=True)
class AvailabilityModel:
    """An availability model. ``summary``: one sentence; ``source``: the publication.

    ``available`` says who can be asked. ``next_s``: when, if nobody can be; None: a run ends there. ``leaves_s``: when
    a participant is gone in the middle of its round; None: never. ``prepare(section, clients)`` reads files and
    computes what the others need, once: arrays, numbers, and objects of them, which are not changed and identify a run.
    """

    summary: str
    source: str = ""
    available: Available
    next_s: Next | None = None
    leaves_s: Leaves | None = None
    prepare: Callable[[AvailabilityConfig, int], object] | None = None


@dataclass(frozen=True)
class Availability:
    """An availability model with what it needs of a run."""

    model: AvailabilityModel
    setup: Setup

    def clients(self, round_index: int, start_s: float) -> NDArray[np.int64]:
        """The clients that can be asked, rising."""
        return np.flatnonzero(self.model.available(self.setup, round_index, start_s))

    def next_s(self, round_index: int, start_s: float) -> float | None:
        """When somebody can be asked again, after ``start_s``; None: never."""
        if self.model.next_s is None:
            return None
        moment = float(self.model.next_s(self.setup, round_index, start_s))
        return moment if start_s < moment < inf else None

    def first_from(self, round_index: int, moment_s: float) -> tuple[float, NDArray[np.int64]] | None:
        """The first emulated moment from ``moment_s`` on at which somebody can be asked, and who; None: never.

        Raises ConfigError for a model that names moment after moment at which there is nobody.
        """
        available = self.clients(round_index, moment_s)
        for _ in range(_MOST_MOMENTS):
            if len(available):
                return moment_s, available
            later_s = self.next_s(round_index, moment_s)
            if later_s is None:
                return None
            moment_s = later_s
            available = self.clients(round_index, moment_s)
        problem = f"next_s gave {_MOST_MOMENTS} moments up to {moment_s:g} s at which available has nobody"
        raise self._fault(problem, "moments at which somebody can be asked, or inf for never")

    def leaves_s(self, round_index: int, start_s: float, participants: NDArray[np.int64]) -> FloatArray:
        """The moments (participants,) at which participants of a round that began at ``start_s`` are gone; inf: never.

        Raises ConfigError where the model gives a moment before the start.
        """
        if self.model.leaves_s is None:
            return np.full(len(participants), inf)
        moments = self.model.leaves_s(self.setup, round_index, start_s)
        leaving = moments[participants]
        if not (leaving >= start_s).all():
            client = int(participants[int((leaving >= start_s).argmin())])
            problem = f"leaves_s gave {moments[client]:g} for client {client}, who is there at {start_s:g}"
            raise self._fault(problem, f"a moment from {start_s:g} on, or inf for never")
        return leaving

    def _fault(self, problem: str, allowed: str) -> ConfigError:
        return PartError("emulation.availability.model", f'"{self.setup.section.model}": {problem}', allowed)


def make_availability(
    model: AvailabilityModel, section: AvailabilityConfig, clients: int, seed: int
) -> Availability:
    """The availability of a run. Raises ConfigError or EmulationError for keys that do not go with the model, and for
    a file that cannot be read."""
    _check_keys(section)
    prepared = None if model.prepare is None else model.prepare(section, clients)
    return Availability(model, Setup(section, clients, seed, prepared))


_KEYS_OF = {"probability": ("probability",), "intervals": ("path", "period_s")}
"""The keys that a built-in model reads; the others must be left alone."""


def _check_keys(section: AvailabilityConfig) -> None:
    default = AvailabilityConfig()
    mine = _KEYS_OF.get(section.model, ())
    for model, keys in _KEYS_OF.items():
        for key in keys:
            value = getattr(section, key)
            if value != getattr(default, key) and key not in mine:
                problem = f'found {shown_value(value)} with model "{section.model}"'
                raise ConfigError(
                    f"emulation.availability.{key}", problem, f'leave it out, or model "{model}"'
                )
    if section.model == "probability" and section.probability is None:
        problem = 'is not set, and model "probability" draws with it'
        raise ConfigError("emulation.availability.probability", problem, "a number above 0 and at most 1")
    if section.model == "intervals" and not section.path:
        raise refusal(
            "emulation.availability.path", section.path, "a CSV file with columns client, on_s, off_s"
        )


def _everybody(setup: Setup, round_index: int, start_s: float) -> NDArray[np.bool_]:
    return np.ones(setup.clients, np.bool_)


ALWAYS = AvailabilityModel(summary="every client can be asked in every round", available=_everybody)


_REPEATED_DRAWS = 1000
"""So often a draw in which there is nobody is repeated; beyond, somebody is drawn outright."""


def _with_probability(setup: Setup, round_index: int, start_s: float) -> NDArray[np.bool_]:
    """Drawn anew for every round; a draw in which there is nobody is repeated, as no time passes between rounds."""
    draw = setup.draw(round_index)
    probability = setup.section.probability
    assert probability is not None  # make_availability has refused that
    for _ in range(_REPEATED_DRAWS):
        there = draw.random(setup.clients) < probability
        if there.any():
            return there
    return _somebody(draw, setup.clients, probability)


def _somebody(draw: np.random.Generator, clients: int, probability: float) -> NDArray[np.bool_]:
    """As if draws were repeated until there is somebody: first who is the first of them, then who else of the others.

    With a probability of 1e-9 repeating takes hours.
    """
    somebody = -expm1(clients * log1p(-probability))
    first = min(int(log1p(-draw.random() * somebody) / log1p(-probability)), clients - 1)
    there = draw.random(clients) < probability
    there[: first + 1] = np.arange(first + 1) == first
    return there


PROBABILITY = AvailabilityModel(
    summary="each client can be asked in a round with `probability`, drawn anew for every round",
    available=_with_probability,
)
