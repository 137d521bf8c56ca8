"""What ``[sparsification]`` means for a model of D parameters."""

from __future__ import annotations

from fedmpi.config.schema import SparsificationConfig
from fedmpi.sparsification.fedavg import matched_period

DENSE_METHODS = ("dense", "fedavg")
"""The methods that send all parameters."""


def fixed_k(section: SparsificationConfig, dimension: int) -> int:
    """The k of a run whose k nobody controls (dense: all D)."""
    if section.method == "dense":
        return dimension
    return section.k or max(1, round(section.k_fraction * dimension))


def exchange_period(section: SparsificationConfig, dimension: int) -> int:
    """Rounds from one exchange to the next."""
    return matched_period(dimension, fixed_k(section, dimension)) if section.method == "fedavg" else 1


def wire_form(section: SparsificationConfig) -> str:
    """The form of its messages: both sides know the positions of ``periodic``."""
    if section.method in DENSE_METHODS:
        return "dense"
    return "values" if section.method == "periodic" else section.wire
