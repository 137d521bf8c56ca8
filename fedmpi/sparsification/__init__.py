"""What the clients send of their accumulated gradients, and what the server sends back.

A selector is a pure function of the round's uploads and k; to add one, write its module and its line here.
Dense averaging, and with it ``fedavg``, is none of them: it goes through ``fedmpi.numerics.exact_sum``.
"""

from collections.abc import Callable

from fedmpi.sparsification import fab, fub_flat, fub_tree, unidirectional
from fedmpi.sparsification.settings import DENSE_METHODS, exchange_period, fixed_k, wire_form
from fedmpi.sparsification.uploads import Selection, Uploads, selection_at

SELECTORS: dict[str, Callable[[Uploads, int], Selection]] = {
    "fab": fab.select,
    "fub_flat": fub_flat.select,
    "fub_tree": fub_tree.select,
    "unidirectional": unidirectional.select,
    "periodic": unidirectional.select,  # all clients send the same coordinates, and all of them come back
}

__all__ = [
    "DENSE_METHODS",
    "SELECTORS",
    "Selection",
    "Uploads",
    "exchange_period",
    "fixed_k",
    "selection_at",
    "wire_form",
]
