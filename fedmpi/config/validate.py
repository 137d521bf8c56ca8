"""Refusal of configurations that cannot be run; every check is pure and raises ConfigError.

``validate`` needs the configuration alone, ``validate_ranks`` the number of MPI ranks,
``validate_with_model`` the number of parameters too, and ``validate_resume`` the configuration of the run
that is continued.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, fields
from math import fsum, inf, isfinite
from typing import Any

from fedmpi.config.errors import ConfigError, shown_value
from fedmpi.config.names import ABSENT, AVAILABLE
from fedmpi.config.schema import Config
from fedmpi.config.spelling import did_you_mean
from fedmpi.config.write import tables


@dataclass(frozen=True)
class _Range:
    """The numbers a key can take; every comparison with NaN fails, so NaN is in no range."""

    allowed: str
    holds: Callable[[float], bool]


_COUNT = _Range("an integer of at least 1", lambda value: value >= 1)
_COUNT_OR_ZERO = _Range("an integer of at least 0", lambda value: value >= 0)
_ROUNDS = _Range("an integer from 1 to 2147483647", lambda value: 1 <= value < 2**31)
_CLIENTS = _Range("an integer from 1 to 4294967295", lambda value: 1 <= value < 2**32)
_POSITIVE = _Range("a finite number above 0", lambda value: 0 < value < inf)
_POSITIVE_OR_INF = _Range("a number above 0, or inf", lambda value: value > 0)
_NOT_NEGATIVE = _Range("a finite number of at least 0", lambda value: 0 <= value < inf)
_BELOW_ONE = _Range("a number from 0 to below 1", lambda value: 0 <= value < 1)
_FRACTION = _Range("a number above 0 and at most 1", lambda value: 0 < value <= 1)
_FRACTION_OR_ZERO = _Range("a number above 0 and at most 1, or 0 for none", lambda value: 0 <= value <= 1)

_RANGES: Mapping[str, _Range] = {
    "experiment.seed": _COUNT_OR_ZERO,
    "experiment.rounds": _ROUNDS,
    "experiment.evaluate_every": _COUNT,
    "experiment.checkpoint_every": _COUNT_OR_ZERO,
    "experiment.stop_at_accuracy": _FRACTION,
    "experiment.stop_at_emulated_s": _POSITIVE,
    "experiment.stop_at_host_s": _POSITIVE,
    "clients.count": _CLIENTS,
    "clients.per_round": _COUNT_OR_ZERO,
    "placement.threads_per_rank": _COUNT,
    "data.image_size": _COUNT_OR_ZERO,
    "data.classes": _COUNT_OR_ZERO,
    "data.alpha": _POSITIVE,
    "data.shards_per_client": _COUNT,
    "data.labels_per_client": _COUNT,
    "data.samples_per_client": _COUNT_OR_ZERO,
    "training.local_steps": _COUNT,
    "training.local_epochs": _COUNT_OR_ZERO,
    "training.batch_size": _COUNT,
    "training.learning_rate": _POSITIVE,
    "training.learning_rate_half_life_rounds": _POSITIVE_OR_INF,
    "training.momentum": _BELOW_ONE,
    "training.weight_decay": _NOT_NEGATIVE,
    "training.evaluation_batch_size": _COUNT,
    "sparsification.k": _COUNT_OR_ZERO,
    "sparsification.k_fraction": _FRACTION_OR_ZERO,
    "k_control.k_initial_fraction": _FRACTION,
    "k_control.k_min_fraction": _FRACTION,
    "k_control.arms": _COUNT_OR_ZERO,
    "k_control.horizon_rounds": _COUNT_OR_ZERO,
    "pruning.reconfigure_every": _COUNT,
    "pruning.max_decrease_fraction": _FRACTION,
    "pruning.half_life_rounds": _POSITIVE_OR_INF,
    "pruning.max_density": _FRACTION,
    "pruning.target_density": _FRACTION,
    "pruning.initial.client": _COUNT_OR_ZERO,
    "pruning.initial.max_rounds": _ROUNDS,
    "emulation.time_scale": _POSITIVE,
    "emulation.compute.unit_s": _POSITIVE,
    "emulation.compute.slowdown": _POSITIVE,
    "emulation.compute.beta": _POSITIVE,
    "emulation.network.latency_s": _NOT_NEGATIVE,
    "emulation.network.jitter_s": _NOT_NEGATIVE,
    "emulation.network.server_ingress_mbit_per_s": _POSITIVE_OR_INF,
    "emulation.network.server_egress_mbit_per_s": _POSITIVE_OR_INF,
}

_MAY_CHANGE_ON_RESUME = frozenset(
    {
        "experiment.name",
        "experiment.rounds",
        "experiment.checkpoint_every",
        "experiment.stop_at_accuracy",
        "experiment.stop_at_emulated_s",
        "experiment.stop_at_host_s",
        "placement.server_trains",
        "placement.threads_per_rank",
        "data.path",
        "pruning.ticket",
        "emulation.clock",
        "emulation.time_scale",
    }
)


def validate(config: Config) -> None:
    """Refuse what no data and no number of ranks could make right."""
    for key, names in AVAILABLE.items():
        _check_name(key, str(_value(config, key)), names)
    for key, allowed in _RANGES.items():
        value = _value(config, key)
        if value is not None and not allowed.holds(value):
            raise _refusal(key, value, allowed.allowed)
    _check_experiment(config)
    _check_clients_and_placement(config)
    _check_data_and_model(config)
    _check_sparsification(config)
    _check_k_control(config)
    _check_pruning(config)
    _check_initial_pruning(config)
    _check_emulation(config)


def validate_ranks(config: Config, ranks: int) -> None:
    """Refuse more ranks than there is work for: rank 0 trains only when alone or when ``server_trains``."""
    if ranks < 1:
        raise _refusal("--ranks", ranks, "an integer of at least 1")
    clients = config.clients.count
    most = clients if config.placement.server_trains else clients + 1
    if ranks > most:
        shape = "one for each client" + ("" if config.placement.server_trains else " and one for the server")
        raise ConfigError("ranks", f"found {ranks} for {clients} clients", f"at most {most}: {shape}")


def validate_with_model(config: Config, parameter_count: int, ranks: int) -> None:
    """Refuse what does not fit the model's ``parameter_count`` (D) or the number of ``ranks``."""
    validate_ranks(config, ranks)
    section = config.sparsification
    if section.k > parameter_count:
        allowed = f"at most D = {parameter_count}, the parameters of model {config.model.name}"
        raise _refusal("sparsification.k", section.k, allowed)
    if section.method == "fedavg":
        k = section.k or max(1, round(section.k_fraction * parameter_count))
        period, rounds = -(-parameter_count // (2 * k)), config.experiment.rounds
        if period > rounds:
            problem = f'found {rounds}, and method "fedavg" exchanges every ceil(D / (2 k)) = {period} rounds'
            raise ConfigError(
                "experiment.rounds", problem, f"at least {period}, or a larger sparsification.k"
            )
        every = config.pruning.reconfigure_every
        if config.pruning.method in ("prunefl", "online") and every % period:
            problem = (
                f"found {every}, and clients keep own weights between the exchanges of method "
                f'"fedavg", every ceil(D / (2 k)) = {period} rounds'
            )
            raise ConfigError("pruning.reconfigure_every", problem, f"a multiple of {period}")


def validate_resume(config: Config, stored: Config) -> None:
    """Refuse to continue the run of ``stored`` as another experiment.

    What changes no result, or only where the run ends, may differ.
    """
    before, now = _flat(tables(stored)), _flat(tables(config))
    may_change = _MAY_CHANGE_ON_RESUME
    if stored.pruning.method in ("iterative", "prunefl") and stored.pruning.target_density is not None:
        may_change = may_change - {
            "experiment.rounds"
        }  # the density of a round depends on how many there are
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key) and key not in may_change:
            old = "nothing" if before.get(key) is None else shown_value(before[key])
            new = "nothing" if now.get(key) is None else shown_value(now[key])
            raise ConfigError(key, f"found {new}, but the run to resume has {old}", "the same value")


