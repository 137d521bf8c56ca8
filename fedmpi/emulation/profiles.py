"""Devices of fedmpi's own: what one local step costs on them, and the link they were measured with (devices.toml)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

MEASURED_DEVICE = "raspberry-pi-4"
"""The device whose training was measured; the others are known by their speed relative to it."""

REFERENCE = "reference"
"""The name of no device: relative speed 1, and neither a time model nor a link of its own."""


@dataclass(frozen=True)
class StepCost:
    """Seconds of one local step: a constant, and one coefficient for each prunable layer, input to output.

    ``dense_step_s`` is those of a step with dense kernels, which does not depend on what is pruned; None where that
    was not measured.
    """

    constant_s: float
    seconds_per_parameter: tuple[float, ...]
    dense_step_s: float | None = None


@dataclass(frozen=True)
class Device:
    """One kind of device.

    ``generic`` is the cost of a step of a model that is not in ``models``: its one coefficient holds for
    every active prunable parameter. Both are for steps of ``batch_size`` samples and None or empty where
    nothing is known, as are the rates, the latency and the jitter of its link. ``relative_speed`` is the
    speed of this device's processor over that of ``raspberry-pi-4``.
    """

    name: str
    source: str
    relative_speed: float = 1.0
    batch_size: int | None = None
    generic: StepCost | None = None
    models: Mapping[str, StepCost] = field(default_factory=dict)
    uplink_bytes_per_s: float | None = None
    downlink_bytes_per_s: float | None = None
    latency_s: float | None = None
    jitter_s: float | None = None


@cache
def built_in_devices() -> Mapping[str, Device]:
    """The devices of devices.toml, and ``reference``, by name."""
    table = tomllib.loads(files("fedmpi.emulation").joinpath("devices.toml").read_text(encoding="utf-8"))
    measured = _measured(table.pop(MEASURED_DEVICE))
    devices = {REFERENCE: Device(name=REFERENCE, source="no device"), MEASURED_DEVICE: measured}
    for name, entry in table.items():
        ratio = (
            entry["score"] / entry["raspberry_pi_4"]
            if "score" in entry
            else entry["raspberry_pi_4"] / entry["time_s"]
        )
        devices[name] = _at_speed(measured, ratio, name, f"{entry['source']}. {entry['ratio_of']}")
    return devices


def _measured(entry: Mapping[str, Any]) -> Device:
    return Device(
        name=MEASURED_DEVICE,
        source=entry["source"],
        batch_size=entry["batch_size"],
        generic=StepCost(entry["constant_s"], (entry["seconds_per_parameter"],)),
        models={
            model: StepCost(
                cost["constant_s"], tuple(cost["seconds_per_parameter"]), cost.get("dense_step_s")
            )
            for model, cost in entry["models"].items()
        },
        uplink_bytes_per_s=entry["uplink_bytes_per_s"],
        downlink_bytes_per_s=entry["downlink_bytes_per_s"],
    )


def _at_speed(measured: Device, speed: float, name: str, source: str) -> Device:
    """A device with the measured one's costs over ``speed``; nothing is known of its link."""
    assert measured.generic is not None
    return Device(
        name=name,
        source=source,
        relative_speed=speed,
        batch_size=measured.batch_size,
        generic=_scaled(measured.generic, 1.0 / speed),
        models={model: _scaled(cost, 1.0 / speed) for model, cost in measured.models.items()},
    )


def _scaled(cost: StepCost, factor: float) -> StepCost:
    return StepCost(
        cost.constant_s * factor,
        tuple(c * factor for c in cost.seconds_per_parameter),
        None if cost.dense_step_s is None else cost.dense_step_s * factor,
    )
