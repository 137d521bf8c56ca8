"""Check of an aggregator: what stands for the updates, server steps by coordinates, and a state that resumes."""

from __future__ import annotations

import numpy as np

from fedmpi.aggregation.guarded import guarded
from fedmpi.aggregation.interface import Aggregator, State
from fedmpi.config.guarding import Guard
from fedmpi.testing.asserting import asserting, guard_of

_ROUNDS = 6
_TOLERANCE = 1e-5


@asserting
def check_aggregation(aggregator: Aggregator, examples: int = 30) -> None:
    """Let ``aggregator`` follow random updates of ``examples`` small models, whole ones and entries.

    Raises AssertionError, in one line that names the function, where a result has another shape or type or is not
    finite; where a state is larger than ``bytes_per_parameter`` says, or changes at coordinates of which nothing
    arrived; where a coordinate's change depends on other coordinates; and where a function draws from a global
    generator, changes the updates, or gives another result for the same arguments.
    """
    guard = guard_of("check_aggregation", aggregator, Aggregator)
    watched = guarded(aggregator, guard)
    if aggregator.needs_updates and not aggregator.sparse_refused:
        guard.refuse(
            "combine",
            "is given without sparse_refused",
            "why it cannot go with entries, as the end of a sentence",
        )
    for seed in range(examples):
        _run(watched, guard, np.random.default_rng(seed))


def _run(watched: Aggregator, guard: Guard, rng: np.random.Generator) -> None:
    parameters = int(rng.integers(2, 40))
    state = watched.init(parameters)
    for _ in range(_ROUNDS):
        mean = rng.standard_normal(parameters).astype(np.float32)
        if watched.combine is not None:
            clients = int(rng.integers(1, 6))
            updates = rng.standard_normal((clients, parameters)).astype(np.float32)
            mean = watched.combine(updates, rng.integers(1, 100, clients))
        if watched.step is None:
            continue
        indices = None
        if not watched.dense and not watched.sparse_refused and rng.random() < 0.5:
            indices = np.flatnonzero(rng.random(parameters) < 0.4).astype(np.int32)
            mean = mean[indices]
        where = slice(None) if indices is None else indices
        alone = watched.step(_cut(state, where), mean.copy(), None)[1]
        state, change = watched.step(state, mean, indices)
        if not np.allclose(change, alone, rtol=_TOLERANCE, atol=_TOLERANCE):
            at = int(np.abs(change - alone).argmax())
            problem = f"changes a coordinate by {change[at]:g} or {alone[at]:g}, depending on the others"
            guard.refuse("step", problem, "a change by the coordinate's own mean and state alone")


def _cut(state: State, where: slice | np.ndarray) -> State:
    """A copy of the state of some coordinates."""
    return {
        name: np.array(value[where]) if isinstance(value, np.ndarray) else value
        for name, value in state.items()
    }
