"""The parts that a configuration names, found, built and checked against each other; nothing here needs torch.

What a part cannot go with stands in its own descriptor; what follows from that for a configuration is refused here, in
one line that names the key.
"""

from __future__ import annotations

from dataclasses import dataclass

from fedmpi.aggregation import Aggregator
from fedmpi.config import Config, ConfigError, parts
from fedmpi.config.errors import refusal, shown_value
from fedmpi.config.ranges import MOST_PARAMETERS
from fedmpi.k_control import Controller
from fedmpi.pruning import Method as PruningMethod
from fedmpi.pruning.interface import EVERY
from fedmpi.sparsification import Codec, DenseMethod, Method, SparseMethod
from fedmpi.sparsification.interface import largest
from fedmpi.sparsification.magnitude_sketch import NO_SKETCH, MagnitudeSketch
from fedmpi.sparsification.settings import codec_down_of, codec_of, exchange_period, fixed_k, has_k, method_of


@dataclass(frozen=True)
class Parts:
    """The methods of an experiment, each built with its options."""

    config: Config
    sparsification: Method
    k_control: Controller
    pruning: PruningMethod
    aggregator: Aggregator

    @property
    def sends_all(self) -> bool:
        """Whether everything is exchanged, and no selection of entries."""
        return isinstance(self.sparsification, DenseMethod)

    @property
    def codec(self) -> Codec:
        """The form of messages."""
        return codec_of(self.config.sparsification, self.sparsification)

    @property
    def codec_down(self) -> Codec:
        """The form of what the server sends, unless its aggregator makes that dense."""
        return codec_down_of(self.config.sparsification, self.sparsification)

    @property
    def resends(self) -> bool:
        """Whether who missed rounds is sent their messages one by one."""
        return isinstance(self.sparsification, SparseMethod) and self.sparsification.resends

    @property
    def clients_keep_importance(self) -> bool:
        """Whether a client keeps a vector of importance, or of gradients, from round to round."""
        of_pruned = self.config.pruning.importance == "received" or self.pruning.gradient_entries is not None
        return self.pruning.importance and not of_pruned

    def fixed_k(self, dimension: int) -> int:
        """The k of a model of ``dimension`` parameters where nobody controls it."""
        return fixed_k(self.config.sparsification, self.sparsification, dimension)

    def period(self, dimension: int) -> int:
        """Rounds from one exchange to the next."""
        return exchange_period(self.config.sparsification, self.sparsification, dimension)

    def sketch(self, parameters: int) -> MagnitudeSketch:
        """What messages say of the magnitudes of all values of a model; of 0 bytes: nothing."""
        return sketch_of(self.config, self.k_control, parameters)


def sketch_of(config: Config, controller: Controller, parameters: int) -> MagnitudeSketch:
    """The sketch that ``controller`` asks for of a model of so many ``parameters``, D; else NO_SKETCH."""
    smallest = max(1, round(config.k_control.k_min_fraction * parameters))
    return MagnitudeSketch(parameters, smallest) if controller.measures_magnitudes else NO_SKETCH


def resolve(config: Config) -> Parts:
    """The parts of ``config``. Raises ConfigError for one that cannot be found, built, or go with the others."""
    found = Parts(
        config=config,
        sparsification=method_of(config.sparsification),
        k_control=parts.build(
            "k_control.method", config.k_control.method, config.k_control.options, Controller
        ),
        pruning=parts.build("pruning.method", config.pruning.method, config.pruning.options, PruningMethod),
        aggregator=parts.build(
            "federation.aggregator", config.federation.aggregator, config.federation.options, Aggregator
        ),
    )
    _check_k(found)
    _check_messages(found)
    _check_k_control(found)
    _check_pruning(found)
    _check_importance(found)
    _check_joint(found)
    _check_initial_pruning(found)
    _check_aggregator(found)
    _check_proximal_term(found)
    return found


