"""The checks accept every built-in part, and find each kind of fault in parts that were broken on purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fedmpi import k_control, pruning
from fedmpi.config import parts
from fedmpi.k_control import Controller
from fedmpi.numerics.topk import top_k
from fedmpi.pruning import Change, Mask, Needs
from fedmpi.pruning.fedtiny import fedtiny
from fedmpi.pruning.interface import Method, State
from fedmpi.sparsification import Selection, SparseMethod, union_of
from fedmpi.sparsification.codec import WireCodec
from fedmpi.sparsification.wire import NO_TAIL, Entries, Message
from fedmpi.testing import check_k_control, check_pruning, check_sparsification


@pytest.mark.parametrize("name", k_control.BUILT_IN)
def test_controllers_pass(name: str) -> None:
    check_k_control(parts.build("k_control.method", name, {}, Controller))


@pytest.mark.parametrize("name", pruning.BUILT_IN)
def test_pruning_methods_pass(name: str) -> None:
    check_pruning(parts.build("pruning.method", name, {}, Method))


def select_all(uploads: Any, k: int) -> Selection:
    return union_of(uploads)


def unused(uploads: Any, k: int) -> Selection:
    selection = union_of(uploads)
    return replace(selection, used=np.zeros_like(selection.used))


def unsent(uploads: Any, k: int) -> Selection:
    everything = np.arange(uploads.dimension, dtype=np.int32)
    return Selection(everything, np.zeros(uploads.dimension), union_of(uploads).used)


def infinite(uploads: Any, k: int) -> Selection:
    selection = union_of(uploads)
    return replace(selection, values=np.full(len(selection.indices), np.inf))


_STATE = np.random.default_rng(1)

BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "floats": ({"choose": lambda a, k, c: top_k(a, k).astype(np.float64)}, "as float64 of shape"),
    "falling": ({"choose": lambda a, k, c: top_k(a, min(a.size, 3))[::-1]}, "do not rise"),
    "outside": ({"choose": lambda a, k, c: np.array([a.size], np.int32)}, "out of range"),
    "moody": (
        {"choose": lambda a, k, c: np.sort(_STATE.permutation(a.size)[: a.size // 2]).astype(np.int32)},
        "choose gave another result for the same arguments",
    ),
    "unused": ({"select": unused}, "or confirm_used=True"),
    "unsent": ({"select": unsent}, "which nobody sent"),
    "global": (
        {"choose": lambda a, k, c: np.sort(np.random.permutation(a.size)[:k]).astype(np.int32)},  # noqa: NPY002
        "choose draws from a global generator",
    ),
    "list": ({"choose": lambda a, k, c: [0]}, "choose gave indices as a list; allowed: integers"),
    "nothing": ({"choose": lambda a, k, c: None}, "choose gave indices as None"),
    "raising": (
        {"choose": lambda a, k, c: a[a.size + 9]},
        r"choose failed: IndexError: .* \(test_checks_of_parts.py",
    ),
    "twice": ({"choose": lambda a, k, c: np.zeros(2, np.int32)}, "do not rise: 0 after 0"),
    "lossy memory": (
        {"select": lambda u, k: replace(union_of(u), values=union_of(u).values / 2)},
        "error feedback would lose the difference",
    ),
    "too many": ({"at_most_k_down": True}, "or at_most_k_down=False"),
    "no selection": (
        {"select": lambda u, k: union_of(u).values},
        "gave float64 of shape .*uploads.Selection",
    ),
    "infinite": ({"select": infinite}, "with inf at 0"),
    "memory": ({"memory": "errors"}, 'memory is "errors"; allowed: "error", "estimate", "none"'),
}


def test_indices_may_be_integers_of_any_width() -> None:
    wide = {"choose": lambda a, k, c: top_k(a, k).astype(np.int64)}
    check_sparsification(SparseMethod(summary="wide", select=select_all, at_most_k_down=False, **wide))


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_method_is_found(name: str) -> None:
    changes, message = BROKEN[name]
    sound = SparseMethod(summary="all", select=select_all, at_most_k_down=False)
    check_sparsification(sound, examples=3)
    with pytest.raises(AssertionError, match=message) as caught:
        check_sparsification(replace(sound, **changes))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith('check_sparsification: "all": ')


def test_what_clients_keep_nothing_of_may_be_scaled() -> None:
    def scaled(uploads: Any, k: int) -> Selection:
        selection = union_of(uploads)
        return replace(selection, values=3 * selection.values)

    check_sparsification(SparseMethod(summary="scaled", select=scaled, at_most_k_down=False, memory="none"))


class Understating(WireCodec):
    """Says that messages are shorter than they are."""

    def message_bytes(self, entries: int, dimension: int) -> int:
        return super().message_bytes(entries, dimension) // 2


class Shifting(WireCodec):
    """Reads other values than it says."""

    def decode(self, data: Any, *arguments: Any) -> Entries:
        entries = super().decode(data, *arguments)
        return entries._replace(values=entries.values + np.float32(1))


def _own(codec: WireCodec) -> Any:
    """``codec`` as one of a user's own, which is no WireCodec."""
    names = ("lossy", "encode", "decode", "message_bytes", "bytes_by_dimension")
    return SimpleNamespace(**{name: getattr(codec, name) for name in names})


