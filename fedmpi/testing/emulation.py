"""Checks of a compute model and of an availability model: seconds, moments and flags that the clock can go by."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from fedmpi.config.emulation_schema import AvailabilityConfig, ComputeConfig
from fedmpi.emulation.availability import Availability, AvailabilityModel
from fedmpi.emulation.availability import Setup as AvailabilitySetup
from fedmpi.emulation.compute import Compute, ComputeModel, LocalTraining, Setup, Work
from fedmpi.emulation.errors import EmulationError
from fedmpi.emulation.guarded import guarded_availability, guarded_compute
from fedmpi.emulation.profiles import REFERENCE, built_in_devices
from fedmpi.testing.asserting import asserting, guard_of

_LAYERS = 2
_ROUNDS = 20


@asserting
def check_compute(model: ComputeModel, section: ComputeConfig | None = None, examples: int = 50) -> None:
    """Time random rounds on random fleets of fedmpi's devices, with ``section`` ([emulation.compute]).

    Raises AssertionError, in one line that names the function, where seconds are not finite float64 from 0 on, one for
    each participant; where they differ for the same round, or a function changes its arguments or draws from a global
    generator.
    """
    guard = guard_of("check_compute", model, ComputeModel)
    watched = guarded_compute(model, guard)
    devices = [device for name, device in built_in_devices().items() if name != REFERENCE]
    work = Work((1e6, 2e5), (500, 300), 1e4, 3e3, 900)
    for seed in range(examples):
        rng = np.random.default_rng(seed)
        fleet = [devices[at] for at in rng.integers(0, len(devices), int(rng.integers(1, 9)))]
        costs = watched.costs(Setup(section or ComputeConfig(), fleet, "mlp", 20, work))
        clients = np.flatnonzero(rng.random(len(fleet)) < 0.7)
        density = float(rng.uniform(0.01, 1.0))
        training = LocalTraining.of(
            clients,
            rng.integers(1, 40, len(clients)) / 4,
            density * np.array(work.layer_sizes, np.float64),
            density=density,
            host_s=rng.uniform(0.001, 1.0, len(clients)) if model.needs_host_time else np.nan,
        )
        compute = Compute(watched, costs)
        with suppress(EmulationError):  # it may refuse some devices
            compute.check(_LAYERS)
        compute.seconds(training)
        if model.coefficients is not None:
            compute.step_coefficients(training)


@asserting
def check_availability(
    model: AvailabilityModel, section: AvailabilityConfig | None = None, examples: int = 20
) -> None:
    """Ask ``model`` over rounds of random lengths who is there, with ``section`` ([emulation.availability]).

    Raises AssertionError, in one line that names the function, where flags are not bool, one for each client; where the
    next moment is not later, or nobody is there at any; where somebody leaves before the round begins; and where an
    answer differs when it is asked for again, in whatever order, or comes from a global generator.
    """
    guard = guard_of("check_availability", model, AvailabilityModel)
    watched = guarded_availability(model, guard)
    for seed in range(examples):
        rng = np.random.default_rng(seed)
        clients = int(rng.integers(1, 12))
        given = section or AvailabilityConfig(model=guard.name)
        prepared = None if watched.prepare is None else watched.prepare(given, clients)
        availability = Availability(watched, AvailabilitySetup(given, clients, seed, prepared))
        seen, moment_s = [], 0.0
        for round_index in range(_ROUNDS):
            found = availability.first_from(round_index, moment_s)
            if found is None:
                break
            start_s, who = found
            availability.leaves_s(round_index, start_s, who)
            seen.append((round_index, start_s, who))
            moment_s = start_s + float(rng.exponential(3.0))
        for round_index, start_s, who in reversed(seen):
            if not np.array_equal(availability.clients(round_index, start_s), who):
                guard.refuse(
                    "available",
                    "gave others when it was asked again",
                    "the same for the same round and moment",
                )
