from collections.abc import Mapping
from dataclasses import is_dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedmpi.config import Config, dumps, loads, tables
from fedmpi.config.frozen import FrozenTable

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Every value that a type of the schema allows."""
    if is_dataclass(kind):
        return st.builds(kind, **{name: values(inner) for name, inner in get_type_hints(kind).items()})
    if get_origin(kind) in (Union, UnionType):
        return st.one_of([values(member) for member in get_args(kind)])
    if get_origin(kind) is tuple:
        return st.lists(values(get_args(kind)[0]), max_size=3).map(tuple)
    if get_origin(kind) is Mapping:
        return st.dictionaries(TEXT, values(get_args(kind)[1]), max_size=3).map(FrozenTable)
    simple = {
        bool: st.booleans(),
        int: st.integers(),
        float: st.floats(allow_nan=False),
        str: TEXT,
        type(None): st.none(),
    }
    return simple[kind]


@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no fault of the configuration
@given(values(Config))
def test_what_is_written_is_read_as_the_same_configuration(config):
    assert loads(dumps(config)) == config


@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no fault of the configuration
@given(values(Config))
def test_reading_gives_the_types_that_the_schema_names(config):
    assert repr(tables(loads(dumps(config)))) == repr(tables(config))


def test_defaults_are_written_and_none_is_left_out():
    text = dumps(Config())
    assert "learning_rate_half_life_rounds = inf" in text
    assert "seed = 0" in text
    assert "stop_at_accuracy" not in text
