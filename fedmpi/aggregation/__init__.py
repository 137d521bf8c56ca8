"""What the server makes of the updates of a round: their mean, what takes its place, and what becomes of it.

An aggregator is a value, ``interface.Aggregator``; a user's own is named ``module:attribute``.
"""

from fedmpi.aggregation.interface import Aggregator

BUILT_IN = {
    "mean": "fedmpi.aggregation.means:MEAN",
    "trimmed_mean": "fedmpi.aggregation.means:trimmed_mean",
    "fedavgm": "fedmpi.aggregation.server_optimizers:fedavgm",
    "fedadam": "fedmpi.aggregation.server_optimizers:fedadam",
    "fedyogi": "fedmpi.aggregation.server_optimizers:fedyogi",
}


__all__ = ["BUILT_IN", "Aggregator"]
