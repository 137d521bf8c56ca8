"""The numbers that each key can take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf

from fedmpi.config.errors import refusal
from fedmpi.config.schema import Config, value_of


@dataclass(frozen=True)
class Range:
    """The numbers a key can take; every comparison with NaN fails, so NaN is in no range."""

    allowed: str
    holds: Callable[[float], bool]


COUNT = Range("an integer of at least 1", lambda value: value >= 1)
COUNT_OR_ZERO = Range("an integer of at least 0", lambda value: value >= 0)
ROUNDS = Range("an integer from 1 to 2147483647", lambda value: 1 <= value < 2**31)
CLIENTS = Range("an integer from 1 to 4294967295", lambda value: 1 <= value < 2**32)
POSITIVE = Range("a finite number above 0", lambda value: 0 < value < inf)
POSITIVE_OR_INF = Range("a number above 0, or inf", lambda value: value > 0)
NOT_NEGATIVE = Range("a finite number of at least 0", lambda value: 0 <= value < inf)
BELOW_ONE = Range("a number from 0 to below 1", lambda value: 0 <= value < 1)
FRACTION = Range("a number above 0 and at most 1", lambda value: 0 < value <= 1)
TIMEOUT = Range("0 for none, or a number from 1 to 1000000", lambda value: value == 0 or 1 <= value <= 1e6)
FRACTION_OR_ZERO = Range("a number above 0 and at most 1, or 0 for none", lambda value: 0 <= value <= 1)

RANGES: Mapping[str, Range] = {
    "experiment.seed": COUNT_OR_ZERO,
    "experiment.rounds": ROUNDS,
    "experiment.evaluate_every": COUNT,
    "experiment.checkpoint_every": COUNT_OR_ZERO,
    "experiment.stop_at_accuracy": FRACTION,
    "experiment.stop_at_emulated_s": POSITIVE,
    "experiment.stop_at_host_s": POSITIVE,
    "experiment.stall_timeout_s": TIMEOUT,
    "clients.count": CLIENTS,
    "clients.per_round": COUNT_OR_ZERO,
    "placement.threads_per_rank": COUNT,
    "data.image_size": COUNT_OR_ZERO,
    "data.classes": COUNT_OR_ZERO,
    "data.alpha": POSITIVE,
    "data.shards_per_client": COUNT,
    "data.labels_per_client": COUNT,
    "data.samples_per_client": COUNT_OR_ZERO,
    "training.local_steps": COUNT,
    "training.local_epochs": COUNT_OR_ZERO,
    "training.batch_size": COUNT,
    "training.learning_rate": POSITIVE,
    "training.learning_rate_half_life_rounds": POSITIVE_OR_INF,
    "training.momentum": BELOW_ONE,
    "training.weight_decay": NOT_NEGATIVE,
    "training.evaluation_batch_size": COUNT,
    "sparsification.k": COUNT_OR_ZERO,
    "sparsification.k_fraction": FRACTION_OR_ZERO,
    "k_control.k_initial_fraction": FRACTION,
    "k_control.k_min_fraction": FRACTION,
    "k_control.arms": COUNT_OR_ZERO,
    "k_control.horizon_rounds": COUNT_OR_ZERO,
    "pruning.reconfigure_every": COUNT,
    "pruning.max_decrease_fraction": FRACTION,
    "pruning.half_life_rounds": POSITIVE_OR_INF,
    "pruning.max_density": FRACTION,
    "pruning.target_density": FRACTION,
    "pruning.initial.client": COUNT_OR_ZERO,
    "pruning.initial.max_rounds": ROUNDS,
    "emulation.time_scale": POSITIVE,
    "emulation.compute.unit_s": POSITIVE,
    "emulation.compute.slowdown": POSITIVE,
    "emulation.compute.beta": POSITIVE,
    "emulation.network.latency_s": NOT_NEGATIVE,
    "emulation.network.jitter_s": NOT_NEGATIVE,
    "emulation.network.server_ingress_mbit_per_s": POSITIVE_OR_INF,
    "emulation.network.server_egress_mbit_per_s": POSITIVE_OR_INF,
}


def check_ranges(config: Config) -> None:
    """Raise ConfigError for a number outside of its range; what is None is not set."""
    for key, allowed in RANGES.items():
        value = value_of(config, key)
        if value is not None and not allowed.holds(value):
            raise refusal(key, value, allowed.allowed)