def check_with_model(found: Parts, parameters: int) -> None:
    """Refuse what does not fit a model of so many ``parameters``, D."""
    config, period = found.config, found.period(parameters)
    if parameters > MOST_PARAMETERS:
        problem = f"{config.model.name} has D = {parameters} parameters"
        raise ConfigError("model", problem, f"at most {MOST_PARAMETERS}")
    section = config.sparsification
    if section.k > parameters:
        allowed = f"at most D = {parameters}, the parameters of model {config.model.name}"
        raise refusal("sparsification.k", section.k, allowed)
    entries = config.pruning.importance_entries
    if entries > parameters:
        allowed = f"at most D = {parameters}, the parameters of model {config.model.name}"
        raise refusal("pruning.importance_entries", entries, allowed)
    every_period = f'"{section.method}", every {period} rounds'
    if period > config.experiment.rounds:
        problem = f"found {config.experiment.rounds}, and everything is exchanged by method {every_period}"
        raise ConfigError("experiment.rounds", problem, f"at least {period}, or a larger sparsification.k")
    every = config.pruning.reconfigure_every
    if found.pruning.changes == EVERY and every % period:
        problem = (
            f"found {every}, and clients keep own weights between the exchanges of method {every_period}"
        )
        raise ConfigError("pruning.reconfigure_every", problem, f"a multiple of {period}")


def _check_k(found: Parts) -> None:
    """Who says what k is: the configuration or a controller."""
    section, control = found.config.sparsification, found.config.k_control.method
    given = [name for name in ("k", "k_fraction") if getattr(section, name)]
    if not has_k(found.sparsification):
        if given:
            problem = f'found {getattr(section, given[0])} with method "{section.method}", which sends all'
            raise ConfigError(f"sparsification.{given[0]}", problem, "0, or a sparse method such as fab")
        return
    if control == "fixed" and len(given) != 1:
        problem = f'found {"neither" if not given else "both"} with [k_control] method "{control}"'
        raise ConfigError("[sparsification] k, k_fraction", problem, "exactly one of the two above 0")
    if control != "fixed" and given:
        problem = f'found {getattr(section, given[0])} with [k_control] method "{control}"'
        allowed = "0: k starts at [k_control] k_initial_fraction and is chosen by the controller"
        raise ConfigError(f"sparsification.{given[0]}", problem, allowed)


def _check_messages(found: Parts) -> None:
    """The form of messages, and the type of the values in them."""
    section, method = found.config.sparsification, found.sparsification
    forms: tuple[str, ...]
    forms, reason = ("auto", "coo", "bitmap", "dense"), ", which needs positions known to both sides"
    if not isinstance(method, SparseMethod):
        forms, reason = ("auto", "dense"), f' with method "{section.method}", which sends all'
    elif method.codec is not None:
        forms, reason = ("auto",), f' with method "{section.method}", whose messages have a form of their own'
    elif method.coordinates is not None:
        forms = ("auto", "values")
        reason = f' with method "{section.method}", whose positions both sides know'
    if section.wire not in forms:
        raise ConfigError("sparsification.wire", f'found "{section.wire}"{reason}', ", ".join(forms))
    if section.value_type == "float32":
        return
    if not isinstance(method, SparseMethod):
        problem = f'found "{section.value_type}" with method "{section.method}", which keeps no account of what is lost'
        raise ConfigError("sparsification.value_type", problem, "float32, or a sparse method such as fab")
    if method.codec is not None:
        raise ConfigError("sparsification.value_type", f'found "{section.value_type}"{reason}', "float32")


def _check_k_control(found: Parts) -> None:
    section, sparsification = found.config.k_control, found.config.sparsification.method
    if found.sparsification.one_k and section.method != "fixed":
        problem = (
            f'found "{section.method}" with [sparsification] method "{sparsification}", '
            f"{found.sparsification.one_k}"
        )
        raise ConfigError("k_control.method", problem, "fixed, or another sparse method such as fab")
    sends_largest = (
        isinstance(found.sparsification, SparseMethod)
        and found.sparsification.choose is largest
        and found.sparsification.coordinates is None
        and found.sparsification.memory == "error"
    )
    if found.k_control.measures_magnitudes and not sends_largest:
        problem = (
            f'found "{section.method}", which weighs the largest entries of what clients have accumulated, with '
            f'[sparsification] method "{sparsification}", which does not send these'
        )
        raise ConfigError("k_control.method", problem, "another, or a method that sends them such as fab")
    if section.k_min_fraction > section.k_initial_fraction:
        allowed = f"at most k_initial_fraction = {section.k_initial_fraction}"
        raise refusal("k_control.k_min_fraction", section.k_min_fraction, allowed)
    if section.arms and section.method != "exp3":
        problem = f'found {section.arms} with method "{section.method}"'
        raise ConfigError("k_control.arms", problem, '0, or method "exp3"')
    if section.horizon_rounds and section.method not in ("exp3", "continuous_bandit"):
        problem = f'found {section.horizon_rounds} with method "{section.method}"'
        raise ConfigError("k_control.horizon_rounds", problem, '0, or method "exp3" or "continuous_bandit"')


