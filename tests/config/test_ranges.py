"""Every number of a configuration has a range with two ends, and whatever a key is given is valid or refused."""

from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from math import inf, isfinite, nan
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmpi.config import Config, ConfigError, loads, validate
from fedmpi.config.limits import RANGES
from fedmpi.config.parts import FAMILIES
from fedmpi.config.ranges import Range
from fedmpi.sweeps.toml_text import value_text


def keys(table: Any = Config, prefix: str = "") -> dict[str, Any]:
    """The dotted path of every key, and its type."""
    found = {}
    for name, kind in get_type_hints(table).items():
        if isinstance(kind, type) and is_dataclass(kind):
            found |= keys(kind, f"{prefix}{name}.")
        else:
            found[prefix + name] = kind
    return found


KEYS = keys()
NUMBERS = {key for key, kind in KEYS.items() if kind in (int, float, float | None)}
OTHERS_WITH_NUMBERS = {
    "model.hidden",
    "emulation.compute.profile",
    "emulation.network.uplink_mbit_per_s",
    "emulation.network.downlink_mbit_per_s",
    "emulation.network.latency_s",
    "emulation.network.jitter_s",
}
HUGE = [10**5000, 10**400, 2**64, 2**63, 10**12, -1, -(2**70), 1e308, -1e308, 1e39, inf, -inf, nan]


def holds_numbers(kind: Any) -> bool:
    if get_origin(kind) in (UnionType, tuple, Mapping) or get_args(kind):
        return any(holds_numbers(part) for part in get_args(kind))
    return kind in (int, float)


def test_every_number_has_a_range_and_every_range_is_of_a_number():
    assert set(RANGES) == NUMBERS
    options = {family.options_key for family in FAMILIES.values()}  # whose numbers are for the parts to check
    assert {
        key for key, kind in KEYS.items() if holds_numbers(kind)
    } == NUMBERS | OTHERS_WITH_NUMBERS | options


def test_every_range_has_two_ends():
    for key, allowed in RANGES.items():
        assert isfinite(allowed.low), key
        assert isfinite(allowed.high), key
        assert allowed.low < allowed.high, key


@pytest.mark.parametrize(
    ("allowed", "inside", "outside", "words"),
    [
        (Range(1, 9, whole=True), [1, 9], [0, 10, inf], "an integer from 1 to 9"),
        (Range(0, 1, above=True), [1e-300, 1], [0, 1.0000001], "a number above 0 and at most 1"),
        (Range(0, 1, below=True), [0, 0.999], [-1e-300, 1], "a number from 0 to below 1"),
        (
            Range(0.5, 2e9, or_inf=True),
            [0.5, 2e9, inf],
            [0.4, 3e9, -inf],
            "a number from 0.5 to 2e+09, or inf",
        ),
        (
            Range(0, 1, above=True, zero="none"),
            [0, 1],
            [-1, 2],
            "a number above 0 and at most 1, or 0 for none",
        ),
    ],
)
def test_the_ends_of_ranges(allowed, inside, outside, words):
    assert all(map(allowed.holds, inside))
    assert not any(map(allowed.holds, [*outside, nan]))
    assert allowed.allowed == words


@pytest.mark.parametrize("key", sorted(NUMBERS))
def test_both_ends_of_a_key_are_allowed_and_what_is_beyond_is_not(key):
    allowed = RANGES[key]
    shown = "[{}] {}".format(*key.rsplit(".", 1))
    for value in HUGE:
        if not allowed.holds(value) and (isinstance(value, int) or KEYS[key] is not int):
            assert one_refusal(key, value).startswith((shown, f"override {key}"))
    step = 1 if allowed.whole else max(1e-6, abs(allowed.high) / 1e6)
    assert f"{shown}: found " in one_refusal(key, (int if allowed.whole else float)(allowed.high + step))


def one_refusal(key: str, value: object) -> str:
    text = "-0x" if isinstance(value, int) and value < 0 else "0x"
    text = text + f"{abs(value):x}" if isinstance(value, int) and abs(value) > 2**80 else value_text(value)
    if text.startswith("-0x"):  # TOML has no negative hexadecimal numbers
        text = str(value)
    with pytest.raises(ConfigError) as caught:
        validate(loads("", [f"{key}={text}"]))
    assert len(str(caught.value)) < 400
    return str(caught.value)


def refused(step: Callable[[], object]) -> str | None:
    """What the refusal of ``step`` says, or None where there is none; any other error is raised."""
    try:
        step()
    except ConfigError as error:
        return str(error)
    return None


scalars = st.one_of(
    st.integers(),
    st.integers(min_value=-(2**70), max_value=2**70),
    st.floats(),
    st.booleans(),
    st.text(max_size=20),
    st.datetimes(),
    st.dates(),
    st.sampled_from(["none", "device", "lognormal", "fab", "prunefl", "a.csv", "x:y"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
)


@settings(max_examples=150)
@given(st.lists(st.tuples(st.sampled_from(sorted(KEYS)), values), min_size=1, max_size=3))
def test_any_value_of_any_key_is_valid_or_refused_in_one_line(changes):
    content: dict[str, Any] = {}
    for key, value in changes:
        *path, name = key.split(".")
        table = content
        for part in path:
            table = table.setdefault(part, {})
        table[name] = value
    text = "\n".join(f"{section} = {value_text(table)}" for section, table in content.items())
    refusal = refused(lambda: validate(loads(text)))
    if refusal is not None:
        assert refusal.isprintable()
        return
    config = loads(text)
    for key, allowed in RANGES.items():
        *path, name = key.split(".")
        part: Any = config
        for step in path:
            part = getattr(part, step)
        value = getattr(part, name)
        assert value is None or allowed.holds(value)


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_override_is_applied_or_refused_in_one_line(key, value):
    refusal = refused(lambda: loads("", [f"{key}={value}", f"experiment.name={value}"]))
    assert refusal is None or refusal.isprintable()
