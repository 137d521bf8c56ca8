"""The configuration of an experiment: frozen dataclasses, one for each TOML table.

Field names are the configuration's keys; units stand in the names. Defaults are those of a plain
federated averaging run without emulated devices. ``fedmpi.config.load`` makes these objects from TOML,
``fedmpi.config.validate`` refuses what cannot be run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, inf
from typing import Any

from fedmpi.config.frozen import FrozenTable
from fedmpi.config.parts import Option

Options = Mapping[str, Option]
"""The settings of a part of one's own, or of a built-in one that has some."""

NO_OPTIONS = FrozenTable({})

Rate = float | str | tuple[float, ...] | Mapping[str, float | str]
"""A bandwidth in Mbit/s: one number for all, one for each client, "device" (the profile's own),
or a distribution such as ``{distribution = "lognormal", median = 8.0, sigma = 0.6}``."""

Seconds = float | str | tuple[float, ...] | Mapping[str, float | str]
"""Seconds of each client, in the same four forms."""

Files = str | tuple[str, ...]
"""A file, a folder, or a list of them; empty: none."""


@dataclass(frozen=True)
class ExperimentConfig:
    """``[experiment]``: what is run, and when it ends.

    ``evaluate_clients``: whenever the model is evaluated, it also is on each client's own test samples.
    ``stall_timeout_s``: a rank that is silent for so many host seconds ends the run (0: never; None: 600, or never
    under a debugger).
    """

    name: str = "experiment"
    seed: int = 0
    rounds: int = 100
    evaluate_every: int = 1
    evaluate_clients: bool = False
    checkpoint_every: int = 0
    stop_at_accuracy: float | None = None
    stop_at_emulated_s: float | None = None
    stop_at_host_s: float | None = None
    stall_timeout_s: float | None = None


@dataclass(frozen=True)
class ClientsConfig:
    """``[clients]``: how many there are, and how many take part in a round (0: all)."""

    count: int = 10
    per_round: int = 0


@dataclass(frozen=True)
class PlacementConfig:
    """``[placement]``: how clients are laid on MPI ranks."""

    server_trains: bool = False
    threads_per_rank: int = 1
    device: str = "cpu"


@dataclass(frozen=True)
class DataConfig:
    """``[data]``: the data set and how it is divided among clients.

    ``attribute`` is the label of CelebA. ``image_size`` is the side in pixels to which the images of CelebA
    and ImageNet are brought (0: 84 and 168), ``classes`` the number of ImageNet classes taken (0: all).
    ``augmentation`` is what happens to training samples whenever they are taken. ``client_test_fraction`` of each
    client's samples is held back as its own test samples.
    """

    dataset: str = "digits"
    path: str = ""
    attribute: str = "Smiling"
    image_size: int = 0
    classes: int = 0
    augmentation: str = "none"
    partition: str = "iid"
    alpha: float = 0.5
    shards_per_client: int = 2
    labels_per_client: int = 1
    samples_per_client: int = 0
    client_test_fraction: float = 0.0
    invert: bool = False
    options: Options = NO_OPTIONS


@dataclass(frozen=True)
class ModelConfig:
    """``[model]``: a name from the table of models or ``module:factory``, and the sizes it takes."""

    name: str = "mlp"
    hidden: tuple[int, ...] = (64,)
    options: Options = NO_OPTIONS


@dataclass(frozen=True)
class TrainingConfig:
    """``[training]``: local SGD. ``local_epochs`` > 0 replaces ``local_steps``.

    ``proximal_mu`` adds mu / 2 |w - w_start|^2 to a client's loss, w_start being the global weights (FedProx).
    """

    local_steps: int = 1
    local_epochs: int = 0
    batch_size: int = 32
    learning_rate: float = 0.1
    learning_rate_half_life_rounds: float = inf
    momentum: float = 0.0
    weight_decay: float = 0.0
    proximal_mu: float = 0.0
    loss: str = "cross_entropy"
    evaluation_batch_size: int = 256


@dataclass(frozen=True)
class FederationConfig:
    """``[federation]``: what the server makes of the updates of a round. ``options`` are the aggregator's own.

    A round ends ``deadline_s`` emulated seconds after its start at the latest (inf: with the last participant). With
    ``over_selection`` 0.3, 30 % more than ``clients.per_round`` are asked, and the first ``per_round`` arrivals count.
    With fewer arrivals than ``min_updates`` nothing is made of them.
    """

    aggregator: str = "mean"
    deadline_s: float = inf
    over_selection: float = 0.0
    min_updates: int = 1
    options: Options = NO_OPTIONS


@dataclass(frozen=True)
class SparsificationConfig:
    """``[sparsification]``: what a client sends. ``k`` entries, or ``k_fraction`` of the parameters.

    ``wire`` is the form of its messages, ``value_type`` that of the values in them, both ways.
    """

    method: str = "dense"
    k: int = 0
    k_fraction: float = 0.0
    wire: str = "auto"
    value_type: str = "float32"
    options: Options = NO_OPTIONS


