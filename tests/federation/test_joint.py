"""The mask and k decided together: a fixed point, reached from any k, that no single change improves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.federation.joint import decide_together


def test_choices_that_agree_at_once() -> None:
    asked: list[int] = []

    def mask_for(k: int) -> str:
        asked.append(k)
        return f"mask for {k}"

    assert decide_together(5, mask_for, lambda mask: 5) == ("mask for 5", 5)
    assert asked == [5]


def test_the_mask_is_that_of_the_k_before_it_agreed() -> None:
    assert decide_together(1, lambda k: k * 10, {10: 2, 20: 3, 30: 3}.__getitem__) == (30, 3)


def test_choices_that_go_round_end() -> None:
    assert decide_together(1, lambda k: k, {1: 2, 2: 1}.__getitem__) == (2, 1)


def test_choices_that_never_agree_end() -> None:
    asked: list[int] = []

    def mask_for(k: int) -> int:
        asked.append(k)
        return k

    assert decide_together(1, mask_for, lambda mask: mask + 1) == (9, 9)
    assert asked == [*range(1, 10)]


@given(st.integers(0, 2**32 - 1), st.integers(0, 9))
def test_neither_choice_alone_is_better(seed: int, start: int) -> None:
    """For gains Delta(M) N(k) / T(M, k) of any kind."""
    rng = np.random.default_rng(seed)
    delta, norm = np.sort(rng.uniform(1, 2, 10)), np.sort(rng.uniform(1, 2, 10))
    rate = (
        delta[:, None]
        * norm
        / (1.0 + rng.uniform(0, 1) * np.arange(10)[:, None] + rng.uniform(0, 1) * np.arange(10))
    )
    mask, k = decide_together(
        start, lambda k: int(np.argmax(rate[:, k])), lambda mask: int(np.argmax(rate[mask]))
    )
    assert rate[mask, k] == pytest.approx(rate[mask].max())
    assert rate[mask, k] >= rate[:, start].max() * (1 - 1e-12)