def _check_name(key: str, found: str, names: tuple[str, ...]) -> None:
    if found in names or (key == "model.name" and _is_factory(found)):
        return
    allowed = ", ".join(names) + (", or module:factory" if key == "model.name" else "")
    absent = ABSENT.get(key, {})
    if found in absent:
        raise ConfigError(key, f'"{found}" is known but not available: {absent[found]}', allowed)
    raise ConfigError(key, f"found {shown_value(found)}{did_you_mean(found, (*names, *absent))}", allowed)


def _is_factory(name: str) -> bool:
    module, colon, factory = name.partition(":")
    return bool(colon) and factory.isidentifier() and all(part.isidentifier() for part in module.split("."))


def _check_experiment(config: Config) -> None:
    name = config.experiment.name
    if not name.strip() or name.startswith(".") or re.search(r"[/\\\x00-\x1f\x7f]", name):
        allowed = "a name that can name a folder: not empty, no slash, no leading dot"
        raise _refusal("experiment.name", name, allowed)


def _check_clients_and_placement(config: Config) -> None:
    clients, device = config.clients, config.placement.device
    if clients.per_round > clients.count:
        allowed = f"at most clients.count = {clients.count}, or 0 for all"
        raise _refusal("clients.per_round", clients.per_round, allowed)
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise _refusal("placement.device", device, '"cpu", "cuda" or "cuda:N"')


