"""Durations and sizes for people."""

from __future__ import annotations

import pytest

from fedmpi.numerics.quantities import bytes_text, duration


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
