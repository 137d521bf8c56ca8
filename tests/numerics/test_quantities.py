"""Durations and sizes for people."""

from __future__ import annotations

from math import inf, nan

import pytest

from fedmpi.numerics.quantities import bytes_text, duration, form_of, plain_seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"),
        (59.94, "59.9 s"),
        (59.97, "1 min 00 s"),
        (60.0, "1 min 00 s"),
        (185.4, "3 min 05 s"),
        (3599.6, "1 h 00 min"),
        (7800.0, "2 h 10 min"),
        (86400.0 * 4 + 6 * 3600, "4 d 06 h"),
    ],
)
def test_durations_have_two_units(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.6, "1 kB"),
        (4_850_000, "4.85 MB"),
        (999_600, "1 MB"),
        (2.5e15, "2.5 PB"),
    ],
)
def test_sizes_have_three_digits(count, text):
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0"), (0.5652, "0.565"), (1.3733, "1.37"), (45.25, "45.2"), (400.0, "400"), (12345.6, "12,346")],
)
def test_plain_seconds_have_three_digits(seconds, text):
    assert plain_seconds(seconds) == text


@pytest.mark.parametrize(
    ("amounts", "decimals", "form"),
    [
        ([110.0, 200.0], 0, "{:,.0f}"),
        ([12.0, nan], 0, "{:,.0f}"),
        ([200.0, 4.5], 0, "{:,.1f}"),
        ([160.0, 0.17], 1, "{:,.2f}"),
        ([160.0], 1, "{:,.1f}"),
        ([0.0, nan], 0, "{:,.0f}"),
        ([inf], 0, "{:,.0f}"),
        ([], 1, "{:,.1f}"),
    ],
)
def test_a_column_shows_two_digits_of_its_least_amount(amounts, decimals, form):
    assert form_of(amounts, decimals) == form