def _check_data_and_model(config: Config) -> None:
    data = config.data
    if data.dataset != "digits" and not data.path:
        raise _refusal("data.path", data.path, f'the folder of data set "{data.dataset}"')
    if any(width < 1 for width in config.model.hidden):
        raise _refusal("model.hidden", list(config.model.hidden), "a list of integers of at least 1")


def _check_sparsification(config: Config) -> None:
    section, controller = config.sparsification, config.k_control.method
    given = [name for name in ("k", "k_fraction") if getattr(section, name)]
    if section.method == "dense" and given:
        problem = f'found {getattr(section, given[0])} with method "dense", which sends all'
        raise ConfigError(f"sparsification.{given[0]}", problem, "0, or a sparse method such as fab")
    _check_messages(config)
    if section.method == "dense":
        return
    if controller == "fixed" and len(given) != 1:
        problem = f"found {'neither' if not given else 'both'}" + f' with [k_control] method "{controller}"'
        raise ConfigError("[sparsification] k, k_fraction", problem, "exactly one of the two above 0")
    if controller != "fixed" and given:
        problem = f'found {getattr(section, given[0])} with [k_control] method "{controller}"'
        allowed = "0: k starts at [k_control] k_initial_fraction and is chosen by the controller"
        raise ConfigError(f"sparsification.{given[0]}", problem, allowed)


def _check_messages(config: Config) -> None:
    """The form of messages, and the type of the values in them."""
    section = config.sparsification
    forms: tuple[str, ...]
    forms, reason = ("auto", "coo", "bitmap", "dense"), ", which needs positions known to both sides"
    if section.method in ("dense", "fedavg"):
        forms, reason = ("auto", "dense"), f' with method "{section.method}", which sends all'
    elif section.method == "periodic":
        forms, reason = ("auto", "values"), ' with method "periodic", whose positions both sides know'
    if section.wire not in forms:
        raise ConfigError("sparsification.wire", f'found "{section.wire}"{reason}', ", ".join(forms))
    if section.value_type != "float32" and section.method in ("dense", "fedavg"):
        problem = f'found "{section.value_type}" with method "{section.method}", which keeps no account of what is lost'
        raise ConfigError("sparsification.value_type", problem, "float32, or a sparse method such as fab")


_ONE_K: Mapping[str, str] = {
    "dense": "which has no k to choose",
    "periodic": "whose cycle through all coordinates is laid out for one k",
    "fedavg": "whose k sets how many rounds lie between two exchanges of everything",
}
"""Methods without a k that could change from round to round."""


def _check_k_control(config: Config) -> None:
    section, method = config.k_control, config.sparsification.method
    if method in _ONE_K and section.method != "fixed":
        problem = f'found "{section.method}" with [sparsification] method "{method}", {_ONE_K[method]}'
        raise ConfigError("k_control.method", problem, "fixed, or another sparse method such as fab")
    if section.k_min_fraction > section.k_initial_fraction:
        allowed = f"at most k_initial_fraction = {section.k_initial_fraction}"
        raise _refusal("k_control.k_min_fraction", section.k_min_fraction, allowed)
    if section.arms and section.method != "exp3":
        problem = f'found {section.arms} with method "{section.method}"'
        raise ConfigError("k_control.arms", problem, '0, or method "exp3"')
    if section.horizon_rounds and section.method not in ("exp3", "continuous_bandit"):
        problem = f'found {section.horizon_rounds} with method "{section.method}"'
        raise ConfigError("k_control.horizon_rounds", problem, '0, or method "exp3" or "continuous_bandit"')


def _check_pruning(config: Config) -> None:
    section, sparsification = config.pruning, config.sparsification.method
    lottery = section.method in ("lottery_reinit", "lottery_random")
    if lottery and not section.ticket:
        problem = f'is not set, and method "{section.method}" takes the mask of a finished run'
        raise ConfigError("pruning.ticket", problem, "the folder of that run")
    if section.ticket and not lottery:
        problem = f'found {shown_value(section.ticket)} with method "{section.method}"'
        raise ConfigError("pruning.ticket", problem, '"", or method "lottery_reinit" or "lottery_random"')
    if section.method == "none":
        return
    if section.method in ("snip", "iterative") and section.target_density is None:
        problem = f'is not set, and method "{section.method}" prunes to it'
        raise ConfigError("pruning.target_density", problem, _FRACTION.allowed)
    if sparsification == "fedavg" and section.method in ("snip", "iterative"):
        when = {"snip": "after the first round", "iterative": "at fixed rounds of the first half"}[
            section.method
        ]
        problem = (
            f'found "{section.method}", which prunes {when}, with [sparsification] method "fedavg", '
            f"where clients keep own weights from one exchange to the next"
        )
        raise ConfigError("pruning.method", problem, "none, or another sparsification.method")
    sends_all = sparsification in ("dense", "fedavg")
    if config.emulation.compute.model == "normalized" and section.method == "prunefl" and not sends_all:
        problem = (
            f'found "prunefl" with [emulation.compute] model "normalized" and [sparsification] method '
            f'"{sparsification}": no part of the time of a round depends on the parameters then, and every '
            f"reconfiguration would put back all that are of any importance"
        )
        raise ConfigError("pruning.method", problem, "another method, or [sparsification] method dense")


