"""Numbers on the command line have ranges with two ends."""

import argparse
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.cli.number_arguments import integer, number
from fedmpi.config.ranges import FRACTION


@pytest.mark.parametrize("text", ["1", "007", "9"])
def test_integers_in_the_range(text: str) -> None:
    assert integer(1, 9)(text) == int(text)


@pytest.mark.parametrize(
    "text", ["0", "10", "-1", "1.0", "", " 1", "1_0", "\u0663", "9" * 5000, "inf", "two"]
)
def test_other_integers_are_refused(text: str) -> None:
    with pytest.raises(
        argparse.ArgumentTypeError, match=r"^found .*; allowed: an integer from 1 to 9$"
    ) as caught:
        integer(1, 9)(text)
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize("text", ["1", "0.5", "1e-9"])
def test_numbers_in_the_range(text: str) -> None:
    assert number(FRACTION)(text) == float(text)


@pytest.mark.parametrize("text", ["0", "1.1", "nan", "inf", "half", "9" * 5000])
def test_other_numbers_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"allowed: a number above 0 and at most 1$"):
        number(FRACTION)(text)


@given(st.text())
def test_any_text_is_a_number_or_refused(text: str) -> None:
    for parse in (integer(0), number(FRACTION)):
        with suppress(argparse.ArgumentTypeError):
            assert parse(text) >= 0
