"""Random-k, and a variant by threshold."""

import numpy as np

from fedmpi.sparsification import SparseMethod, union_of


def random_k(accumulated, k, choice):
    return np.sort(choice.draw().choice(accumulated.size, k, replace=False)).astype(np.int32)


METHOD = SparseMethod(
    summary="k entries at random; all that was sent comes back",
    select=lambda uploads, k: union_of(uploads),
    choose=random_k,
    at_most_k_down=False,
)


def by_threshold(least: float = 0.001, most_fraction: float = 1.0) -> SparseMethod:
    """Entries of magnitude ``least`` or more, at most a fraction of k."""
    if least <= 0:
        raise ValueError(f"least is {least}, allowed are numbers above 0")

    def choose(accumulated, k, choice):
        reaching = np.flatnonzero(np.abs(accumulated) >= least).astype(np.int32)
        return reaching[: int(most_fraction * k)]

    return SparseMethod(
        summary="entries that reach a threshold",
        select=lambda uploads, k: union_of(uploads),
        choose=choose,
        at_most_k_down=False,
    )
