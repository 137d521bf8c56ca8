"""A user's pruning method under watch: what it asks for, its masks and its states are checked as they are made."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmpi.config.guarding import Guard, Replayed, read_only, same, shown
from fedmpi.k_control.interface import Draw
from fedmpi.pruning.interface import MASK, Change, Method, Needs, Observation, Setup, State
from fedmpi.pruning.mask import Mask

_PLAIN = "numbers, strings, lists of them and tables with strings for keys beside the mask"


def guarded(method: Method, guard: Guard) -> Method:
    """``method``, whose functions raise PartError where they break a rule of ``Method``."""
    init_, needs_, step_ = method.init, method.needs, method.step
    if not (isinstance(method.state, type) and issubclass(method.state, State)):
        guard.refuse("state", f"is {method.state!r}", "a subclass of fedmpi.pruning.State")

    def init(setup: Setup, mask: Mask) -> State:
        state = guard.call("init", init_, setup, mask)
        check_state(guard, "init", method.state, setup, state)
        return state

    def needs(setup: Setup, state: Any, round_index: int) -> Needs:
        wanted = guard.call("needs", needs_, setup, state, round_index)
        check_needs(guard, method, wanted)
        return wanted

    def step(setup: Setup, state: Any, seen: Observation, draw: Draw) -> tuple[State, Change | None]:
        seen, replayed = unwritable(seen), Replayed(draw)
        following, change = guard.pair("step", guard.call("step", step_, setup, state, seen, replayed))
        check_step(guard, method, setup, (state, following, change), needs_(setup, state, seen.round_index))
        if guard.is_first("step"):
            again = guard.pair("step", guard.call("step", step_, setup, state, seen, replayed.again()))
            guard.must_agree("step", _plain(following, change), _plain(*again))
        return following, change

    changes: dict[str, Any] = {"init": init, "needs": needs, "step": step}
    for name in ("first_mask", "own_mask", "own_kept", "probe"):
        function = getattr(method, name)
        if function is not None:
            changes[name] = _masking(guard, name, function)
    if method.gradient_entries is not None:
        changes["gradient_entries"] = _entries(guard, method.gradient_entries)
    if method.most_returned is not None:
        changes["most_returned"] = _returned(guard, method.most_returned)
    return replace(method, **changes)


def _entries(guard: Guard, function: Callable[..., Any]) -> Callable[..., list[int]]:
    """Of a function that gives numbers of entries: one for each prunable layer, no more than are pruned there."""
    name = "gradient_entries"

    def checked(setup: Setup, mask: Mask, round_index: int) -> list[int]:
        found = guard.call(name, function, setup, mask, round_index)
        counts = found.tolist() if isinstance(found, np.ndarray) else found
        layers = len(setup.prunable)
        if not isinstance(counts, (list, tuple)) or len(counts) != layers:
            guard.refuse(name, f"gave {shown(found)}", f"{layers} ints, one for each layer of setup.prunable")
        pruned = (setup.sizes - mask.active_per_layer(setup.prunable)).tolist()
        for layer, (count, most) in enumerate(zip(counts, pruned, strict=True)):
            guard.integer(name, _plain_int(count), 0, most, f"the entries of prunable layer {layer}")
        return [int(count) for count in counts]

    return checked


def _returned(guard: Guard, function: Callable[..., Any]) -> Callable[..., int]:
    """Of a function that gives how many pruned parameters can come back at most."""
    name = "most_returned"

    def checked(setup: Setup, mask: Mask, round_index: int) -> int:
        most = _plain_int(guard.call(name, function, setup, mask, round_index))
        if type(most) is not int or most < 0:
            guard.refuse(name, f"gave {shown(most)}", "an int from 0 on")
        return most

    return checked


def _plain_int(value: Any) -> Any:
    return value.item() if isinstance(value, np.integer) else value


def _masking(guard: Guard, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Of a function that gives a mask: its arrays cannot be written to, and its mask fits."""

    def checked(setup: Setup, *arguments: Any) -> Any:
        seen = [read_only(value) if isinstance(value, np.ndarray) else value for value in arguments]
        mask = guard.call(name, function, setup, *seen)
        if mask is not None or name != "probe":
            check_mask(guard, name, setup, mask)
        if guard.is_first(name):
            guard.must_agree(name, mask, guard.call(name, function, setup, *seen))
        return mask

    return checked


