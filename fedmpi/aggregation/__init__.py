"""What the server makes of the updates of a round: their mean, what takes its place, and what becomes of it.

An aggregator is a value, ``interface.Aggregator``; a user's own is named ``module:attribute``.
"""

from __future__ import annotations

from fedmpi.aggregation.interface import Aggregator
from fedmpi.config.errors import ConfigError
from fedmpi.config.parts import build
from fedmpi.config.schema import Config

BUILT_IN = {
    "mean": "fedmpi.aggregation.means:MEAN",
    "trimmed_mean": "fedmpi.aggregation.means:trimmed_mean",
    "fedavgm": "fedmpi.aggregation.server_optimizers:fedavgm",
    "fedadam": "fedmpi.aggregation.server_optimizers:fedadam",
    "fedyogi": "fedmpi.aggregation.server_optimizers:fedyogi",
}


def aggregator_of(config: Config) -> Aggregator:
    """The aggregator of ``[federation]``, made with its options. Raises ConfigError also for what it cannot go with."""
    section, sparsification = config.federation, config.sparsification.method
    aggregator = build("federation.aggregator", section.aggregator, section.options, Aggregator)
    if sparsification not in ("dense", "fedavg") and not aggregator.is_mean:
        reason = aggregator.sparse_refused or "which this version has for dense averaging alone"
        problem = f'found "{section.aggregator}" with [sparsification] method "{sparsification}", {reason}'
        allowed = "mean, or [sparsification] method dense or fedavg"
        raise ConfigError("federation.aggregator", problem, allowed)
    if config.pruning.method == "snip" and aggregator.step is not None:
        problem = (
            f'found "{section.aggregator}" with [pruning] method "snip", which takes the change of the '
            f"model for the mean of the updates"
        )
        raise ConfigError("federation.aggregator", problem, "mean, or another pruning.method")
    return aggregator


__all__ = ["BUILT_IN", "Aggregator", "aggregator_of"]
