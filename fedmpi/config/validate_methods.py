"""Refusal of combinations of methods: sparsification with its messages, k control, and pruning."""

from __future__ import annotations

from collections.abc import Mapping

from fedmpi.config.errors import ConfigError, refusal, shown_value
from fedmpi.config.ranges import FRACTION
from fedmpi.config.schema import Config


def check_methods(config: Config) -> None:
    """Raise ConfigError for methods that do not go together, or lack what they need."""
    _check_sparsification(config)
    _check_k_control(config)
    _check_pruning(config)
    _check_initial_pruning(config)


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
        raise refusal("k_control.k_min_fraction", section.k_min_fraction, allowed)
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
        raise ConfigError("pruning.target_density", problem, FRACTION.allowed)
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
        raise refusal("pruning.initial.client", initial.client, allowed)
    if initial.where == "server" and initial.charged:
        problem = 'found true with where "server", which is no emulated device'
        raise ConfigError("pruning.initial.charged", problem, 'false, or where "client"')