def _check_pruning(found: Parts) -> None:
    config, method = found.config, found.pruning
    section, sparsification = config.pruning, config.sparsification.method
    if method.takes_ticket and not section.ticket:
        problem = f'is not set, and method "{section.method}" takes the mask of a finished run'
        raise ConfigError("pruning.ticket", problem, "the folder of that run")
    if section.ticket and not method.takes_ticket:
        problem = f'found {shown_value(section.ticket)} with method "{section.method}"'
        raise ConfigError("pruning.ticket", problem, '"", or method "lottery_reinit" or "lottery_random"')
    if method.needs_target_density and section.target_density is None:
        problem = f'is not set, and method "{section.method}" prunes to it'
        raise ConfigError("pruning.target_density", problem, "a number above 0 and at most 1")
    has_periods = isinstance(found.sparsification, DenseMethod) and found.sparsification.period is not None
    if has_periods and method.changes not in (EVERY, "never"):
        problem = (
            f'found "{section.method}", which prunes {method.changes}, with [sparsification] method '
            f'"{sparsification}", where clients keep own weights from one exchange to the next'
        )
        raise ConfigError("pruning.method", problem, "none, or another sparsification.method")
    if method.own_mask is not None and not found.sends_all:
        problem = (
            f'found "{section.method}" with [sparsification] method "{sparsification}": clients send what their own '
            f"masks keep, and no selection of it"
        )
        raise ConfigError("pruning.method", problem, "another method, or [sparsification] method dense")
    if method.time_by_parameter and config.emulation.compute.model == "normalized" and not found.sends_all:
        problem = (
            f'found "{section.method}" with [emulation.compute] model "normalized" and [sparsification] method '
            f'"{sparsification}": no part of the time of a round depends on the parameters then, and every '
            f"reconfiguration would put back all that are of any importance"
        )
        raise ConfigError("pruning.method", problem, "another method, or [sparsification] method dense")


def _check_importance(found: Parts) -> None:
    """What clients send of importance, how much of it, and how long a mask stays."""
    config, method = found.config, found.pruning
    section, sparsification = config.pruning, config.sparsification.method
    form, key = section.importance, "pruning.importance"
    if form != "full" and not (method.importance and not method.signed_gradient):
        reason = "which asks for gradients instead" if method.importance else "which asks for none"
        problem = f'found "{form}" with method "{section.method}", {reason}'
        raise ConfigError(key, problem, 'full, or method "prunefl"')
    sparse = found.sparsification
    if form == "received" and not isinstance(sparse, SparseMethod):
        problem = f'found "{form}" with [sparsification] method "{sparsification}", whose mean alone the server sees'
        raise ConfigError(key, problem, "full, sketch, or a sparse method such as fab")
    if form == "received" and isinstance(sparse, SparseMethod) and sparse.memory == "estimate":
        problem = f'found "{form}" with [sparsification] method "{sparsification}", which sends changes of gradients'
        raise ConfigError(key, problem, "full, sketch, or another sparse method such as fab")
    if section.importance_entries and form == "full":
        allowed = f'0, or {key} "received" or "sketch"'
        raise refusal("pruning.importance_entries", section.importance_entries, allowed)
    if form != "full" and not section.importance_entries and not has_k(sparse):
        problem = f'found 0, as many as k, with [sparsification] method "{sparsification}", which has no k'
        raise ConfigError("pruning.importance_entries", problem, "a number of entries from 1 on")
    if section.interval == "fixed":
        return
    if not method.adapts_interval:
        problem = f'found "{section.interval}" with method "{section.method}"'
        raise ConfigError("pruning.interval", problem, 'fixed, or method "prunefl"')
    if isinstance(sparse, DenseMethod) and sparse.period is not None:
        problem = (
            f'found "{section.interval}" with [sparsification] method "{sparsification}", where masks change only at '
            f"an exchange"
        )
        raise ConfigError("pruning.interval", problem, "fixed, or another sparsification.method")


