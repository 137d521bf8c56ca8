"""Distinct labels and writers of clients, by bits where there are few and by sorting where there are many."""

from __future__ import annotations

import numpy as np
import pytest

from fedmpi.experiment.device_rows import _distinct
from fedmpi.learning.division import Division


@pytest.mark.parametrize("kinds", [1, 3, 64, 65, 500])
def test_distinct_values_are_counted(kinds: int) -> None:
    draw = np.random.default_rng(kinds)
    values = draw.integers(0, kinds, 900) * 7 - 5
    samples = Division.cut(draw.permutation(900), np.array([1, 400, 99, 400]))
    expected = [len(set(values[part].tolist())) for part in samples]
    assert _distinct(values, samples).tolist() == expected
    assert _distinct(values, Division.shared(samples[2], 3)).tolist() == [expected[2]] * 3