class Wordy(WireCodec):
    """Says in words what a coordinate takes."""

    def bytes_by_dimension(self, entries: int, dimension: int) -> Any:
        return 16.0, "half a byte"


@dataclass(frozen=True)
class Whole(WireCodec):
    """Bare values of all coordinates, as a method that sends everything may write them."""

    def encode(self, indices: Any, values: Any, dimension: int, tail: Any = NO_TAIL) -> Message:
        assert len(indices) == dimension
        return Message(np.concatenate([values, tail]).view(np.uint8), values)

    def decode(self, data: Any, dimension: int, tail_length: int = 0, positions: Any = None) -> Entries:
        values, tail = np.split(data.view(np.float32), [dimension])
        return Entries(np.arange(dimension, dtype=np.int32), values, tail)

    def message_bytes(self, entries: int, dimension: int) -> int:
        return 4 * dimension

    def bytes_by_dimension(self, entries: int, dimension: int) -> tuple[float, float]:
        return 0.0, 4.0


def test_the_form_of_a_method_that_sends_everything_need_not_know_fewer() -> None:
    check_sparsification(
        SparseMethod(
            summary="whole",
            select=select_all,
            all_entries=True,
            codec=_own(Whole("dense")),
            codec_down=WireCodec("dense"),
        )
    )


@pytest.mark.parametrize(
    ("codec", "message"),
    [
        (
            Wordy("coo"),
            'codec.bytes_by_dimension gave "half a byte"; allowed: two numbers of bytes, finite and from 0 on',
        ),
        (Shifting("coo"), "codec.decode read values that are not those of the message"),
        (Understating("coo"), "codec.message_bytes announced [0-9]+ bytes for messages of [0-9]+"),
    ],
)
def test_a_broken_codec_is_found(codec: WireCodec, message: str) -> None:
    sound = SparseMethod(summary="all", select=select_all, at_most_k_down=False)
    check_sparsification(replace(sound, codec=_own(WireCodec("coo"))))
    with pytest.raises(AssertionError, match=message):
        check_sparsification(replace(sound, codec=_own(codec)))


def test_the_function_that_makes_a_part_is_none() -> None:
    with pytest.raises(
        AssertionError, match="was given a function; allowed: a SparseMethod, and not the function"
    ):
        check_sparsification(lambda: None)  # type: ignore[arg-type]


def test_a_choice_that_changes_its_argument_is_found() -> None:
    def spoil(accumulated: np.ndarray, k: int, choice: Any) -> np.ndarray:
        accumulated[:] = 0.0
        return np.arange(min(k, accumulated.size), dtype=np.int32)

    with pytest.raises(AssertionError, match="leaves its arguments as they are"):
        check_sparsification(
            SparseMethod(summary="spoils", select=select_all, choose=spoil, at_most_k_down=False)
        )


@dataclass(frozen=True)
class Wild(k_control.State):
    """Keeps nothing more."""