def _check_joint(found: Parts) -> None:
    """What is decided together weighs the same time of a round."""
    config = found.config
    if not config.pruning.joint:
        return
    if not (found.pruning.importance and found.pruning.by_time):
        problem = f'found true with method "{config.pruning.method}", which does not weigh importance by time'
        raise ConfigError("pruning.joint", problem, 'false, or method "prunefl"')
    if found.k_control.decide is None:
        problem = (
            f'found true with [k_control] method "{config.k_control.method}", which cannot decide at once'
        )
        raise ConfigError("pruning.joint", problem, 'false, or [k_control] method "norm_rate"')


def _check_initial_pruning(found: Parts) -> None:
    config = found.config
    initial = config.pruning.initial
    if initial.where == "none":
        return
    if not found.pruning.starts_pruned:
        problem = f'found "{initial.where}" with [pruning] method "{config.pruning.method}"'
        raise ConfigError("pruning.initial.where", problem, 'none, or [pruning] method "prunefl"')
    if initial.client >= config.clients.count:
        raise refusal(
            "pruning.initial.client", initial.client, f"a client from 0 to {config.clients.count - 1}"
        )
    if initial.where == "server" and initial.charged:
        problem = 'found true with where "server", which is no emulated device'
        raise ConfigError("pruning.initial.charged", problem, 'false, or where "client"')


def _check_aggregator(found: Parts) -> None:
    name, aggregator = found.config.federation.aggregator, found.aggregator
    refused = aggregator.sparse_refused or (
        "which combines whole updates" if aggregator.needs_updates else ""
    )
    if refused and not found.sends_all:
        method = found.config.sparsification.method
        problem = f'found "{name}" with [sparsification] method "{method}", {refused}'
        allowed = "mean, or [sparsification] method dense or fedavg"
        raise ConfigError("federation.aggregator", problem, allowed)
    sparse = found.sparsification
    if isinstance(sparse, SparseMethod) and sparse.server is not None and not aggregator.is_mean:
        method = found.config.sparsification.method
        problem = (
            f'found "{name}" with [sparsification] method "{method}", whose server keeps a memory of its own'
        )
        raise ConfigError("federation.aggregator", problem, "mean, or another sparsification.method")
    if found.pruning.own_mask is not None and not aggregator.is_mean:
        problem = (
            f'found "{name}" with [pruning] method "{found.config.pruning.method}", which takes the mean of those '
            f"clients alone that kept a parameter"
        )
        raise ConfigError("federation.aggregator", problem, "mean, or another pruning.method")
    if found.pruning.by_gradient and aggregator.step is not None:
        problem = (
            f'found "{name}" with [pruning] method "{found.config.pruning.method}", which takes the change of the '
            f"model for the mean of the updates"
        )
        raise ConfigError("federation.aggregator", problem, "mean, or another pruning.method")


def _check_proximal_term(found: Parts) -> None:
    method, mu = found.config.sparsification.method, found.config.training.proximal_mu
    if mu and isinstance(found.sparsification, DenseMethod) and found.sparsification.period:
        problem = (
            f'found {mu:g} with [sparsification] method "{method}", where clients go on from own weights'
        )
        raise ConfigError("training.proximal_mu", problem, "0, or another sparsification.method")
    if mu and found.config.pruning.initial.where != "none":
        where = found.config.pruning.initial.where
        problem = f'found {mu:g} with [pruning.initial] where "{where}", which starts from no global weights'
        raise ConfigError("training.proximal_mu", problem, '0, or [pruning.initial] where "none"')
