"""The configuration of an experiment: frozen dataclasses, one for each TOML table; [emulation] has a module of its own.

Field names are the configuration's keys; units stand in the names. Defaults are those of a plain
federated averaging run without emulated devices. ``fedmpi.config.load`` makes these objects from TOML,
``fedmpi.config.validate`` refuses what cannot be run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, inf
from typing import Any

from fedmpi.config.emulation_schema import NO_OPTIONS, EmulationConfig, Options
from fedmpi.config.ranges import (
    ALPHA,
    ARMS,
    BELOW_ONE,
    CLASSES,
    CLIENTS,
    COUNT,
    COUNT_OR_ZERO,
    EPOCHS,
    FLOAT32,
    FLOAT32_OR_ZERO,
    FRACTION,
    FRACTION_OR_ZERO,
    HALF_LIFE,
    OVER_SELECTION,
    PIXELS,
    SECONDS_OR_INF,
    SEED,
    STEPS,
    THREADS,
    TIMEOUT,
    TOTAL_SECONDS,
    one_of,
    within,
)


@dataclass(frozen=True)
class ExperimentConfig:
    """``[experiment]``: what is run, and when it ends.

    ``evaluate_clients``: whenever the model is evaluated, it also is on each client's own test samples.
    ``stall_timeout_s``: a rank that is silent for so many host seconds ends the run (0: never; None: 600, or never
    under a debugger).
    """

    name: str = "experiment"
    seed: int = within(0, SEED)
    rounds: int = within(100, COUNT)
    evaluate_every: int = within(1, COUNT)
    evaluate_clients: bool = False
    checkpoint_every: int = within(0, COUNT_OR_ZERO)
    stop_at_accuracy: float | None = within(None, FRACTION)
    stop_at_emulated_s: float | None = within(None, TOTAL_SECONDS)
    stop_at_host_s: float | None = within(None, TOTAL_SECONDS)
    stall_timeout_s: float | None = within(None, TIMEOUT)


@dataclass(frozen=True)
class ClientsConfig:
    """``[clients]``: how many there are, how many take part in a round (0: all), and where lies what they carry.

    ``state`` is what a client keeps from round to round: accumulated gradients, importance, own weights within a
    period. On disk it lies in ``state_folder`` ("": the run's folder), in a folder of this run alone.
    """

    count: int = within(10, CLIENTS)
    per_round: int = within(0, COUNT_OR_ZERO)
    state: str = one_of("memory", "disk")
    state_folder: str = ""


@dataclass(frozen=True)
class PlacementConfig:
    """``[placement]``: how clients are laid on MPI ranks."""

    server_trains: bool = False
    threads_per_rank: int = within(1, THREADS)
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
    image_size: int = within(0, PIXELS)
    classes: int = within(0, CLASSES)
    augmentation: str = one_of("none", "flip_crop")
    partition: str = "iid"
    alpha: float = within(0.5, ALPHA)
    shards_per_client: int = within(2, COUNT)
    labels_per_client: int = within(1, COUNT)
    samples_per_client: int = within(0, COUNT_OR_ZERO)
    client_test_fraction: float = within(0.0, BELOW_ONE)
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
    ``batched``: whether a rank trains its clients of a round as a batch of models; results are the same.
    """

    local_steps: int = within(1, STEPS)
    local_epochs: int = within(0, EPOCHS)
    batch_size: int = within(32, COUNT)
    learning_rate: float = within(0.1, FLOAT32)
    learning_rate_half_life_rounds: float = within(inf, HALF_LIFE)
    momentum: float = within(0.0, BELOW_ONE)
    weight_decay: float = within(0.0, FLOAT32_OR_ZERO)
    proximal_mu: float = within(0.0, FLOAT32_OR_ZERO)
    loss: str = one_of("cross_entropy", "bce_one_hot")
    evaluation_batch_size: int = within(256, COUNT)
    batched: str = one_of("auto", "on", "off")


@dataclass(frozen=True)
class FederationConfig:
    """``[federation]``: what the server makes of the updates of a round. ``options`` are the aggregator's own.

    A round ends ``deadline_s`` emulated seconds after its start at the latest (inf: with the last participant). With
    ``over_selection`` 0.3, 30 % more than ``clients.per_round`` are asked, and the first ``per_round`` arrivals count.
    With fewer arrivals than ``min_updates`` nothing is made of them.
    """

    aggregator: str = "mean"
    deadline_s: float = within(inf, SECONDS_OR_INF)
    over_selection: float = within(0.0, OVER_SELECTION)
    min_updates: int = within(1, COUNT)
    options: Options = NO_OPTIONS


@dataclass(frozen=True)
class SparsificationConfig:
    """``[sparsification]``: what a client sends. ``k`` entries, or ``k_fraction`` of the parameters.

    ``wire`` is the form of its messages, ``value_type`` that of the values in them, both ways.
    """

    method: str = "dense"
    k: int = within(0, COUNT_OR_ZERO)
    k_fraction: float = within(0.0, FRACTION_OR_ZERO)
    wire: str = one_of("auto", "coo", "bitmap", "values", "dense")
    value_type: str = one_of("float32", "float16")
    options: Options = NO_OPTIONS


@dataclass(frozen=True)
class KControlConfig:
    """``[k_control]``: who chooses k. ``k_min_fraction`` and the start are fractions of D.

    ``arms`` (exp3) is the number of k to choose from, on a geometric grid; 0: every integer. ``horizon_rounds``
    is the T that the bandits exp3 and continuous_bandit are tuned for; 0: ``experiment.rounds``.
    """

    method: str = "fixed"
    k_initial_fraction: float = within(0.5, FRACTION)
    k_min_fraction: float = within(0.002, FRACTION)
    arms: int = within(0, ARMS)
    horizon_rounds: int = within(0, COUNT_OR_ZERO)
    options: Options = NO_OPTIONS


@dataclass(frozen=True)
class InitialPruningConfig:
    """``[pruning.initial]``: pruning before the federated rounds, at the client number ``client`` or at a server
    that has some data. ``charged``: the time that it takes the client counts as emulated time.
    """

    where: str = one_of("none", "client", "server")
    client: int = within(0, COUNT_OR_ZERO)
    charged: bool = True
    max_rounds: int = within(1000, COUNT)


@dataclass(frozen=True)
class PruningConfig:
    """``[pruning]``: which parameters exist.

    ``importance``: which part of the importance of parameters travels before the mask changes: all of it, what the
    server has not ``received`` anyway, or a ``sketch`` of the largest; as ``importance_entries`` pairs (0: k).
    ``interval``: whether the mask changes every ``reconfigure_every`` rounds or after as many more as that pays for.
    ``joint``: whether k is decided with the mask when that changes.
    ``ticket`` is the folder of a finished run, of which the methods ``lottery_reinit`` and ``lottery_random`` take the
    mask.
    """

    method: str = "none"
    reconfigure_every: int = within(50, COUNT)
    max_decrease_fraction: float = within(0.3, FRACTION)
    half_life_rounds: float = within(10_000.0, HALF_LIFE)
    max_density: float = within(1.0, FRACTION)
    target_density: float | None = within(None, FRACTION)
    importance: str = one_of("full", "received", "sketch")
    importance_entries: int = within(0, COUNT_OR_ZERO)
    interval: str = one_of("fixed", "adaptive")
    joint: bool = False
    ticket: str = ""
    options: Options = NO_OPTIONS
    initial: InitialPruningConfig = field(default_factory=InitialPruningConfig)


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
