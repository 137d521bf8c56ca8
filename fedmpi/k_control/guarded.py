"""A user's controller of k under watch: its states are checked as they are made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fedmpi.config.errors import shortened
from fedmpi.config.guarding import Guard, Replayed, read_only, same
from fedmpi.k_control.interface import Controller, Draw, Magnitudes, Observation, Setup, State

_LARGEST = 2**31 - 1


def guarded(controller: Controller, guard: Guard) -> Controller:
    """``controller``, whose functions raise PartError where they break a rule of ``Controller``.

    k is held to the bounds of the last ``init``; every process calls it, one that goes on from a checkpoint too.
    """
    bounds = [1, _LARGEST]
    sizes: list[int] = []
    init_, step_, decide_ = controller.init, controller.step, controller.decide
    if not (isinstance(controller.state, type) and issubclass(controller.state, State)):
        guard.refuse("state", f"is {controller.state!r}", "a subclass of fedmpi.k_control.State")

    def checked(function: str, state: Any) -> State:
        check_state(guard, function, controller.state, state, *bounds)
        if controller.layer_k is not None:
            check_shares(guard, guard.call("layer_k", controller.layer_k, state), sizes, state.k)
        return state

    def init(setup: Setup, draw: Draw) -> State:
        bounds[:] = setup.k_min, setup.k_max
        sizes[:] = setup.layer_sizes
        return checked("init", guard.call("init", init_, setup, draw))

    def step(state: Any, seen: Observation, draw: Draw) -> State:
        seen, replayed = replace(seen, magnitudes=_unwritable(seen.magnitudes)), Replayed(draw)
        following = checked("step", guard.call("step", step_, state, seen, replayed))
        if guard.is_first("step"):
            guard.must_agree("step", following, guard.call("step", step_, state, seen, replayed.again()))
        return following

    def decide(state: Any, magnitudes: Magnitudes) -> State:
        assert decide_ is not None
        seen = _unwritable(magnitudes)
        decided = checked("decide", guard.call("decide", decide_, state, seen))
        if guard.is_first("decide"):
            guard.must_agree("decide", decided, guard.call("decide", decide_, state, seen))
        return decided

    return replace(controller, init=init, step=step, decide=None if decide_ is None else decide)


def _unwritable(magnitudes: Magnitudes | None) -> Magnitudes | None:
    if magnitudes is None:
        return None
    return replace(magnitudes, counts=read_only(magnitudes.counts), energies=read_only(magnitudes.energies))


def check_state(guard: Guard, function: str, kind: type[State], state: Any, k_min: int, k_max: int) -> None:
    """Raise PartError unless ``state`` is a ``kind`` with a k within bounds that a checkpoint can keep."""
    if type(state) is not kind:
        guard.refuse(function, f"gave a {type(state).__name__}", f"a {kind.__name__}, the state it announces")
    guard.integer(function, state.k, k_min, k_max, "k")
    guard.integer(function, state.k_probe, 0, max(0, state.k - 1), "k_probe")
    allowed = "numbers, strings and tuples of them in a state"
    try:
        restored = kind.from_dict(json.loads(json.dumps(state.to_dict())))
    except (TypeError, ValueError) as error:
        guard.refuse(function, f"gave a state that a checkpoint cannot keep ({error})", allowed)
    if not same(restored, state):
        guard.refuse(function, "gave a state that a checkpoint changes", allowed)


def check_shares(guard: Guard, shares: Any, sizes: Sequence[int], k: int) -> None:
    """Raise PartError unless ``shares`` has a number of entries for each of the layers of ``sizes``, ``k`` in all."""
    allowed = f"a tuple of an int for each of {len(sizes)} layers, at most its size, {k} in all"
    fits = isinstance(shares, tuple) and len(shares) == len(sizes)
    fits = fits and all(
        type(own) is int and 0 <= own <= size for own, size in zip(shares, sizes, strict=True)
    )
    if not fits or sum(shares) != k:
        guard.refuse("layer_k", f"gave {shortened(repr(shares))}", allowed)