def _check_initial_pruning(config: Config) -> None:
    initial, method = config.pruning.initial, config.pruning.method
    if initial.where == "none":
        return
    if method != "prunefl":
        problem = f'found "{initial.where}" with [pruning] method "{method}"'
        raise ConfigError("pruning.initial.where", problem, 'none, or [pruning] method "prunefl"')
    if initial.client >= config.clients.count:
        allowed = f"a client from 0 to {config.clients.count - 1}"
        raise _refusal("pruning.initial.client", initial.client, allowed)
    if initial.where == "server" and initial.charged:
        problem = 'found true with where "server", which is no emulated device'
        raise ConfigError("pruning.initial.charged", problem, 'false, or where "client"')


def _check_emulation(config: Config) -> None:
    network, profile = config.emulation.network, config.emulation.compute.profile
    for name in ("uplink_mbit_per_s", "downlink_mbit_per_s"):
        _check_rate(f"emulation.network.{name}", getattr(network, name), config.clients.count)
    if network.trace:
        problem = f"found {shown_value(network.trace)}, but in this version bandwidths do not vary in time"
        raise ConfigError("emulation.network.trace", problem, '""')
    if config.emulation.compute.model == "normalized":
        _check_normalized(config)
    key = "emulation.compute.profile"
    if isinstance(profile, str):
        if not profile:
            raise _refusal(key, profile, "a device, a mix of devices, or the path of a CSV file")
        return
    if not profile or not all(0 < share <= 1 for share in profile.values()):
        raise _refusal(key, profile, "a mix whose shares are above 0 and at most 1")
    if abs(fsum(profile.values()) - 1) > 1e-6:
        raise _refusal(key, profile, "a mix whose shares add up to 1")


def _check_normalized(config: Config) -> None:
    """The normalized cost model knows neither devices nor links."""
    compute, network = config.emulation.compute, config.emulation.network
    found: dict[str, object] = {f"emulation.network.{field.name}": field for field in fields(network)}
    found |= {
        f"emulation.compute.{field.name}": field
        for field in fields(compute)
        if field.name not in ("model", "beta")
    }
    for key, field in found.items():
        assert isinstance(field, Field)
        if _value(config, key) != field.default:
            problem = f'found {shown_value(_value(config, key))} with [emulation.compute] model "normalized"'
            raise ConfigError(
                key, problem, f"{shown_value(field.default)}: that model has a cost of its own, beta"
            )


def _check_rate(key: str, rate: Any, clients: int) -> None:
    """One bandwidth in Mbit/s in any of its four forms."""
    if isinstance(rate, str):
        if rate != "device":
            raise _refusal(key, rate, 'a number in Mbit/s, a list of them, "device", or a table')
    elif isinstance(rate, tuple):
        if len(rate) != clients:
            raise ConfigError(key, f"found a list of {len(rate)}", f"clients.count = {clients} items")
        for client, item in enumerate(rate):
            if not item > 0:
                raise ConfigError(key, f"found {item} for client {client}", _POSITIVE_OR_INF.allowed)
    elif isinstance(rate, Mapping):
        _check_distribution(key, rate)
    elif not rate > 0:
        raise _refusal(key, rate, _POSITIVE_OR_INF.allowed)


def _check_distribution(key: str, rate: Mapping[str, Any]) -> None:
    if not isinstance(rate.get("distribution"), str):
        raise _refusal(key, rate, 'a table with a distribution, such as {distribution = "lognormal", ...}')
    for name, value in rate.items():
        if name != "distribution" and not (isinstance(value, float) and isfinite(value) and value >= 0):
            raise _refusal(f"{key}.{name}", value, "a finite number of at least 0")


def _refusal(key: str, value: object, allowed: str) -> ConfigError:
    return ConfigError(key, f"found {shown_value(value)}", allowed)


def _value(config: Config, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one dict with dotted keys."""
    flat: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
