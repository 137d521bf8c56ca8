"""The user's own devices: a TOML file like devices.toml, which ``fedmpi calibrate`` writes and runs read.

It lies at ``$FEDMPI_DEVICES``, else in ``fedmpi/devices.toml`` of ``$XDG_CONFIG_HOME`` (``~/.config``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import tomli_w

from fedmpi.config.errors import shortened
from fedmpi.config.ranges import COUNT, RATE, SECONDS_OR_ZERO, WATTS, Range
from fedmpi.config.toml import TomlError, parse, read_text
from fedmpi.emulation.bandwidth import BYTES_PER_S_PER_MBIT_PER_S
from fedmpi.emulation.errors import EmulationError, unknown_name
from fedmpi.emulation.profiles import POWERS, Device, Powers, StepCost, built_in_devices

VARIABLE = "FEDMPI_DEVICES"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DEVICE_KEYS = ("source", "batch_size", "uplink_bytes_per_s", "downlink_bytes_per_s", *POWERS, "models")
_MODEL_KEYS = ("dense_step_s", "constant_s", "seconds_per_parameter")
_BYTES_PER_S = Range(RATE.low * BYTES_PER_S_PER_MBIT_PER_S, RATE.high * BYTES_PER_S_PER_MBIT_PER_S)
_HEADER = "# Devices of fedmpi's user; `fedmpi calibrate` adds to them and does not keep comments.\n\n"


def user_devices_path() -> Path:
    """Where the file is, or would be. Raises EmulationError for a user without a home."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    try:
        folder = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    except RuntimeError as error:  # no HOME and no entry among the users, as in containers
        problem = "this user has no home folder to keep devices in"
        raise EmulationError(f"{VARIABLE}: not set, and {problem}; allowed: the path of a file") from error
    return Path(folder) / "fedmpi" / "devices.toml"


def user_devices() -> Mapping[str, Device]:
    """The devices in the user's file; none where there is no file, unless ``$FEDMPI_DEVICES`` names it.

    Raises EmulationError that names the file and what is wrong in it.
    """
    named = os.environ.get(VARIABLE)
    try:
        path = user_devices_path()
        status = path.stat()
    except OSError as error:
        if named:
            raise EmulationError(f"{VARIABLE}: {path} cannot be read: {error.strerror}") from error
        return {}
    except EmulationError:  # no home, and so no file
        return {}
    return _cached(path, status.st_mtime_ns, status.st_size)


def read_devices_file(path: Path) -> dict[str, Device]:
    """The devices in the file at ``path``. Raises EmulationError."""
    devices = {}
    for name, entry in _table(path).items():
        check_name(name, f"{path}: [{name}]")
        if not isinstance(entry, dict):
            raise EmulationError(f"{path}: {name}: found {_shown(entry)}; allowed: tables of devices")
        devices[name] = _device(name, entry, f"{path}: [{name}]")
    return devices


def add_model(path: Path, device: Device) -> None:
    """Write ``device`` to the file at ``path``, which need not exist; other devices, and other models of it, stay.

    Raises EmulationError when the file is damaged, has the device with another batch size, or cannot be written.
    """
    check_name(device.name, "--device")
    table = _table(path) if path.exists() else {}
    known = read_devices_file(path).get(device.name) if path.exists() else None
    if known is not None and known.batch_size != device.batch_size:
        raise EmulationError(
            f"--batch-size: found {device.batch_size}, but {path} has {device.name} with steps of "
            f"{known.batch_size} samples; allowed: that, or another --device"
        )
    entry = table.setdefault(device.name, {})
    entry |= {"source": device.source, "batch_size": device.batch_size}
    models = entry.setdefault("models", {})
    for model, cost in device.models.items():
        models[model] = {
            "dense_step_s": cost.dense_step_s,
            "constant_s": cost.constant_s,
            "seconds_per_parameter": list(cost.seconds_per_parameter),
        }
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(_HEADER + tomli_w.dumps(table), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise EmulationError(f"{path}: cannot be written: {error.strerror}") from error


def check_name(name: str, where: str) -> None:
    """EmulationError unless ``name`` can be that of a user's device."""
    if name in built_in_devices():
        raise EmulationError(f"{where}: found {name!r}, a device of fedmpi's own; allowed: another name")
    if not _NAME.fullmatch(name) or name.lower().endswith(".csv"):
        raise EmulationError(
            f"{where}: found {name!r}; allowed: letters, digits, dots, dashes and underscores, not ending in .csv"
        )


@cache
def _cached(path: Path, modified_ns: int, size: int) -> Mapping[str, Device]:
    return read_devices_file(path)


def _table(path: Path) -> dict[str, Any]:
    try:
        return parse(read_text(path))
    except FileNotFoundError as error:
        raise EmulationError(f"{path}: there is no such file") from error
    except TomlError as error:
        raise EmulationError(f"{path}: {error}") from error


def _device(name: str, entry: Mapping[str, Any], where: str) -> Device:
    _check_keys(entry, _DEVICE_KEYS, where)
    batch_size = entry.get("batch_size")
    if type(batch_size) is not int or not COUNT.holds(batch_size):
        raise EmulationError(f"{where} batch_size: found {_shown(batch_size)}; allowed: {COUNT.allowed}")
    models = entry.get("models", {})
    if not isinstance(models, dict) or not all(isinstance(cost, dict) for cost in models.values()):
        raise EmulationError(f"{where} models: found {_shown(models)}; allowed: tables of models")
    return Device(
        name=name,
        source=str(entry.get("source", "")),
        batch_size=batch_size,
        models={model: _cost(cost, f"{where} models.{model}") for model, cost in models.items()},
        uplink_bytes_per_s=_rate(entry, "uplink_bytes_per_s", where),
        downlink_bytes_per_s=_rate(entry, "downlink_bytes_per_s", where),
        powers=Powers(
            **{name: _number(entry[name], WATTS, f"{where} {name}") for name in POWERS if name in entry}
        ),
    )


def _cost(entry: Mapping[str, Any], where: str) -> StepCost:
    _check_keys(entry, _MODEL_KEYS, where)
    coefficients = entry.get("seconds_per_parameter")
    if not isinstance(coefficients, list):
        raise EmulationError(
            f"{where} seconds_per_parameter: found {_shown(coefficients)}; allowed: a list of numbers"
        )
    dense = entry.get("dense_step_s")
    return StepCost(
        _number(entry.get("constant_s"), SECONDS_OR_ZERO, f"{where} constant_s"),
        tuple(_number(value, SECONDS_OR_ZERO, f"{where} seconds_per_parameter") for value in coefficients),
        None if dense is None else _number(dense, SECONDS_OR_ZERO, f"{where} dense_step_s"),
    )


def _check_keys(entry: Mapping[str, Any], allowed: tuple[str, ...], where: str) -> None:
    for key in entry:
        if key not in allowed:
            raise unknown_name(f"{where}, keys", key, allowed)


def _rate(entry: Mapping[str, Any], key: str, where: str) -> float | None:
    return None if key not in entry else _number(entry[key], _BYTES_PER_S, f"{where} {key}")


def _number(value: Any, allowed: Range, where: str) -> float:
    if type(value) not in (int, float) or not allowed.holds(value):
        raise EmulationError(f"{where}: found {_shown(value)}; allowed: {allowed.allowed}")
    return float(value)


def _shown(value: object) -> str:
    return shortened(repr(value))
