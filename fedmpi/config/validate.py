"""Refusal of configurations that cannot be run; every check is pure and raises ConfigError.

``validate`` needs the configuration alone, ``validate_ranks`` the number of MPI ranks, ``validate_with_data`` the
samples of the largest client, and ``validate_resume`` the configuration of the run that is continued. What parts can go
together is for ``fedmpi.experiment.parts`` to say.
"""

from __future__ import annotations

import re

from fedmpi.config.errors import ConfigError, refusal, shown_value
from fedmpi.config.limits import check_limits
from fedmpi.config.parts import FAMILIES, check_name
from fedmpi.config.ranges import MOST_LAYERS, MOST_SAMPLES, WIDTH
from fedmpi.config.schema import Config, asked_clients, value_of
from fedmpi.config.validate_emulation import check_emulation
from fedmpi.config.write import flat, tables

_MAY_CHANGE_ON_RESUME = frozenset(
    {
        "experiment.name",
        "experiment.rounds",
        "experiment.checkpoint_every",
        "experiment.stop_at_accuracy",
        "experiment.stop_at_emulated_s",
        "experiment.stop_at_host_s",
        "experiment.stall_timeout_s",
        "clients.state_folder",
        "placement.server_trains",
        "placement.threads_per_rank",
        "data.path",
        "training.batched",
        "pruning.ticket",
        "emulation.clock",
        "emulation.time_scale",
        "emulation.network.uplink_trace",
        "emulation.network.downlink_trace",
    }
)

_MOST_BYTES_OF_NAME = 200
"""File systems hold names of up to 255 bytes, and the run's folder adds the seed to it."""


def validate(config: Config) -> None:
    """Refuse what no data and no number of ranks could make right."""
    _check_text(config)
    for key in FAMILIES:
        check_name(key, str(value_of(config, key)))
    check_limits(config)
    _check_experiment(config)
    _check_clients_and_placement(config)
    _check_federation(config)
    _check_data_and_model(config)
    check_emulation(config)


def validate_ranks(config: Config, ranks: int) -> None:
    """Refuse more ranks than there is work for: rank 0 trains only when alone or when ``server_trains``."""
    if ranks < 1:
        raise refusal("--ranks", ranks, "an integer of at least 1")
    clients = config.clients.count
    most = clients if config.placement.server_trains else clients + 1
    if ranks > most:
        shape = "one for each client" + ("" if config.placement.server_trains else " and one for the server")
        raise ConfigError("ranks", f"found {ranks} for {clients} clients", f"at most {most}: {shape}")


def validate_with_data(config: Config, most_samples: int) -> None:
    """Refuse rounds that no client could get through; ``most_samples`` is what the largest client has."""
    training = config.training
    if training.local_epochs:
        key, times, each = "training.local_epochs", training.local_epochs, most_samples
    else:
        key, times, each = (
            "training.local_steps",
            training.local_steps,
            min(training.batch_size, most_samples),
        )
    if times * each > MOST_SAMPLES:
        problem = f"found {times}, with which a client takes {times * each} samples in a round"
        raise ConfigError(key, problem, f"at most {max(1, MOST_SAMPLES // each)}")


def validate_resume(config: Config, stored: Config) -> None:
    """Refuse to continue the run of ``stored`` as another experiment.

    What changes no result, or only where the run ends, may differ.
    """
    before, now = flat(tables(stored)), flat(tables(config))
    may_change = _MAY_CHANGE_ON_RESUME
    method, options = stored.pruning.method, stored.pruning.options
    by_rounds = method == "feddst" and not options.get("last_round")
    if by_rounds or (method in ("iterative", "prunefl") and stored.pruning.target_density is not None):
        may_change = may_change - {
            "experiment.rounds"
        }  # the density of a round depends on how many there are
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key) and key not in may_change:
            old = "nothing" if before.get(key) is None else shown_value(before[key])
            new = "nothing" if now.get(key) is None else shown_value(now[key])
            raise ConfigError(key, f"found {new}, but the run to resume has {old}", "the same value")


def _check_text(config: Config) -> None:
    """All strings must be fit to name files and to be written as UTF-8."""
    for key, value in flat(tables(config)).items():
        for text in (key, *(value if isinstance(value, list) else [value])):
            if isinstance(text, str) and ("\0" in text or any("\ud800" <= c <= "\udfff" for c in text)):
                problem = f"found {shown_value(text)}, with a character that no text file holds"
                raise ConfigError(key, problem, "text in UTF-8 without NUL characters")


def _check_experiment(config: Config) -> None:
    name = config.experiment.name
    bad = not name.strip() or name.startswith(".") or re.search(r"[/\\\x00-\x1f\x7f]", name)
    if bad or len(name.encode()) > _MOST_BYTES_OF_NAME:
        allowed = "a name that can name a folder: not empty, no slash, no leading dot, at most 200 bytes"
        raise refusal("experiment.name", name, allowed)


def _check_clients_and_placement(config: Config) -> None:
    clients, device = config.clients, config.placement.device
    if clients.per_round > clients.count:
        allowed = f"at most clients.count = {clients.count}, or 0 for all"
        raise refusal("clients.per_round", clients.per_round, allowed)
    if clients.state_folder and clients.state != "disk":
        problem = f'found {shown_value(clients.state_folder)} with clients.state "{clients.state}"'
        raise ConfigError("clients.state_folder", problem, '"", or clients.state "disk"')
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise refusal("placement.device", device, '"cpu", "cuda" or "cuda:N"')


def _check_federation(config: Config) -> None:
    clients, federation = config.clients, config.federation
    if federation.over_selection and not clients.per_round:
        problem = f"found {federation.over_selection:g} with clients.per_round = 0, which asks all"
        raise ConfigError("federation.over_selection", problem, "0, or a clients.per_round above 0")
    wanted = clients.per_round or clients.count
    if federation.min_updates > wanted:
        allowed = f"at most {wanted}, the clients of a round"
        raise refusal("federation.min_updates", federation.min_updates, allowed)
    asked = asked_clients(clients.per_round, federation.over_selection)
    if asked > clients.count:
        problem = f"found {federation.over_selection:g}, with which {asked} clients are asked for {clients.per_round}"
        raise ConfigError(
            "federation.over_selection", problem, f"at most clients.count = {clients.count} are asked"
        )


def _check_data_and_model(config: Config) -> None:
    data = config.data
    if data.dataset != "digits" and not data.path:
        raise refusal("data.path", data.path, f'the folder of data set "{data.dataset}"')
    hidden = config.model.hidden
    if len(hidden) > MOST_LAYERS:
        raise ConfigError("model.hidden", f"found {len(hidden)} layers", f"at most {MOST_LAYERS}")
    if not all(WIDTH.holds(width) for width in hidden):
        raise refusal("model.hidden", list(hidden), f"a list, each item {WIDTH.allowed}")
