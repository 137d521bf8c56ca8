"""The numbers that each key can take. Every range has two ends, so that sums and products of them stay finite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from fedmpi.config.errors import refusal
from fedmpi.config.schema import Config, value_of


@dataclass(frozen=True)
class Range:
    """The numbers from ``low`` to ``high``; NaN is in no range.

    ``low`` itself is left out where ``above``, ``high`` itself where ``below``. With ``or_inf`` infinity is allowed
    too, as "no limit". ``zero`` says what 0 means where it is no number like the others.
    """

    low: float
    high: float
    whole: bool = False
    above: bool = False
    below: bool = False
    or_inf: bool = False
    zero: str = ""

    @property
    def allowed(self) -> str:
        """The range in words."""
        kind = "an integer" if self.whole else "a number"
        low, high = (str(end) if isinstance(end, int) else f"{end:g}" for end in (self.low, self.high))
        start = f"above {low}" if self.above else f"from {low}"
        stop = f"to below {high}" if self.below else f"and at most {high}" if self.above else f"to {high}"
        zero = f", or 0 for {self.zero}" if self.zero else ""
        return f"{kind} {start} {stop}" + (", or inf" if self.or_inf else "") + zero

    def holds(self, value: float) -> bool:
        """Whether ``value`` is in the range; a comparison with NaN is never true."""
        if (self.or_inf and value == inf) or (self.zero and value == 0):
            return True
        above = self.low < value if self.above else self.low <= value
        return above and (value < self.high if self.below else value <= self.high)


_MOST_INT32 = 2**31 - 1
"""Rounds key the random streams with 32 bits, and indices of a flat vector are int32."""

COUNT = Range(1, _MOST_INT32, whole=True)
COUNT_OR_ZERO = Range(0, _MOST_INT32, whole=True)
SEED = Range(0, 2**63 - 1, whole=True)
"""As large as integers of HDF5, and of other readers of TOML, can be."""
CLIENTS = Range(1, 10**6, whole=True)
"""Devices are drawn and looked at one by one: with so many, that takes seconds."""
STEPS = Range(1, 10**6, whole=True)
EPOCHS = Range(0, 10**6, whole=True)
ARMS = Range(0, 10**6, whole=True)
THREADS = Range(1, 1024, whole=True)
PIXELS = Range(0, 4096, whole=True)
CLASSES = Range(0, 10**6, whole=True)
"""The classes of a data set; every one is an output of the model."""
WIDTH = Range(1, _MOST_INT32, whole=True)
MOST_LAYERS = 1000
MOST_PARAMETERS = _MOST_INT32
MOST_SAMPLES = 10**8
"""That one client takes in one round: the order of all of them is drawn at once."""
FRACTION = Range(0, 1, above=True)
FRACTION_OR_ZERO = Range(0, 1, above=True, zero="none")
BELOW_ONE = Range(0, 1, below=True)
FLOAT32 = Range(1e-37, 1e38)
"""What multiplies gradients, which are float32."""
FLOAT32_OR_ZERO = Range(0, 1e38)
OVER_SELECTION = Range(0, 100)
ALPHA = Range(1e-6, 1e6)
"""Beyond, Dirichlet's draws are all-or-nothing, or equal, within rounding, or not numbers at all."""
HALF_LIFE = Range(1e-3, 1e12, or_inf=True)
SECONDS = Range(1e-9, 1e9)
"""A time that passes in one piece: from a nanosecond to 32 years."""
SECONDS_OR_ZERO = Range(0, 1e9)
SECONDS_OR_INF = Range(1e-9, 1e9, or_inf=True)
TOTAL_SECONDS = Range(1e-9, 1e18)
FACTOR = Range(1e-9, 1e9)
RATE = Range(1e-6, 1e6)
"""Mbit/s: from a bit to a terabit per second. Wider apart, rates on one link are beyond the digits of float64."""
RATE_OR_INF = Range(1e-6, 1e6, or_inf=True)
BIN = Range(1e-3, 1e6)
"""Seconds: chances to send stand in a file by the millisecond."""
WATTS = Range(0, 1e4)
"""Of a whole device; 0 is a power like any other, an unknown one is left out."""
FLOPS_PER_S = Range(1e3, 1e18)
TIMEOUT = Range(1, 10**6, zero="none")

RANGES: Mapping[str, Range] = {
    "experiment.seed": SEED,
    "experiment.rounds": COUNT,
    "experiment.evaluate_every": COUNT,
    "experiment.checkpoint_every": COUNT_OR_ZERO,
    "experiment.stop_at_accuracy": FRACTION,
    "experiment.stop_at_emulated_s": TOTAL_SECONDS,
    "experiment.stop_at_host_s": TOTAL_SECONDS,
    "experiment.stall_timeout_s": TIMEOUT,
    "clients.count": CLIENTS,
    "clients.per_round": COUNT_OR_ZERO,
    "placement.threads_per_rank": THREADS,
    "data.image_size": PIXELS,
    "data.classes": CLASSES,
    "data.alpha": ALPHA,
    "data.shards_per_client": COUNT,
    "data.labels_per_client": COUNT,
    "data.samples_per_client": COUNT_OR_ZERO,
    "data.client_test_fraction": BELOW_ONE,
    "training.local_steps": STEPS,
    "training.local_epochs": EPOCHS,
    "training.batch_size": COUNT,
    "training.learning_rate": FLOAT32,
    "training.learning_rate_half_life_rounds": HALF_LIFE,
    "training.momentum": BELOW_ONE,
    "training.weight_decay": FLOAT32_OR_ZERO,
    "training.proximal_mu": FLOAT32_OR_ZERO,
    "training.evaluation_batch_size": COUNT,
    "federation.deadline_s": SECONDS_OR_INF,
    "federation.over_selection": OVER_SELECTION,
    "federation.min_updates": COUNT,
    "sparsification.k": COUNT_OR_ZERO,
    "sparsification.k_fraction": FRACTION_OR_ZERO,
    "k_control.k_initial_fraction": FRACTION,
    "k_control.k_min_fraction": FRACTION,
    "k_control.arms": ARMS,
    "k_control.horizon_rounds": COUNT_OR_ZERO,
    "pruning.reconfigure_every": COUNT,
    "pruning.max_decrease_fraction": FRACTION,
    "pruning.half_life_rounds": HALF_LIFE,
    "pruning.max_density": FRACTION,
    "pruning.target_density": FRACTION,
    "pruning.initial.client": COUNT_OR_ZERO,
    "pruning.initial.max_rounds": COUNT,
    "emulation.time_scale": FACTOR,
    "emulation.compute.unit_s": SECONDS,
    "emulation.compute.slowdown": FACTOR,
    "emulation.compute.beta": FACTOR,
    "emulation.availability.probability": FRACTION,
    "emulation.availability.period_s": SECONDS_OR_INF,
    "emulation.availability.dropout_probability": BELOW_ONE,
    "emulation.network.trace_bin_s": BIN,
    "emulation.network.server_ingress_mbit_per_s": RATE_OR_INF,
    "emulation.network.server_egress_mbit_per_s": RATE_OR_INF,
}
"""The range of every key that is one number; those of lists and tables are checked where their form is."""


def check_ranges(config: Config) -> None:
    """Raise ConfigError for a number outside of its range; what is None is not set."""
    for key, allowed in RANGES.items():
        value = value_of(config, key)
        if value is not None and not allowed.holds(value):
            raise refusal(key, value, allowed.allowed)
