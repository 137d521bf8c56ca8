"""A user's method under watch: what keeps to the rules goes through unchanged, each fault is one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from fedmpi.config import parts
from fedmpi.config.guarding import Guard, PartError
from fedmpi.sparsification import Selection, SparseMethod, Uploads, fub_flat
from fedmpi.sparsification.codec import Codec, WireCodec
from fedmpi.sparsification.guarded import guarded, guarded_codec
from fedmpi.sparsification.interface import Choice, DenseMethod, Method, ServerMemory
from fedmpi.sparsification.stc import TernaryCodec
from fedmpi.sparsification.uploads import selection_at
from fedmpi.sparsification.wire import Entries, Message

CHOICE = Choice(1, 2, 3, [slice(0, 8)])
VECTOR = np.array([0, 2, 0, 0, -1, 0, 3, 0], np.float32)


def int32(*indices: int) -> np.ndarray:
    return np.array(indices, np.int32)


def float32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def uploads() -> Uploads:
    """Two clients, who both sent coordinate 1."""
    values = float32(2, -1), float32(1, 3)
    return Uploads((int32(1, 4), int32(1, 6)), values, np.array([0.25, 0.75]), 8)


GOOD = selection_at(uploads(), int32(1, 6))


def guard(thorough: bool = False) -> Guard:
    return Guard("sparsification.method", "mine:X", thorough)


def watched(thorough: bool = False, **changes: Any) -> SparseMethod:
    method = SparseMethod(summary="mine", **{"select": lambda uploads, k: GOOD, **changes})
    found = guarded(method, guard(thorough))
    assert isinstance(found, SparseMethod)
    return found


def refused(message: str, call: Callable[[], Any]) -> None:
    with pytest.raises(PartError, match=re.escape(message)) as caught:
        call()
    assert str(caught.value).startswith('[sparsification] method: "mine:X": ')
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["fab", "fub_tree", "unidirectional", "random_k", "periodic", "stc", "qsgd"])
def test_what_keeps_to_the_rules_is_as_without_watch(name: str) -> None:
    plain = parts.build("sparsification.method", name, {}, SparseMethod)
    under_watch = guarded(plain, guard(thorough=True))
    assert isinstance(under_watch, SparseMethod)
    for _ in range(2):
        one, other = (each.select(uploads(), 3) for each in (plain, under_watch))
        assert one.indices.tolist() == other.indices.tolist()
        assert (one.values.tolist(), one.used.tolist()) == (other.values.tolist(), other.used.tolist())
        chosen = [each.choose(VECTOR, 2, CHOICE) for each in (plain, under_watch)]
        assert chosen[0].tolist() == chosen[1].tolist()
    if plain.coordinates is not None:
        assert under_watch.coordinates is not None
        at = [each(8, 3, CHOICE).tolist() for each in (plain.coordinates, under_watch.coordinates)]
        assert at[0] == at[1]


def selected(*at: int, **changes: Any) -> Selection:
    return replace(selection_at(uploads(), int32(*at)), **changes)


USED = {"used": np.array([True, False, True, True])}
FAULTS: dict[str, tuple[Any, str]] = {
    "nothing": (None, "gave None; allowed: a fedmpi.sparsification.uploads.Selection"),
    "falling": (selected(indices=int32(6, 1)), "gave indices that do not rise: 1 after 6"),
    "beyond": (selected(indices=int32(1, 8)), "gave 8 among indices, out of range; allowed: indices from 0 to 7"),
    "values": (selected(1, 6, values=np.ones(3)), "gave values as float64 of shape (3,)"),
    "infinite": (selected(1, 6, values=np.array([1, np.inf])), "gave values with inf at 1"),
    "flags": (selected(1, 6, used=np.ones(3, np.bool_)), "gave used, a flag for every entry in client order, as"),
    "many": (selected(1, 4, 6), "selected 3 entries, k being 1; allowed: at most 2, or at_most_k_down=False"),
    "left out": (selected(1, **USED), "flags an entry as used whose coordinate it left out"),
    "unused": (
        selected(1, 6, used=np.array([True, False, False, True])),
        "did not use an entry whose coordinate it selected, which clients cannot see",
    ),
    "unsent": (selected(1, 5), "selected coordinate 5, which nobody sent"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_selections_that_break_a_rule_are_refused(name: str) -> None:
    """In any round."""
    selection, message = FAULTS[name]
    given = iter([GOOD, GOOD, selection])
    method = watched(select=lambda uploads, k: next(given))
    assert method.select(uploads(), 1).indices.tolist() == [1, 6]
    refused(f"select {message}", lambda: method.select(uploads(), 1))


@pytest.mark.parametrize(
    ("name", "allowing"), [("many", {"at_most_k_down": False}), ("unused", {"confirm_used": True})]
)
def test_what_a_method_announces_is_allowed(name: str, allowing: dict[str, Any]) -> None:
    selection, _ = FAULTS[name]
    assert watched(select=lambda uploads, k: selection, **allowing).select(uploads(), 1).used.any()


def test_up_to_k_entries_are_selected_or_as_many_as_a_client_sent() -> None:
    three, two = selected(1, 4, 6), selected(1, 6)
    assert watched(select=lambda uploads, k: three).select(uploads(), 3).indices.size == 3
    assert watched(select=lambda uploads, k: two).select(uploads(), 0).indices.size == 2
    refused("selected 3 entries", lambda: watched(select=lambda uploads, k: three).select(uploads(), 2))


def test_a_server_with_a_memory_takes_all_that_was_sent() -> None:
    server = ServerMemory(lambda memory, k, choice: int32(0))
    everything = selected(1, 4, 6)
    assert watched(select=lambda uploads, k: everything, server=server).select(uploads(), 3).used.all()
    some = selected(1, 6, used=np.array([True, False, True, True]))
    method = watched(select=lambda uploads, k: some, server=server)
    refused("select did not flag all that was sent as used", lambda: method.select(uploads(), 3))


@pytest.mark.parametrize(
    ("off", "method", "thorough", "found"),
    [
        (1.25, {}, True, "gave 1.5625 at coordinate 1, but what it flags as used there sums to 1.25"),
        (1 + 1e-5, {}, True, "error feedback would lose the difference"),
        (1 + 1e-7, {}, True, ""),
        (1.25, {}, False, ""),
        (1.25, {"memory": "none"}, True, ""),
    ],
)
def test_what_counts_as_used_is_in_the_values(off: float, method: Any, thorough: bool, found: str) -> None:
    wrong = replace(GOOD, values=GOOD.values * off)
    select = watched(thorough, select=lambda uploads, k: wrong, **method).select
    if found:
        refused(found, lambda: select(uploads(), 2))
    else:
        assert select(uploads(), 2).values.tolist() == wrong.values.tolist()


def test_clients_of_opposite_signs_may_cancel() -> None:
    """The tolerance goes by all that was added up, not by the sum, nor by who comes last."""
    sent = Uploads(
        (int32(1),) * 3, (float32(1), float32(-1), float32(2**-20)), np.array([0.25, 0.25, 0.5]), 8
    )
    made = replace(selection_at(sent, int32(1)), values=np.array([2**-21 + 1e-8]))
    assert (
        watched(True, select=lambda uploads, k: made).select(sent, 1).values.tolist() == made.values.tolist()
    )
    made = replace(made, values=np.array([2**-21 + 1e-6]))
    refused(
        "error feedback would lose", lambda: watched(True, select=lambda uploads, k: made).select(sent, 1)
    )


def counting(*made: Any) -> Callable[..., Any]:
    """A function that gives another result each time."""
    given = iter(made)
    return lambda *arguments: next(given)


def test_functions_that_remember_elsewhere_are_refused() -> None:
    """They are called twice the first time."""
    other = "gave another result for the same arguments"
    refused(f"select {other}", lambda: watched(select=counting(GOOD, selected(1))).select(uploads(), 2))
    method = watched(choose=counting(int32(1), int32(2)))
    refused(f"choose {other}", lambda: method.choose(VECTOR, 1, CHOICE))
    at = watched(coordinates=counting(int32(1), int32(2))).coordinates
    assert at is not None
    refused(f"coordinates {other}", lambda: at(8, 1, CHOICE))
    once = watched(choose=counting(int32(1), int32(1), int32(2)))
    assert [once.choose(VECTOR, 1, CHOICE).tolist() for _ in range(2)] == [[1], [2]]


def test_entries_that_break_a_rule_are_refused() -> None:
    for wrong, message in (
        (int32(3, 2), "gave indices that do not rise: 2 after 3"),
        (int32(2, 8), "gave 8 among indices, out of range"),
    ):
        method = watched(
            choose=lambda accumulated, k, choice, wrong=wrong: wrong,
            coordinates=lambda dimension, k, choice, wrong=wrong: wrong,
            server=ServerMemory(lambda memory, k, choice, wrong=wrong: wrong),
        )
        assert method.server is not None
        assert method.coordinates is not None
        refused(f"choose {message}", lambda method=method: method.choose(VECTOR, 2, CHOICE))
        refused(f"server.choose {message}", lambda method=method: method.server.choose(VECTOR, 2, CHOICE))
        refused(f"coordinates {message}", lambda method=method: method.coordinates(8, 2, CHOICE))


def test_arguments_cannot_be_written_to() -> None:
    def choose(accumulated: np.ndarray, k: int, choice: Choice) -> np.ndarray:
        accumulated[0] = 1.0
        return int32(0)

    def select(sent: Uploads, k: int) -> Selection:
        (sent.values[0] if sent.rows is None else sent.rows[1])[0] = 1.0
        return GOOD

    unchanged = "a function that leaves its arguments as they are"
    mine = VECTOR.copy()
    refused(unchanged, lambda: watched(choose=choose).choose(mine, 1, CHOICE))
    mine[0] = 1.0  # whose it is may go on writing to it
    many = Uploads((int32(1),) * 20 + tuple(int32(2) for _ in range(20)), (float32(1),) * 40, np.ones(40), 8)
    for sent in (uploads(), many):
        refused(unchanged, lambda sent=sent: watched(select=select).select(sent, 2))


def test_indices_of_other_integers_are_taken() -> None:
    wide = replace(GOOD, indices=GOOD.indices.astype(np.int64))
    assert watched(select=lambda uploads, k: wide).select(uploads(), 2).indices.dtype == np.int32
    method = watched(choose=lambda accumulated, k, choice: np.array([1, 3]))
    assert method.choose(VECTOR, 2, CHOICE).dtype == np.int32


@pytest.mark.parametrize("rounds", [0, 2**31, 1.0, True])
def test_periods_that_break_a_rule_are_refused(rounds: Any) -> None:
    method = guarded(DenseMethod(summary="mine", period=lambda dimension, k: rounds), guard())
    assert isinstance(method, DenseMethod)
    assert method.period is not None
    message = f"period gave rounds = {rounds}"
    refused(message, lambda: method.period(8, 2))  # type: ignore[misc]


def test_what_has_nothing_to_watch_stays_as_it_is() -> None:
    for method in (DenseMethod(summary="mine"), Method(summary="mine")):
        assert guarded(method, guard()) is method
    periodic = guarded(DenseMethod(summary="mine", period=lambda dimension, k: dimension // k), guard())
    assert isinstance(periodic, DenseMethod)
    assert periodic.period is not None
    assert periodic.period(8, 2) == 4
    assert guarded_codec(guard(), WireCodec("coo")) == WireCodec("coo")
    twice = guarded_codec(guard(), TernaryCodec())
    assert guarded_codec(guard(), twice) is twice
    assert watched().choose is SparseMethod(summary="", select=fub_flat.select).choose


@dataclass(frozen=True)
class Own:
    """A codec that passes messages of the wire on, with a fault."""

    lossy: bool = False
    made: Callable[[Message], Any] = lambda message: message
    read: Callable[[Entries], Any] = lambda entries: entries
    size: Any = 100
    by_dimension: Any = (16.0, 0.5)

    def encode(self, *arguments: Any) -> Any:
        return self.made(WireCodec("coo").encode(*arguments))

    def decode(self, *arguments: Any) -> Any:
        return self.read(WireCodec("coo").decode(*arguments))

    def message_bytes(self, entries: int, dimension: int) -> Any:
        return self.size

    def bytes_by_dimension(self, entries: int, dimension: int) -> Any:
        return self.by_dimension


TWO, TAIL = (int32(1, 4), float32(2.0, -1.0), 8), float32(0.5)
CODECS: dict[str, tuple[Own, str]] = {
    "nothing": (Own(made=lambda m: None), "codec.encode gave None"),
    "bytes": (Own(made=lambda m: m._replace(data=m.data.view(np.int8))), "codec.encode gave data as int8"),
    "short": (Own(made=lambda m: m._replace(values=m.values[1:])), "codec.encode gave values as float32 of shape (1,)"),
    "nan": (Own(lossy=True, made=lambda m: m._replace(values=m.values * np.nan)), "codec.encode gave values with nan"),
    "changed": (Own(made=lambda m: m._replace(values=2 * m.values)), "codec.encode changed values"),
    "indices": (Own(read=lambda e: e._replace(indices=int32(1, 5))), "codec.decode read indices that are not those"),
    "values": (Own(read=lambda e: e._replace(values=2 * e.values)), "codec.decode read values that are not those"),
    "tail": (Own(read=lambda e: e._replace(tail=2 * e.tail)), "codec.decode read the tail that are not those"),
    "rising": (Own(read=lambda e: e._replace(indices=int32(4, 1))), "codec.decode gave indices that do not rise"),
    "fewer": (Own(read=lambda e: e._replace(values=e.values[1:])), "codec.decode gave values as float32 of shape (1,)"),
    "tails": (Own(read=lambda e: e._replace(tail=e.tail[1:])), "codec.decode gave tail as float32 of shape (0,)"),
    "none read": (Own(read=lambda e: None), "codec.decode gave None"),
}  # fmt: skip


@pytest.mark.parametrize("name", CODECS)
def test_messages_that_break_a_rule_are_refused(name: str) -> None:
    codec, message = CODECS[name]
    method = watched(codec=codec, codec_down=codec, codec_at=lambda k, choice: codec)
    assert method.codec_at is not None
    for each in (method.codec, method.codec_down, method.codec_at(2, CHOICE)):
        assert each is not None
        # The bytes are looked at in the first call alone, and the three share a guard.
        if each is method.codec or not message.startswith("codec.decode read"):
            refused(message, lambda each=each: each.encode(*TWO, TAIL) and each.decode(bytes_of(), 8, 1))


def bytes_of() -> np.ndarray:
    return WireCodec("coo").encode(*TWO, TAIL).data


def test_messages_that_keep_to_the_rules_are_passed_on() -> None:
    halved = Own(
        lossy=True,
        made=lambda m: m._replace(values=m.values / 2),
        read=lambda e: e._replace(values=e.values / 2),
    )
    for own, factor in ((Own(), 1.0), (halved, 0.5)):
        codec: Codec = guarded_codec(guard(), own)
        assert codec.lossy == own.lossy
        for tail in (TAIL, TAIL[:0]):
            message = codec.encode(*TWO, tail)
            assert message.data.tolist() == WireCodec("coo").encode(*TWO, tail).data.tolist()
            assert message.values.tolist() == [2.0 * factor, -1.0 * factor]
            entries = codec.decode(message.data, 8, len(tail))
            assert (entries.indices.tolist(), entries.tail.tolist()) == ([1, 4], tail.tolist())
        assert codec.message_bytes(2, 8) == 100
        assert codec.bytes_by_dimension(2, 8) == (16.0, 0.5)


@pytest.mark.parametrize("size", [-1, 1.5, 2**62 + 1])
def test_lengths_that_break_a_rule_are_refused(size: Any) -> None:
    codec = guarded_codec(guard(), Own(size=size, by_dimension=16.0))
    refused(f"codec.message_bytes gave bytes = {size}", lambda: codec.message_bytes(2, 8))
    refused("codec.bytes_by_dimension gave 16.0", lambda: codec.bytes_by_dimension(2, 8))


def test_a_codec_without_a_function_is_refused() -> None:
    refused(
        "codec has no lossy; allowed: a fedmpi.sparsification.Codec", lambda: guarded_codec(guard(), object())
    )
