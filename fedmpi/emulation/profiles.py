"""Devices of fedmpi's own: what one local step costs on them, and the link they were measured with (devices.toml)."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib.resources import files
from math import isnan, nan
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

Value = TypeVar("Value")

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
class Figures:
    """What the time of a step of any model is made of: ``overhead_s``, the seconds of overhead of an operation, and
    ``flops_per_s``, floating-point operations per second (``emulation.flops``)."""

    overhead_s: float
    flops_per_s: float


@dataclass(frozen=True)
class Powers:
    """Watts of the whole device while it waits, trains, sends and receives; NaN where nobody has measured it."""

    idle_w: float = nan
    compute_w: float = nan
    transmit_w: float = nan
    receive_w: float = nan

    @property
    def unknown(self) -> tuple[str, ...]:
        """The names of those that are not known."""
        return tuple(field.name for field in fields(self) if isnan(getattr(self, field.name)))


POWERS = tuple(field.name for field in fields(Powers))
"""The names of a device's powers, as keys and columns have them."""


@dataclass(frozen=True)
class Device:
    """One kind of device.

    ``models``: tables of steps of ``batch_size`` samples. ``figures``: what a step of any other model is made of.
    ``generic``, of a CSV file: a step of any model at the experiment's own batch size, whose one coefficient holds for
    every active prunable parameter. None or empty where nothing is known, as are the rates, the latency and the jitter
    of its link. ``relative_speed`` is the
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
    figures: Figures | None = None
    powers: Powers = Powers()
    powers_source: str = ""


@dataclass(frozen=True, eq=False)
class Devices(Sequence[Device]):
    """The devices of N clients, of a few kinds: client c has ``kinds[which[c]]``; ``which`` int64 (N,).

    What follows from a device is computed once for each kind.
    """

    kinds: tuple[Device, ...]
    which: NDArray[np.int64]

    @classmethod
    def of(cls, devices: Sequence[Device]) -> Devices:
        """From one device for each client; kinds are distinct objects, in order of appearance."""
        if isinstance(devices, Devices):
            return devices
        numbers: dict[int, int] = {}
        which = [numbers.setdefault(id(device), len(numbers)) for device in devices]
        first = np.unique(np.array(which, np.int64), return_index=True)[1]
        return cls(tuple(devices[client] for client in first.tolist()), np.array(which, np.int64))

    def each(self, value: Callable[[Device], Value]) -> list[Value]:
        """A value for each client, from its device."""
        values = [value(kind) for kind in self.kinds]
        return [values[kind] for kind in self.which.tolist()]

    def first_of(self, kind: int) -> int:
        """The first client of a kind."""
        return int((self.which == kind).argmax())

    def __len__(self) -> int:
        return len(self.which)

    @overload
    def __getitem__(self, client: int) -> Device: ...
    @overload
    def __getitem__(self, client: slice) -> Devices: ...
    def __getitem__(self, client: int | slice) -> Device | Devices:
        if isinstance(client, slice):
            return Devices(self.kinds, self.which[client])
        return self.kinds[self.which[client]]


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
        known = _at_speed(measured, ratio, name, f"{entry['source']}. {entry['ratio_of']}")
        devices[name] = replace(known, **_powers(entry))
    return devices


@cache
def left_out_factors() -> Mapping[str, float]:
    """By how much the time of a step from ``Figures`` was off for each published table that had no part in them.

    A factor of 1 or more, the root mean square of logarithms over densities (``calibration.figures``).
    """
    text = files("fedmpi.emulation").joinpath("devices.toml").read_text(encoding="utf-8")
    return {str(m): float(f) for m, f in tomllib.loads(text)[MEASURED_DEVICE]["figures"]["left_out"].items()}


def _measured(entry: Mapping[str, Any]) -> Device:
    return Device(
        name=MEASURED_DEVICE,
        source=entry["source"],
        batch_size=entry["batch_size"],
        models={
            model: StepCost(
                cost["constant_s"], tuple(cost["seconds_per_parameter"]), cost.get("dense_step_s")
            )
            for model, cost in entry["models"].items()
        },
        uplink_bytes_per_s=entry["uplink_bytes_per_s"],
        downlink_bytes_per_s=entry["downlink_bytes_per_s"],
        figures=Figures(entry["figures"]["overhead_s"], entry["figures"]["flops_per_s"]),
        **_powers(entry),
    )


def _powers(entry: Mapping[str, Any]) -> dict[str, Any]:
    found = entry.get("power", {})
    watts = {name: float(value) for name, value in found.items() if name != "source"}
    return {"powers": Powers(**watts), "powers_source": found.get("source", "")}


def _at_speed(measured: Device, speed: float, name: str, source: str) -> Device:
    """A device with the measured one's costs over ``speed``; nothing is known of its link."""
    assert measured.figures is not None
    return Device(
        name=name,
        source=source,
        relative_speed=speed,
        batch_size=measured.batch_size,
        figures=at_speed(measured.figures, speed),
        models={model: _scaled(cost, 1.0 / speed) for model, cost in measured.models.items()},
    )


def at_speed(figures: Figures, speed: float) -> Figures:
    """The figures of a processor that is ``speed`` times as fast."""
    return Figures(figures.overhead_s / speed, figures.flops_per_s * speed)


def _scaled(cost: StepCost, factor: float) -> StepCost:
    return StepCost(
        cost.constant_s * factor,
        tuple(c * factor for c in cost.seconds_per_parameter),
        None if cost.dense_step_s is None else cost.dense_step_s * factor,
    )