CONTROLLERS: dict[str, tuple[Callable[..., Any], str]] = {
    "beyond": (lambda state, seen, draw: Wild(state.k + 10_000, 0), "allowed"),
    "probe": (lambda state, seen, draw: Wild(state.k, state.k), "k_probe = "),
    "type": (lambda state, seen, draw: k_control.State(state.k, 0), "the state it announces"),
    "moody": (
        lambda state, seen, draw: Wild(state.k, int(_STATE.random() * state.k)),
        "step gave another result for the same arguments",
    ),
}


@pytest.mark.parametrize("name", CONTROLLERS)
def test_a_broken_controller_is_found(name: str) -> None:
    step, message = CONTROLLERS[name]
    with pytest.raises(AssertionError, match=message):
        check_k_control(
            Controller(summary=name, init=lambda setup, draw: Wild(setup.k_initial, 0), step=step, state=Wild)
        )


def test_a_controller_that_decides_beyond_its_bounds_is_found() -> None:
    """Of what can travel there may be less than the smallest k, which is for others to see to."""
    controller = Controller(
        summary="eager",
        init=lambda setup, draw: Wild(setup.k_initial, 0),
        step=lambda state, seen, draw: state,
        state=Wild,
        measures_magnitudes=True,
    )
    check_k_control(controller)
    with pytest.raises(AssertionError, match="decide gave k = "):
        check_k_control(replace(controller, decide=lambda state, seen: Wild(seen.most_k, 0)))


def _wild(**functions: Any) -> Controller:
    def init(setup: k_control.Setup, draw: Any) -> k_control.State:
        return k_control.State(setup.k_initial, 0)

    return Controller(
        summary="wild", init=init, measures_magnitudes=True, **{"step": lambda s, seen, d: s, **functions}
    )


def _spoil(state: Any, magnitudes: Any) -> Any:
    magnitudes.energies[:] = 0.0
    return state


def _moody_choice(state: Any, magnitudes: Any) -> Any:
    return replace(state, k=int(_STATE.integers(magnitudes.counts[0], magnitudes.counts[-1])))


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        (
            {"step": lambda s, seen, d: s if seen.magnitudes is None else _spoil(s, seen.magnitudes)},
            "step failed: ValueError: .* is read-only .*; allowed: a function that leaves its arguments",
        ),
        ({"decide": _spoil}, "decide failed: ValueError: .* is read-only"),
    ],
)
def test_a_controller_that_changes_what_it_is_shown_is_found(functions: dict[str, Any], message: str) -> None:
    check_k_control(_wild())
    with pytest.raises(AssertionError, match=message):
        check_k_control(_wild(**functions))


def test_a_controller_that_keeps_its_setup_elsewhere_is_found() -> None:
    kept: dict[str, int] = {}

    def init(setup: k_control.Setup, draw: Any) -> Wild:
        kept["k_min"] = setup.k_min
        return Wild(setup.k_initial, 0)

    def step(state: Any, seen: Any, draw: Any) -> Wild:
        return Wild(max(kept["k_min"], state.k - 1), 0)

    with pytest.raises(AssertionError, match="step depends on the init of another run"):
        check_k_control(Controller(summary="forgetful", init=init, step=step, state=Wild))


def _broken_pruning(step: Callable[..., Any], needs: Needs = Needs.WEIGHTS) -> Method:
    return replace(pruning.NONE, needs=lambda setup, state, index: needs, step=step)


def _pruned(state: Any, count: int) -> Any:
    flags = np.ones(state.mask.dimension, np.bool_)
    flags[:count] = False
    return replace(state, mask=Mask.of(flags))


PRUNINGS: dict[str, tuple[Method, str]] = {
    "silent": (_broken_pruning(lambda s, state, o, d: (_pruned(state, 3), None)), "without a change"),
    "unprunable": (
        _broken_pruning(lambda s, state, o, d: (_pruned(state, 42), Change(_pruned(state, 42).mask, {}))),
        "that cannot be",
    ),
    "other mask": (
        _broken_pruning(lambda s, state, o, d: (_pruned(state, 3), Change(_pruned(state, 4).mask, {}))),
        "not that of the state",
    ),
    "unasked": (
        _broken_pruning(
            lambda s, state, o, d: (_pruned(state, 3), Change(_pruned(state, 3).mask, {})), Needs.NOTHING
        ),
        "nothing was asked",
    ),
}