@dataclass(frozen=True)
class KControlConfig:
    """``[k_control]``: who chooses k. ``k_min_fraction`` and the start are fractions of D.

    ``arms`` (exp3) is the number of k to choose from, on a geometric grid; 0: every integer. ``horizon_rounds``
    is the T that the bandits exp3 and continuous_bandit are tuned for; 0: ``experiment.rounds``.
    """

    method: str = "fixed"
    k_initial_fraction: float = 0.5
    k_min_fraction: float = 0.002
    arms: int = 0
    horizon_rounds: int = 0
    options: Options = NO_OPTIONS


@dataclass(frozen=True)
class InitialPruningConfig:
    """``[pruning.initial]``: pruning before the federated rounds, at the client number ``client`` or at a server
    that has some data. ``charged``: the time that it takes the client counts as emulated time.
    """

    where: str = "none"
    client: int = 0
    charged: bool = True
    max_rounds: int = 1000


@dataclass(frozen=True)
class PruningConfig:
    """``[pruning]``: which parameters exist.

    ``ticket`` is the folder of a finished run, of which the methods ``lottery_reinit`` and ``lottery_random`` take the
    mask.
    """

    method: str = "none"
    reconfigure_every: int = 50
    max_decrease_fraction: float = 0.3
    half_life_rounds: float = 10_000.0
    max_density: float = 1.0
    target_density: float | None = None
    ticket: str = ""
    options: Options = NO_OPTIONS
    initial: InitialPruningConfig = field(default_factory=InitialPruningConfig)


@dataclass(frozen=True)
class ComputeConfig:
    """``[emulation.compute]``: the time model of a local step and the devices it runs on.

    ``profile`` is a named device, a mix such as ``{"raspberry-pi-4" = 0.5, "raspberry-pi-5" = 0.5}``, or the
    path of a CSV file with one device for each client. ``beta`` (model ``normalized``) is the time of an
    exchange of all parameters, in units of a round's training.
    """

    model: str = "unit"
    profile: str | Mapping[str, float] = "reference"
    unit_s: float = 1.0
    slowdown: float = 1.0
    beta: float = 10.0
    options: Options = NO_OPTIONS


@dataclass(frozen=True)
class NetworkConfig:
    """``[emulation.network]``: the links of the clients and of the server (``inf``: no limit).

    A trace replaces the rate of its direction by one that varies in time. ``transport`` "tcp" lets messages start
    slowly, each over a ``connection`` that is "kept" or "new".
    """

    uplink_mbit_per_s: Rate = inf
    downlink_mbit_per_s: Rate = inf
    uplink_trace: Files = ""
    downlink_trace: Files = ""
    trace_bin_s: float = 0.5
    trace_start: str = "zero"
    transport: str = "fluid"
    connection: str = "kept"
    latency_s: Seconds = 0.0
    jitter_s: Seconds = 0.0
    server_ingress_mbit_per_s: float = inf
    server_egress_mbit_per_s: float = inf


@dataclass(frozen=True)
class AvailabilityConfig:
    """``[emulation.availability]``: which clients can be asked, and which vanish in the middle of a round.

    ``path`` is a CSV file of intervals (client, on_s, off_s), which repeat every ``period_s`` (inf: never).
    ``dropout_probability``: with it a participant vanishes at a uniform fraction of its round.
    """

    model: str = "always"
    probability: float | None = None
    path: str = ""
    period_s: float = inf
    dropout_probability: float = 0.0
    options: Options = NO_OPTIONS


@dataclass(frozen=True)
class EnergyConfig:
    """``[emulation.energy]``: ``on`` charges each participant the energy of its device."""

    on: bool = False


@dataclass(frozen=True)
class EmulationConfig:
    """``[emulation]``: the clock, and the devices and links that it charges.

    ``time_scale`` (clock ``realtime``) is in host seconds for each emulated second: 0.1 runs ten times faster.
    """

    clock: str = "virtual"
    time_scale: float = 1.0
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    availability: AvailabilityConfig = field(default_factory=AvailabilityConfig)
    energy: EnergyConfig = field(default_factory=EnergyConfig)


@dataclass(frozen=True)
class Config:
    """One experiment, fully resolved."""

    experiment: ExperimentConfig = field(default_factory=ExperimentConfig)
    clients: ClientsConfig = field(default_factory=ClientsConfig)
    placement: PlacementConfig = field(default_factory=PlacementConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    federation: FederationConfig = field(default_factory=FederationConfig)
    sparsification: SparsificationConfig = field(default_factory=SparsificationConfig)
    k_control: KControlConfig = field(default_factory=KControlConfig)
    pruning: PruningConfig = field(default_factory=PruningConfig)
    emulation: EmulationConfig = field(default_factory=EmulationConfig)


def asked_clients(per_round: int, over_selection: float) -> int:
    """How many clients are asked so that ``per_round`` can count: that share more, rounded up; 0: all."""
    return ceil(per_round * (1.0 + over_selection) - 1e-9)


def value_of(config: Config, key: str) -> Any:
    """The value of a key such as ``experiment.rounds``."""
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value
