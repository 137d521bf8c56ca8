"""Checks of parts, fedmpi's and a user's own: what any part must do for results to be reproducible and accounts exact.

    from fedmpi.testing import check_sparsification
    check_sparsification(my_method)

Each check raises AssertionError with what is wrong, in one line. They need numpy alone; ``check_runs`` starts real
experiments.
"""

from fedmpi.testing.aggregation import check_aggregation
from fedmpi.testing.controllers import check_k_control
from fedmpi.testing.data import check_dataset, check_partition
from fedmpi.testing.emulation import check_availability, check_compute
from fedmpi.testing.methods import check_sparsification
from fedmpi.testing.pruning import check_pruning
from fedmpi.testing.runs import check_runs, same_traces

__all__ = [
    "check_aggregation",
    "check_availability",
    "check_compute",
    "check_dataset",
    "check_k_control",
    "check_partition",
    "check_pruning",
    "check_runs",
    "check_sparsification",
    "same_traces",
]