def _voting(own_mask: Any) -> Method:
    broken = _broken_pruning(lambda s, state, o, d: (state, None), Needs.VOTES)
    return replace(broken, own_mask=own_mask)


def _spoiling(setup: Any, index: int, weights: np.ndarray, gradient: np.ndarray, mask: Mask) -> Mask:
    gradient[3] = 0.0
    return mask


def _pruned_at_random() -> np.ndarray:
    flags = np.ones(110, np.bool_)
    flags[:40] = _STATE.random(40) < 0.5
    return flags


def _change_mask(setup: Any, state: Any, seen: Any, draw: Any) -> Any:
    state.mask.flags()[:3] = False
    return state, Change(state.mask, {})


def _spoil_weights(setup: Any, state: Any, seen: Any, draw: Any) -> Any:
    seen.weights[:] = 0
    return state, None


PRUNINGS |= {
    "spoiled": (_broken_pruning(_spoil_weights), "leaves its arguments as they are"),
    "no pair": (_broken_pruning(lambda s, state, o, d: state), "allowed: two values"),
    "unannounced": (
        _broken_pruning(lambda s, state, o, d: (state, None), Needs.GRADIENT),
        "asks for GRADIENT, without by_gradient",
    ),
    "no needs": (
        replace(pruning.NONE, needs=lambda s, state, index: True),
        "needs gave True; allowed: a .*Needs",
    ),
    "votes": (_voting(None), "without own_mask"),
    "spoiling": (_voting(_spoiling), "leaves its arguments as they are"),
    "own mask": (
        _voting(lambda s, i, w, g, mask: Mask.of(np.arange(110) != 41)),
        "that cannot be",
    ),
    "moody mask": (
        replace(pruning.NONE, first_mask=lambda setup, weights: Mask.of(_pruned_at_random())),
        "first_mask gave another result for the same arguments",
    ),
    "changed mask": (_broken_pruning(_change_mask), "leaves its arguments as they are"),
    "first mask": (
        replace(pruning.NONE, first_mask=lambda setup, weights: Mask.of(np.arange(110) != 41)),
        "that cannot be",
    ),
}


def _asking(**announced: Any) -> Method:
    broken = _broken_pruning(lambda s, state, o, d: (state, None), Needs.IMPORTANCE)
    return replace(broken, importance=True, **announced)


PRUNINGS |= {
    "more than are pruned": (
        replace(
            _asking(gradient_entries=lambda setup, mask, index: [0, 4]),
            init=lambda setup, mask: _pruned(State(mask), 3),
        ),
        "gradient_entries gave the entries of prunable layer 1 = 4; allowed: an int from 0 to 0",
    ),
    "entries of one layer": (
        _asking(gradient_entries=lambda setup, mask, index: (0,)),
        "gradient_entries gave a tuple; allowed: 2 ints, one for each layer of setup.prunable",
    ),
    "half an entry": (
        _asking(gradient_entries=lambda setup, mask, index: np.array([0.0, 0.5])),
        r"prunable layer 0 = 0.0 \(float\); allowed: an int from 0 to 0",
    ),
    "no entries": (
        _asking(gradient_entries=lambda setup, mask, index: mask.nothing),
        "gradient_entries failed: AttributeError",
    ),
    "less than none": (
        _asking(most_returned=lambda setup, mask, index: -1),
        "most_returned gave -1; allowed: an int from 0 on",
    ),
    "none returned": (_asking(most_returned=lambda setup, mask, index: 1 // 0), "most_returned failed: Zero"),
}


@pytest.mark.parametrize(
    "method",
    [
        fedtiny(gradients="topk"),
        _asking(
            gradient_entries=lambda setup, mask, index: np.zeros(2, np.int64),
            most_returned=lambda setup, mask, index: np.int64(10**12),
        ),
    ],
    ids=["fedtiny", "integers of NumPy"],
)
def test_numbers_of_entries_pass(method: Method) -> None:
    check_pruning(method)


@pytest.mark.parametrize("name", PRUNINGS)
def test_a_broken_pruning_method_is_found(name: str) -> None:
    method, message = PRUNINGS[name]
    with pytest.raises(AssertionError, match=message):
        check_pruning(method)
