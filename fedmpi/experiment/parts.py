"""The parts that a configuration names, found, built and checked against each other; nothing here needs torch.

What a part cannot go with stands in its own descriptor; what follows from that for a configuration is refused here, in
one line that names the key.
"""

from __future__ import annotations

from dataclasses import dataclass

from fedmpi.aggregation import Aggregator
from fedmpi.config import Config, ConfigError, parts
from fedmpi.config.errors import refusal
from fedmpi.config.ranges import MOST_PARAMETERS
from fedmpi.experiment.pruning_checks import check_pruning
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
    check_pruning(config, found.pruning, found.sparsification, found.k_control)
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
