"""Parts: what keys such as ``sparsification.method`` name, built in or a user's own, and how they are found.

A part is named by a built-in name or by ``module:attribute``. Built-in names are short for the latter: each family of
parts has one table that maps its names to ``module:attribute``, and nothing else lists them. So both kinds are found,
checked and built alike. Modules are imported when a name is looked up, never before.

The attribute is the part itself, or a function that makes one from keyword options, those of ``[<table>.options]``.
Data sets, partitions and models are functions that fedmpi calls with arguments of its own before the options.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from fedmpi.config.errors import ConfigError, shown_value
from fedmpi.config.failures import ANY_FAILURE, described
from fedmpi.config.spelling import did_you_mean

Option = bool | int | float | str | tuple[float | str, ...]
"""What a value of a table of options can be."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Family:
    """Parts of one kind: the key that names one, and ``module:attribute`` of the table that lists ours.

    ``arguments``: how many positional arguments fedmpi gives the function; 0: the attribute is the part, or makes it
    from options alone. Then ``guard`` is ``module:attribute`` of what puts a user's part under watch.
    """

    key: str
    table: str
    arguments: int = 0
    guard: str = ""

    @property
    def options_key(self) -> str:
        """The table of the part's own options, such as ``sparsification.options``."""
        return f"{self.key.rpartition('.')[0]}.options"


FAMILIES: Mapping[str, Family] = {
    family.key: family
    for family in (
        Family("data.dataset", "fedmpi.learning.catalogue:DATASETS", arguments=1),
        Family("data.partition", "fedmpi.learning.partition:BUILT_IN", arguments=4),
        Family("model.name", "fedmpi.learning.catalogue:MODELS", arguments=2),
        Family(
            "federation.aggregator", "fedmpi.aggregation:BUILT_IN", guard="fedmpi.aggregation.guarded:guarded"
        ),
        Family(
            "sparsification.method",
            "fedmpi.sparsification:BUILT_IN",
            guard="fedmpi.sparsification.guarded:guarded",
        ),
        Family("k_control.method", "fedmpi.k_control:BUILT_IN", guard="fedmpi.k_control.guarded:guarded"),
        Family("pruning.method", "fedmpi.pruning:BUILT_IN", guard="fedmpi.pruning.guarded:guarded"),
        Family(
            "emulation.compute.model",
            "fedmpi.emulation.compute:BUILT_IN",
            guard="fedmpi.emulation.guarded:guarded_compute",
        ),
        Family(
            "emulation.availability.model",
            "fedmpi.emulation.availability:BUILT_IN",
            guard="fedmpi.emulation.guarded:guarded_availability",
        ),
    )
}


def built_in(key: str) -> Mapping[str, str]:
    """The built-in names of a family, each with its ``module:attribute``."""
    module, _, attribute = FAMILIES[key].table.partition(":")
    names: Mapping[str, str] = getattr(importlib.import_module(module), attribute)
    return names


def is_reference(name: str) -> bool:
    """Whether ``name`` has the form ``module:attribute``."""
    module, colon, attribute = name.partition(":")
    return bool(colon) and attribute.isidentifier() and all(part.isidentifier() for part in module.split("."))


def check_name(key: str, name: str) -> None:
    """Raise ConfigError for a name that is neither built in nor of the form ``module:attribute``; imports no user's."""
    names = built_in(key)
    if name not in names and not is_reference(name):
        allowed = f"{', '.join(names)}, or module:attribute"
        raise ConfigError(key, f"found {shown_value(name)}{did_you_mean(name, tuple(names))}", allowed)


def find(key: str, name: str) -> Any:
    """The attribute that ``name`` stands for. Raises ConfigError naming the key for what cannot be imported or found.

    What a user's module raises when it is imported is part of that error.
    """
    check_name(key, name)
    module_name, _, attribute = built_in(key).get(name, name).partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        problem = f"{name!r} cannot be imported ({error})"
        raise ConfigError(key, problem, "a module in the working directory or on Python's path") from error
    except ANY_FAILURE as error:
        problem = f"{name!r} cannot be imported: {described(error)}"
        raise ConfigError(key, problem, "a module that can be imported") from error
    if not hasattr(module, attribute):
        problem = f"module {module_name} has no {attribute!r}{did_you_mean(attribute, tuple(vars(module)))}"
        raise ConfigError(key, problem, "module:attribute")
    return getattr(module, attribute)


def build(key: str, name: str, options: Mapping[str, Any], kind: type[_T]) -> _T:
    """The part of type ``kind`` that ``name`` stands for, made with ``options`` where they make it.

    A user's part comes under watch: its functions raise PartError, a ConfigError, where they break a rule. Raises
    ConfigError naming the key, or the option: what cannot be found, is of another kind, or does not take these options.
    """
    part = _built(key, name, options, kind)
    return part if name in built_in(key) else _guarded(key, name, part)


def _guarded(key: str, name: str, part: _T) -> _T:
    from fedmpi.config.guarding import Guard

    module, _, attribute = FAMILIES[key].guard.partition(":")
    watched: _T = getattr(importlib.import_module(module), attribute)(part, Guard(key, name))
    return watched


