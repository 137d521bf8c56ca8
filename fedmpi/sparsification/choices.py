"""What clients choose to send other than their largest entries: at random, by a threshold, layer by layer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedmpi.numerics.apportionment import largest_remainder
from fedmpi.numerics.topk import top_k
from fedmpi.sparsification import unidirectional
from fedmpi.sparsification.interface import Choice, SparseMethod

LEAST = float(np.finfo(np.float32).smallest_subnormal)
MOST = float(np.finfo(np.float32).max)


def at_random(accumulated: NDArray[np.float32], k: int, choice: Choice) -> NDArray[np.int32]:
    """``k`` coordinates drawn uniformly without replacement, each client its own."""
    drawn = choice.draw().choice(accumulated.size, size=k, replace=False, shuffle=False)
    return np.sort(drawn).astype(np.int32)


def by_layer(accumulated: NDArray[np.float32], k: int, choice: Choice) -> NDArray[np.int32]:
    """The largest entries of every layer, in number proportional to its size, together ``k``.

    Largest remainders get what is left after rounding down, ties the first layer.
    """
    counts = largest_remainder([layer.stop - layer.start for layer in choice.layers], k)
    chosen = [
        top_k(accumulated[layer], count) + np.int32(layer.start)
        for layer, count in zip(choice.layers, counts.tolist(), strict=True)
    ]
    return np.concatenate(chosen).astype(np.int32, copy=False)


RANDOM_K = SparseMethod(
    summary="k coordinates at random, each client its own; the union of all that was sent comes back",
    source="Stich, Cordonnier, Jaggi, NeurIPS 2018 (rand-k)",
    select=unidirectional.select,
    choose=at_random,
    at_most_k_down=False,
)

LAYER_TOP_K = SparseMethod(
    summary="the largest entries of every layer, in proportion to its size; the union of all that was sent comes back",
    source="Alistarh et al., NeurIPS 2018 (layer-wise top-k)",
    select=unidirectional.select,
    choose=by_layer,
    at_most_k_down=False,
)


def threshold(value: float = 0.01) -> SparseMethod:
    """Entries of magnitude ``value`` or more, but no more than k.

    Raises ValueError unless float32, in which gradients are, has such a magnitude.
    """
    if not LEAST <= value <= MOST:
        raise ValueError(f"value is {value}, allowed are {LEAST:.8g} to {MOST:.8g}")

    def reaching(accumulated: NDArray[np.float32], k: int, choice: Choice) -> NDArray[np.int32]:
        del choice
        found = np.flatnonzero(np.abs(accumulated) >= np.float32(value)).astype(np.int32)
        return found if found.size <= k else found[top_k(accumulated[found], k)]

    return SparseMethod(
        summary="entries of at least a threshold, at most k; the union of all that was sent comes back",
        source="Strom, Interspeech 2015",
        one_k="whose threshold sets how much is sent",
        select=unidirectional.select,
        choose=reaching,
        at_most_k_down=False,
    )
