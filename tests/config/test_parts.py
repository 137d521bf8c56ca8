"""Finding parts: names, options by signature, and one line for whatever is wrong."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from fedmpi.config import ConfigError, parts


@dataclass(frozen=True)
class Thing:
    """Stands for a descriptor."""

    size: float = 1.0
    name: str = ""


THING = Thing(3.0)
NOTHING = 7


def thing(size: float, name: str = "n", *, count: int | None = None) -> Thing:
    if size < 0:
        raise ValueError(f"size is {size}, allowed are numbers from 0 on")
    return Thing(size, name)


def broken() -> Thing:
    raise RuntimeError("out of\n order")


def wrong() -> str:
    return "no thing"


def reading(folder: str, alpha: float, depth: int = 2) -> tuple[Any, ...]:
    return folder, alpha, depth


def taking_all(size: float, **others: Any) -> Thing:
    return Thing(size, ",".join(f"{name}={value}" for name, value in others.items()))


HERE = __name__


@pytest.mark.parametrize("key", parts.FAMILIES)
def test_every_built_in_name_can_be_found(key: str) -> None:
    for name, reference in parts.built_in(key).items():
        assert parts.is_reference(reference)
        assert parts.find(key, name) is parts.find(key, reference)


@pytest.mark.parametrize("key", parts.FAMILIES)
def test_names_are_looked_up_without_torch(key: str) -> None:
    assert parts.built_in(key)
    with pytest.raises(ConfigError, match="or module:attribute"):
        parts.check_name(key, "no such name")


def test_a_part_or_what_makes_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_guarded", lambda key, name, part: part)
    assert parts.build("pruning.method", f"{HERE}:THING", {}, Thing) is THING
    assert parts.build("pruning.method", f"{HERE}:thing", {"size": 2, "name": "x"}, Thing) == Thing(2.0, "x")


def test_a_function_that_takes_any_option_gets_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_guarded", lambda key, name, part: part)
    options = {"size": 2.0, "depth": 3, "width": 4}
    made = parts.build("pruning.method", f"{HERE}:taking_all", options, Thing)
    assert made == Thing(2.0, "depth=3,width=4")
    assert parts.options_taken("pruning.method", f"{HERE}:taking_all", options) == options


REFUSED: dict[str, tuple[str, Mapping[str, Any], str]] = {
    "no module": ("no_such_module:x", {}, r"\[pruning\] method: 'no_such_module:x' cannot be imported"),
    "no attribute": (f"{HERE}:borken", {}, r"has no 'borken'; did you mean broken\?"),
    "no part": (f"{HERE}:NOTHING", {}, r"is a int; allowed: .*Thing, or a function that makes one"),
    "another part": (f"{HERE}:wrong", {}, r"made a str; allowed: .*Thing"),
    "options of a part": (
        f"{HERE}:THING",
        {"size": 1},
        r"\[pruning.options\] size: unknown option .*takes no options",
    ),
    "unknown option": (
        f"{HERE}:thing",
        {"size": 1.0, "nam": "x"},
        r"\[pruning.options\] nam: .*did you mean name\?",
    ),
    "missing option": (f"{HERE}:thing", {}, r"\[pruning.options\] size: is not set.*size, name = \"n\""),
    "type": (f"{HERE}:thing", {"size": "big"}, r'\[pruning.options\] size: found "big"; allowed: a number'),
    "type of text": (
        f"{HERE}:thing",
        {"size": 1.0, "name": 3},
        r"\[pruning.options\] name: found 3; allowed: a string",
    ),
    "value": (f"{HERE}:thing", {"size": -1.0}, r"\[pruning.options\]: refused by .*: size is -1"),
    "failure": (f"{HERE}:broken", {}, r"failed: RuntimeError: out of order"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_built_is_refused_in_one_line(case: str) -> None:
    name, options, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message) as caught:
        parts.build("pruning.method", name, options, Thing)
    assert "\n" not in str(caught.value)


def test_a_module_that_fails_when_it_is_imported(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "failing_part.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    with pytest.raises(ConfigError, match="cannot be imported: ZeroDivisionError"):
        parts.find("pruning.method", "failing_part:x")


def test_functions_get_the_keys_of_their_table_and_the_options() -> None:
    settings = {"alpha": 0.5, "path": "p"}
    read = parts.function("data.dataset", f"{HERE}:reading", {"depth": 5}, settings)
    assert read("f") == ("f", 0.5, 5)
    with pytest.raises(ConfigError, match=r"\[data.options\] alpha: unknown option.*; allowed: depth = 2"):
        parts.function("data.dataset", f"{HERE}:reading", {"alpha": 1.0}, settings)


def test_options_that_two_parts_share() -> None:
    names = {"data.dataset": f"{HERE}:reading", "data.partition": "iid"}
    parts.check_shared_options(names, {"depth": 3})
    assert parts.options_taken("data.dataset", names["data.dataset"], {"depth": 3, "x": 1}) == {"depth": 3}
    with pytest.raises(ConfigError, match=r"\[data.options\] width: unknown option of"):
        parts.check_shared_options(names, {"depth": 3, "width": 1})