def _built(key: str, name: str, options: Mapping[str, Any], kind: type[_T]) -> _T:
    attribute = find(key, name)
    table = FAMILIES[key].options_key
    if isinstance(attribute, kind):
        for option in options:
            raise ConfigError(f"{table}.{option}", f'unknown option of "{name}"', "none: it takes no options")
        return attribute
    if not callable(attribute):
        raise ConfigError(
            key, f"{name!r} is {_a(attribute)}", f"{_named(kind)}, or a function that makes one"
        )
    part = _called(key, name, bound(key, name, attribute, options))
    if not isinstance(part, kind):
        raise ConfigError(key, f"{name!r} made {_a(part)}", _named(kind))
    return part


def function(
    key: str, name: str, options: Mapping[str, Any], settings: Mapping[str, Any]
) -> Callable[..., Any]:
    """The function that ``name`` stands for, with ``options`` as keyword arguments. Raises ConfigError as ``build``.

    ``settings`` are the other keys of the table: a parameter of such a name gets that value, and is no option.
    """
    attribute = find(key, name)
    if not callable(attribute):
        raise ConfigError(key, f"{name!r} is {_a(attribute)}", "a function")
    return bound(key, name, attribute, options, settings)


def options_taken(key: str, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``options``, in a table that several parts share, that the function ``name`` stands for takes."""
    attribute = find(key, name)
    named = options_of(key, attribute) if callable(attribute) else {}
    return {option: value for option, value in options.items() if named is None or option in named}


def check_shared_options(keys: Mapping[str, str], options: Mapping[str, Any]) -> None:
    """Raise ConfigError for one of ``options`` that none of several parts takes; ``keys``: key -> name of each."""
    table = FAMILIES[next(iter(keys))].options_key
    for option in options:
        if not any(options_taken(key, name, {option: None}) for key, name in keys.items()):
            parts = " and ".join(f'"{name}"' for name in keys.values())
            raise ConfigError(
                f"{table}.{option}", f"unknown option of {parts}", "options that one of them takes"
            )


def options_of(key: str, attribute: Callable[..., Any]) -> Mapping[str, inspect.Parameter] | None:
    """The named parameters of a part's function behind fedmpi's own arguments; None: any.

    A function without a signature takes none.
    """
    try:
        parameters = list(inspect.signature(attribute).parameters.values())
    except (TypeError, ValueError):
        return {}
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return None
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    positional = [p for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    own = {parameter.name for parameter in positional[: FAMILIES[key].arguments]}
    return {p.name: p for p in parameters if p.kind in named and p.name not in own}


def bound(
    key: str,
    name: str,
    attribute: Callable[..., Any],
    options: Mapping[str, Any],
    settings: Mapping[str, Any] | None = None,
) -> Callable[..., Any]:
    """``attribute`` with ``options``, which were checked against its signature and the types written there.

    ``settings``: see ``function``.
    """
    table, named = FAMILIES[key].options_key, options_of(key, attribute)
    taken = {n: value for n, value in (settings or {}).items() if named is not None and n in named}
    known = None if named is None else {n: parameter for n, parameter in named.items() if n not in taken}
    if known is not None:
        allowed = ", ".join(map(_shown, known.values())) or "none: it takes no options"
        for option in options:
            if option not in known:
                problem = f'unknown option of "{name}"{did_you_mean(option, tuple(known))}'
                raise ConfigError(f"{table}.{option}", problem, allowed)
        for option, parameter in known.items():
            if parameter.default is inspect.Parameter.empty and option not in options:
                raise ConfigError(f"{table}.{option}", f'is not set, and "{name}" needs it', allowed)
    hints = _hints(attribute)
    values = {
        option: _typed(f"{table}.{option}", value, hints.get(option)) for option, value in options.items()
    }
    return partial(attribute, **taken, **values)


def _called(key: str, name: str, make: Callable[[], Any]) -> Any:
    """What the part's function makes; its ValueError refuses options, anything else is a fault of the part."""
    try:
        return make()
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"[{FAMILIES[key].options_key}]", f'refused by "{name}": {error}') from error
    except ANY_FAILURE as error:
        raise ConfigError(key, f"{name!r} failed: {described(error)}", "a part that can be built") from error


def _hints(attribute: Callable[..., Any]) -> Mapping[str, Any]:
    """The types of the parameters; none where they cannot be resolved."""
    target = attribute.__init__ if isinstance(attribute, type) else attribute  # type: ignore[misc]
    try:
        return get_type_hints(target)
    except Exception:
        return {}


def _typed(key: str, value: Any, kind: Any) -> Any:
    """``value`` as ``kind`` where that is a plain type: an integer for a float, a list where a tuple is wanted."""
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    plain = [each for each in kinds if each in (bool, int, float, str)]
    if len(plain) < len(kinds) or type(value) in plain:
        return value
    if float in plain and type(value) is int:
        return float(value)
    allowed = " or ".join(_TYPES[each] for each in plain)
    raise ConfigError(key, f"found {shown_value(value)}", allowed)


_TYPES = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}


def _shown(parameter: inspect.Parameter) -> str:
    """``name = default`` for a message."""
    if parameter.default is inspect.Parameter.empty:
        return parameter.name
    return f"{parameter.name} = {shown_value(parameter.default)}"


def _a(value: object) -> str:
    return f"a {type(value).__name__}"


def _named(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def settings_of(section: Any) -> dict[str, Any]:
    """The keys and values of a table of the configuration, but for its options."""
    return {field.name: getattr(section, field.name) for field in fields(section) if field.name != "options"}
