"""Values from a file are of the types of a dataclass's fields, or refused with the name of the first that is not."""

from dataclasses import dataclass
from typing import Any

import pytest

from fedmpi.numerics.plain_values import check_plain


@dataclass(frozen=True)
class Kept:
    flag: bool
    count: int
    rate: float
    name: str
    window: tuple[int, ...]
    pair: tuple[int, str]
    rows: list[tuple[int, list[int]]]
    best: float | None
    facts: dict[str, Any]
    other: Any


GOOD = {
    "flag": True,
    "count": 3,
    "rate": 1,
    "name": "a",
    "window": [1, 2],
    "pair": [1, "b"],
    "rows": [[1, [2, 3]], (4, [])],
    "best": None,
    "facts": {"a": 1},
    "other": object(),
}


def test_what_fits_is_let_through() -> None:
    check_plain(Kept, GOOD)
    check_plain(Kept, {**GOOD, "window": (), "best": 1.5, "rate": float("nan"), "unknown": "x"})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("flag", 1, "bool"),
        ("count", True, "int"),
        ("count", 1.0, "int"),
        ("count", None, "int"),
        ("count", 2**63, "int"),
        ("rate", -(2**70), "float"),
        ("rate", "1", "float"),
        ("rate", True, "float"),
        ("name", 5, "str"),
        ("window", 5, r"tuple\[int, ...\]"),
        ("window", [1, "2"], r"tuple\[int, ...\]"),
        ("pair", [1], r"tuple\[int, str\]"),
        ("pair", ["b", 1], r"tuple\[int, str\]"),
        ("rows", [[1, [2.5]]], r"list\[tuple\[int, list\[int\]\]\]"),
        ("best", "x", r"float \| None"),
        ("facts", [1], r"dict\[str, typing.Any\]"),
    ],
)
def test_what_does_not_fit_is_named(name: str, value: object, expected: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is .*, expected is {expected}$"):
        check_plain(Kept, {**GOOD, name: value})


def test_types_that_cannot_be_resolved_refuse_nothing() -> None:
    class Odd:
        count: "NowhereToBeFound"  # noqa: F821

    check_plain(Odd, {"count": "x"})
