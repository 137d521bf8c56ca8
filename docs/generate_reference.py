"""Write ``configuration.md``, ``trace.md`` and ``interfaces.md`` from the package itself: keys, columns, interfaces.

    python docs/generate_reference.py

Keys, types, defaults, ranges, choices and built-in parts are those of ``fedmpi.config``; what each key means is one
phrase in ``meanings.toml``. Columns, with units and meanings, are those of ``fedmpi.trace.schema``. Interfaces of parts
are their signatures and docstrings.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Flag
from itertools import pairwise
from math import inf
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py

from fedmpi.config import Config, parts
from fedmpi.config.limits import CHOICES, RANGES
from fedmpi.config.ranges import RATE_OR_INF, SECONDS_OR_ZERO
from fedmpi.config.schema import value_of
from fedmpi.trace import schema

HERE = Path(__file__).parent
GENERATED = (
    "<!-- Written by docs/generate_reference.py: change meanings.toml or the package, and run it again. -->"
)

INTERFACES: Mapping[str, Sequence[str]] = {
    "fedmpi.sparsification": [
        "SparseMethod",
        "Choose",
        "Coordinates",
        "Select",
        "Memory",
        "Choice",
        "Uploads",
        "Selection",
        "selection_at",
        "union_of",
        "Codec",
        "Message",
        "Entries",
        "WireCodec",
        "ServerMemory",
        "DenseMethod",
    ],
    "fedmpi.k_control": ["Controller", "Setup", "State", "Observation", "Magnitudes"],
    "fedmpi.pruning": [
        "Method",
        "Setup",
        "State",
        "Needs",
        "Observation",
        "Change",
        "Mask",
        "Losses",
        "RoundTime",
    ],
    "fedmpi.aggregation": ["Aggregator", "Combine", "Init", "Step", "State"],
    "fedmpi.emulation.compute": ["ComputeModel", "Setup", "LocalTraining", "Work"],
    "fedmpi.emulation.availability": ["AvailabilityModel", "Available", "Next", "Leaves", "Setup"],
    "fedmpi.learning.datasets": ("Dataset",),
    "fedmpi.testing": [
        "check_sparsification",
        "check_k_control",
        "check_pruning",
        "check_aggregation",
        "check_compute",
        "check_availability",
        "check_dataset",
        "check_partition",
        "check_runs",
        "same_traces",
    ],
}
"""Modules that users import from, and what of them, in the order of the page."""

TYPES = {
    "int": "integer",
    "float": "number",
    "float | None": "number",
    "bool": "true or false",
    "str": "string",
    "tuple[int, ...]": "list of integers",
    "Rate": "rate",
    "Seconds": "seconds",
    "Files": "string or list of strings",
    "str | Mapping[str, float]": "string or table",
    "Options": "table",
}
"""Annotations of fields -> what a TOML file holds."""

RATES = f"""## Rates

`emulation.network.uplink_mbit_per_s`, `downlink_mbit_per_s`, `latency_s` and `jitter_s` take one of four forms; every
rate is {RATE_OR_INF.allowed}, every latency and jitter {SECONDS_OR_ZERO.allowed}.

| form | example |
|---|---|
| one number for all clients | `20.0` |
| a list with one for each client | `[20.0, 5.0, 1.0]` |
| the device's own | `"device"` |
| a distribution, drawn once for each client | `{{ distribution = "lognormal", median = 8.0, sigma = 0.5 }}` |

Distributions: `lognormal` (`median`, `sigma`), `normal` (`mean`, `std`, `minimum`: smaller draws become it) and
`uniform` (`low`, `high`). No built-in device has a latency or a jitter of its own; a CSV file has latencies.

## Traces of links

`emulation.network.uplink_trace` and `downlink_trace` name a file, a folder or a list of them. Files are given to
clients round robin in sorted order of their paths, and each loops. Hidden files and READMEs of a folder are left out
(`fedmpi check` names them); every other file must be a trace, in one of two formats that are told apart by what is in
them:

- Mahimahi: one integer a line, the millisecond of a chance to send 1500 bytes; lines do not fall, and the last is the
  length of the loop. Chances are counted in bins of `trace_bin_s`, those at the end of a
  bin in that bin, and become a rate by steps;
- two columns, by blanks or a comma: the second from which on a rate in Mbit/s holds. Seconds rise, the first line is
  the beginning of the trace, and the last rate holds as long as the one before it.

