"""What pruning cannot go with, by its method's descriptor: refused in one line that names the key."""

from __future__ import annotations

from fedmpi.config import Config, ConfigError
from fedmpi.config.errors import refusal, shown_value
from fedmpi.k_control import Controller
from fedmpi.pruning import Method as PruningMethod
from fedmpi.pruning.interface import EVERY
from fedmpi.sparsification import DenseMethod, Method, SparseMethod
from fedmpi.sparsification.settings import has_k


def check_pruning(
    config: Config, method: PruningMethod, sparsification: Method, controller: Controller
) -> None:
    """Raises ConfigError where ``[pruning]`` does not fit its own method, or this the methods beside it."""
    _check_method(config, method, sparsification)
    _check_importance(config, method, sparsification)
    _check_joint(config, method, controller)
    _check_initial_pruning(config, method)


def _check_method(config: Config, method: PruningMethod, sparsification: Method) -> None:
    section, name = config.pruning, config.sparsification.method
    if method.takes_ticket and not section.ticket:
        problem = f'is not set, and method "{section.method}" takes the mask of a finished run'
        raise ConfigError("pruning.ticket", problem, "the folder of that run")
    if section.ticket and not method.takes_ticket:
        problem = f'found {shown_value(section.ticket)} with method "{section.method}"'
        raise ConfigError("pruning.ticket", problem, '"", or method "lottery_reinit" or "lottery_random"')
    if method.needs_target_density and section.target_density is None:
        problem = f'is not set, and method "{section.method}" prunes to it'
        raise ConfigError("pruning.target_density", problem, "a number above 0 and at most 1")
    sends_all = isinstance(sparsification, DenseMethod)
    has_periods = isinstance(sparsification, DenseMethod) and sparsification.period is not None
    if has_periods and method.changes not in (EVERY, "never"):
        problem = (
            f'found "{section.method}", which prunes {method.changes}, with [sparsification] method '
            f'"{name}", where clients keep own weights from one exchange to the next'
        )
        raise ConfigError("pruning.method", problem, "none, or another sparsification.method")
    if method.own_mask is not None and not sends_all:
        problem = (
            f'found "{section.method}" with [sparsification] method "{name}": clients send what their own '
            f"masks keep, and no selection of it"
        )
        raise ConfigError("pruning.method", problem, "another method, or [sparsification] method dense")
    if method.time_by_parameter and config.emulation.compute.model == "normalized" and not sends_all:
        problem = (
            f'found "{section.method}" with [emulation.compute] model "normalized" and [sparsification] method '
            f'"{name}": no part of the time of a round depends on the parameters then, and every '
            f"reconfiguration would put back all that are of any importance"
        )
        raise ConfigError("pruning.method", problem, "another method, or [sparsification] method dense")


def _check_importance(config: Config, method: PruningMethod, sparsification: Method) -> None:
    """What clients send of importance, how much of it, and how long a mask stays."""
    section, name = config.pruning, config.sparsification.method
    form, key = section.importance, "pruning.importance"
    if form != "full" and not (method.importance and not method.signed_gradient):
        reason = "which asks for gradients instead" if method.importance else "which asks for none"
        problem = f'found "{form}" with method "{section.method}", {reason}'
        raise ConfigError(key, problem, 'full, or method "prunefl"')
    if form == "received" and not isinstance(sparsification, SparseMethod):
        problem = f'found "{form}" with [sparsification] method "{name}", whose mean alone the server sees'
        raise ConfigError(key, problem, "full, sketch, or a sparse method such as fab")
    if (
        form == "received"
        and isinstance(sparsification, SparseMethod)
        and sparsification.memory == "estimate"
    ):
        problem = f'found "{form}" with [sparsification] method "{name}", which sends changes of gradients'
        raise ConfigError(key, problem, "full, sketch, or another sparse method such as fab")
    if section.importance_entries and form == "full":
        allowed = f'0, or {key} "received" or "sketch"'
        raise refusal("pruning.importance_entries", section.importance_entries, allowed)
    if form != "full" and not section.importance_entries and not has_k(sparsification):
        problem = f'found 0, as many as k, with [sparsification] method "{name}", which has no k'
        raise ConfigError("pruning.importance_entries", problem, "a number of entries from 1 on")
    if section.interval == "fixed":
        return
    if not method.adapts_interval:
        problem = f'found "{section.interval}" with method "{section.method}"'
        raise ConfigError("pruning.interval", problem, 'fixed, or method "prunefl"')
    if isinstance(sparsification, DenseMethod) and sparsification.period is not None:
        problem = (
            f'found "{section.interval}" with [sparsification] method "{name}", where masks change only at '
            f"an exchange"
        )
        raise ConfigError("pruning.interval", problem, "fixed, or another sparsification.method")


def _check_joint(config: Config, method: PruningMethod, controller: Controller) -> None:
    """What is decided together weighs the same time of a round."""
    if not config.pruning.joint:
        return
    if not (method.importance and method.by_time):
        problem = f'found true with method "{config.pruning.method}", which does not weigh importance by time'
        raise ConfigError("pruning.joint", problem, 'false, or method "prunefl"')
    if controller.decide is None:
        problem = (
            f'found true with [k_control] method "{config.k_control.method}", which cannot decide at once'
        )
        raise ConfigError("pruning.joint", problem, 'false, or [k_control] method "norm_rate"')


def _check_initial_pruning(config: Config, method: PruningMethod) -> None:
    initial = config.pruning.initial
    if initial.where == "none":
        return
    if not method.starts_pruned:
        problem = f'found "{initial.where}" with [pruning] method "{config.pruning.method}"'
        raise ConfigError("pruning.initial.where", problem, 'none, or [pruning] method "prunefl"')
    if initial.client >= config.clients.count:
        raise refusal(
            "pruning.initial.client", initial.client, f"a client from 0 to {config.clients.count - 1}"
        )
    if initial.where == "server" and initial.charged:
        problem = 'found true with where "server", which is no emulated device'
        raise ConfigError("pruning.initial.charged", problem, 'false, or where "client"')