def unwritable(seen: Observation) -> Observation:
    """The same observation, whose arrays cannot be written through."""
    names = ("weights", "gradient", "importance", "votes")
    changes: dict[str, Any] = {
        name: read_only(getattr(seen, name)) for name in names if getattr(seen, name) is not None
    }
    return replace(seen, **changes)


def check_needs(guard: Guard, method: Method, wanted: Any) -> None:
    """Raise PartError unless ``wanted`` is a ``Needs`` that goes with what ``method`` announces."""
    guard.instance("needs", wanted, Needs)
    for need, announced, field in (
        (Needs.TIME, method.by_time, "by_time"),
        (Needs.GRADIENT, method.by_gradient, "by_gradient"),
        (Needs.IMPORTANCE, method.importance, "importance"),
        (Needs.VOTES, method.own_mask is not None, "own_mask"),
    ):
        if need in wanted and not announced:
            allowed = f"{field}=True" if field != "own_mask" else "an own_mask"
            guard.refuse("needs", f"asks for {need.name}, without {field}", f"{allowed} in the descriptor")


def check_step(
    guard: Guard, method: Method, setup: Setup, states: tuple[State, Any, Any], asked: Needs
) -> None:
    """Raise PartError unless a step's state and change go together; ``states``: before, after, and the change."""
    before, state, change = states
    check_state(guard, "step", method.state, setup, state)
    if change is None:
        if not same(state.mask.flags(), before.mask.flags()):
            guard.refuse(
                "step", "changed the mask without a change", "state, Change(mask, {...}) for a new mask"
            )
        return
    guard.instance("step", change, Change)
    check_mask(guard, "step", setup, change.mask)
    if asked is Needs.NOTHING:
        guard.refuse(
            "step", "changed the mask after a round of which nothing was asked", "a change where needs asks"
        )
    if not same(change.mask.flags(), state.mask.flags()):
        guard.refuse("step", "gave a change whose mask is not that of the state", "one and the same mask")
    try:
        json.dumps(dict(change.facts))
    except (TypeError, ValueError) as error:
        guard.refuse("step", f"gave facts that a trace cannot keep ({error})", "plain numbers")


def check_state(guard: Guard, function: str, kind: type[State], setup: Setup, state: Any) -> None:
    """Raise PartError unless ``state`` is a ``kind`` with a mask that fits, and survives a checkpoint."""
    if type(state) is not kind:
        guard.refuse(function, f"gave a {type(state).__name__}", f"a {kind.__name__}, the state it announces")
    check_mask(guard, function, setup, state.mask)
    values = state.to_dict()
    rest = {name: value for name, value in values.items() if name != MASK}
    try:
        through = json.loads(json.dumps(rest))
        again = kind.from_dict({MASK: values[MASK], **through}).to_dict()
    except (TypeError, ValueError) as error:
        guard.refuse(function, f"gave a state that a checkpoint cannot keep ({error})", _PLAIN)
    if not _has_text_for_keys(rest) or not same({name: again[name] for name in rest}, through):
        guard.refuse(function, "gave a state that a checkpoint changes", _PLAIN)


def _has_text_for_keys(value: Any) -> bool:
    """Whether the keys of all tables in ``value`` are strings, which is what JSON makes of them."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _has_text_for_keys(value[key]) for key in value)
    return not isinstance(value, list | tuple) or all(map(_has_text_for_keys, value))


def check_mask(guard: Guard, function: str, setup: Setup, mask: Any) -> None:
    """Raise PartError unless ``mask`` is over all parameters, and prunes only what can be pruned."""
    guard.instance(function, mask, Mask)
    parameters = setup.layers[-1].stop
    if mask.dimension != parameters:
        guard.refuse(function, f"gave a mask over {mask.dimension} parameters", f"one over {parameters}")
    flags: NDArray[np.bool_] = mask.flags()
    for layer in setup.layers:
        if not layer.prunable and not flags[layer.start : layer.stop].all():
            allowed = "changes within the layers of setup.prunable"
            guard.refuse(function, f"pruned parameters from {layer.start} on that cannot be", allowed)


def _plain(state: Any, change: Any) -> tuple[Any, ...]:
    made = None if change is None else (change.mask.flags(), dict(change.facts))
    return state.to_dict() if isinstance(state, State) else state, made