A rate is 0, where messages wait, or a number from 1e-06 to 1e+06. A run is not resumed with other traces; files may
have moved in the meantime. With `trace_start = "random"` each client starts at a moment of the loop that is drawn from
the seed, at the same share of both of its loops.
"""


def pages() -> dict[str, str]:
    """The generated pages by file name. Raises ValueError where ``meanings.toml`` and the package do not agree."""
    meanings = tomllib.loads((HERE / "meanings.toml").read_text(encoding="utf-8"))
    return {
        "configuration.md": configuration_page(meanings),
        "trace.md": trace_page(meanings),
        "interfaces.md": interfaces_page(),
    }


def configuration_page(meanings: Mapping[str, Any]) -> str:
    """Every key of every table, and the built-in parts of the keys that name one."""
    sections = list(_sections(Config(), ""))
    _agree("tables of a configuration", meanings["configuration"], [name for name, _ in sections])
    blocks = [
        GENERATED,
        "# Configuration",
        "A configuration is a TOML file; every key can be left out, and any can be replaced on the command line "
        "(`fedmpi run mine.toml training.learning_rate=0.1`). `fedmpi check` prints all of them with their values. "
        "A wrong key or value is refused before anything starts, in one line with what is allowed. "
        "Keys that name a part take a built-in name or `module:attribute`, see [your own parts](parts.md).",
    ]
    for name, section in sections:
        blocks += [f"## [{name}]", _table_of_keys(name, section, meanings)]
        blocks += [_table_of_parts(key) for key in parts.FAMILIES if key.rpartition(".")[0] == name]
    return "\n\n".join([*blocks, RATES])


def interfaces_page() -> str:
    """Signature and docstring of everything that a part is made of."""
    blocks = [
        GENERATED,
        "# Interfaces of parts",
        "What [your own parts](parts.md) are made of, and what their functions are given: fields, types, shapes and "
        "units. Fields without a default must be given, all by name.",
    ]
    for module_name, names in INTERFACES.items():
        module = importlib.import_module(module_name)
        blocks += [f"## {module_name}"]
        for name in names:
            blocks += [f"### {name} {{#{module_name.rpartition('.')[2]}-{name.lower()}}}"]
            blocks += list(_interface(module, name))
    return "\n\n".join(blocks) + "\n"


def _interface(module: ModuleType, name: str) -> Iterator[str]:
    """The blocks of one name: a class with its public methods, a function, or the alias of a type."""
    value = getattr(module, name, None)
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        yield _prose(_alias_text(module, name))
        return
    if inspect.isfunction(value):
        yield _code(f"def {name}{_signature(value)}")
        yield _prose(inspect.getdoc(value) or "")
        return
    listed = [f"class {name}"]
    if issubclass(value, Flag):
        listed += [f"    {member.name}" for member in value]
    elif is_dataclass(value):
        listed += [f"    {_field(each)}" for each in fields(value)]
    elif hasattr(value, "_fields"):
        listed += [f"    {each}: {value.__annotations__[each]}" for each in value._fields]
    methods = [
        (each, member)
        for each, member in vars(value).items()
        if not each.startswith("_")
        and (inspect.isfunction(member) or isinstance(member, (classmethod, property)))
    ]
    for each, member in methods:
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        listed += [
            f"    {'@property ' if isinstance(member, property) else ''}def {each}{_signature(function)}"
        ]
    yield _code("\n".join(listed))
    yield _prose(inspect.getdoc(value) or "")
    for each, member in methods:
        text = inspect.getdoc(member)
        if text:
            yield f"`{each}`: " + _prose(text)


def _signature(function: Callable[..., Any]) -> str:
    """Its parameters and types, without the quotes of annotations that are strings."""
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(function)))


def _field(each: Field[Any]) -> str:
    kind = each.type if isinstance(each.type, str) else each.type.__name__
    if each.default is MISSING:
        return f"{each.name}: {kind}" + ("" if each.default_factory is MISSING else " = ...")
    default = getattr(each.default, "__name__", None) or repr(each.default)
    return f"{each.name}: {kind} = {default}"


def _alias_text(module: ModuleType, name: str) -> str:
    """The docstring below the assignment of ``name``, in the module or in that with the interface beside it."""
    file = Path(str(module.__file__))
    for source in (file, file.with_name("interface.py")):
        body = ast.parse(source.read_text(encoding="utf-8")).body if source.is_file() else []
        for statement, following in pairwise(body):
            if (
                isinstance(statement, ast.Assign)
                and ast.unparse(statement.targets[0]) == name
                and isinstance(following, ast.Expr)
                and isinstance(following.value, ast.Constant)
            ):
                return str(following.value.value)
    raise ValueError(f"{module.__name__} has no {name} with a docstring")


def _code(text: str) -> str:
    return f"```python\n{text}\n```"


def _prose(docstring: str) -> str:
    """A docstring as Markdown."""
    return docstring.replace("``", "`").strip()


def trace_page(meanings: Mapping[str, Any]) -> str:
    """Every column of every table, and the attributes."""
    blocks = [
        GENERATED,
        "# Trace",
        f"A run writes everything that happened to `trace.h5` in its folder, an HDF5 file (schema version "
        f"{schema.SCHEMA_VERSION}) of {len(schema.COLUMNS)} tables. `fedmpi.read_trace(FOLDER)` gives them as pandas "
        "tables, also while the run is going on or after it was killed; [reading a trace](guide.md#read-the-trace) "
        "shows how. Times in `s` are emulated, those in `host s` are seconds here. NaN: not measured.",
        "Units and meanings also stand in the file, in the attributes `unit` and `description` of each table: a text "
        "for each column, in order. Traces of schema version 1 are read too, without what is marked as new in version "
        "2; they are not continued.",
    ]
    for name, columns in schema.COLUMNS.items():
        new = all(column.since == 2 for column in columns)
        rows = [
            (
                f"`{column.name}`" + (" (version 2)" if column.since == 2 and not new else ""),
                _column_type(column.dtype),
                column.unit,
                column.description,
            )
            for column in columns
        ]
        blocks += [f"## {name}" + (" (version 2)" if new else "")]
        blocks += [_table(("column", "type", "unit", "meaning"), rows)]
    attributes = [*schema.CHECKED_ATTRIBUTES, "checksum"]
    _agree("attributes of a trace", meanings["attributes"], attributes)
    rows = [(f"`{name}`", meanings["attributes"][name]) for name in attributes]
    statuses = ", ".join(f"`{status}`" for status in schema.FINAL_STATUSES)
    blocks += [
        "## Attributes",
        f"Of the file's root, in `Trace.attributes`. A run that has ended has the status {statuses}, "
        "whatever ended it short of a kill; until then it is `running`.",
        _table(("attribute", "meaning"), rows),
    ]
    return "\n\n".join(blocks) + "\n"


def _sections(table: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """The tables of a configuration by name, each before those within it."""
    for field in fields(table):
        value = getattr(table, field.name)
        if is_dataclass(value):
            yield f"{prefix}{field.name}", value
            yield from _sections(value, f"{prefix}{field.name}.")


def _table_of_keys(name: str, section: Any, meanings: Mapping[str, Any]) -> str:
    phrases = meanings["configuration"][name]
    keys = [field for field in fields(section) if not is_dataclass(getattr(section, field.name))]
    _agree(f"keys of [{name}]", phrases, [field.name for field in keys])
    rows = [
        (
            f"`{field.name}`",
            TYPES[str(field.type)],
            _shown(value_of(Config(), f"{name}.{field.name}")),
            _allowed(f"{name}.{field.name}", str(field.type), meanings["allowed"]),
            phrases[field.name],
        )
        for field in keys
    ]
    return _table(("key", "type", "default", "allowed", "meaning"), rows)


def _allowed(key: str, kind: str, others: Mapping[str, str]) -> str:
    if key in RANGES:
        return RANGES[key].allowed
    if key in CHOICES:
        return ", ".join(f"`{name}`" for name in CHOICES[key])
    if key in parts.FAMILIES:
        return "a name below, or `module:attribute`"
    if kind == "bool":
        return "`true`, `false`"
    if kind == "Options":
        return "what the part takes"
    return others[key]


def _table_of_parts(key: str) -> str:
    """The built-in parts of a family: what each does, its options with their defaults, and its publication."""
    section = key.rpartition(".")[0]
    settings = {field.name for field in fields(value_of(Config(), section))}
    rows = []
    for name in parts.built_in(key):
        attribute = parts.find(key, name)
        if parts.FAMILIES[key].arguments:
            summary, source = _first_sentence(inspect.getdoc(attribute)), ""
        else:
            part = parts.build(key, name, {}, object)
            made = part() if inspect.isfunction(part) else part
            summary, source = made.summary, made.source
        named = parts.options_of(key, attribute) if inspect.isfunction(attribute) else {}
        options = [
            f"`{option} = {_plain(parameter.default)}`"
            for option, parameter in (named or {}).items()
            if option not in settings
        ]
        rows.append((f"`{name}`", summary.removesuffix("."), ", ".join(options) or "none", source))
    return f"Built-in names of `{key}`:\n\n" + _table(
        ("name", "what it is", f"`[{section}.options]`", "source"), rows
    )


def _first_sentence(text: str | None) -> str:
    paragraph = " ".join((text or "").split("\n\n")[0].split())
    return re.split(r"\. (?=[A-Z])", paragraph.replace("``", "`"))[0]


def _column_type(dtype: Any) -> str:
    if values := h5py.check_enum_dtype(dtype):
        return "one of " + ", ".join(f"`{name}`" for name in values)
    if h5py.check_string_dtype(dtype):
        return f"string of at most {dtype.itemsize} bytes"
    return str(dtype)


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, Mapping):
        return "empty"
    return f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if value == inf:
        return "inf"
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _agree(what: str, phrases: Mapping[str, Any], names: Iterable[str]) -> None:
    expected, found = set(names), set(phrases)
    if expected != found:
        problem = ", ".join(sorted(expected ^ found))
        raise ValueError(f"meanings.toml and the package do not agree on the {what}: {problem}")


if __name__ == "__main__":
    for name, text in pages().items():
        (HERE / name).write_text(text, encoding="utf-8")
