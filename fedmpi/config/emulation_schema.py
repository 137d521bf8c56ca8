"""The configuration of emulated devices and links: frozen dataclasses of the tables below ``[emulation]``.

As in ``fedmpi.config.schema``, field names are keys, and units stand in the names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from fedmpi.config.frozen import FrozenTable
from fedmpi.config.parts import Option
from fedmpi.config.ranges import (
    BELOW_ONE,
    BIN,
    FACTOR,
    FRACTION,
    RATE_OR_INF,
    SECONDS,
    SECONDS_OR_INF,
    one_of,
    within,
)

Options = Mapping[str, Option]
"""The settings of a part of one's own, or of a built-in one that has some."""

NO_OPTIONS = FrozenTable({})

Rate = float | str | tuple[float, ...] | Mapping[str, float | str]
"""A bandwidth in Mbit/s: one number for all, one for each client, "device" (the profile's own),
or a distribution such as ``{distribution = "lognormal", median = 8.0, sigma = 0.6}``."""

Seconds = float | str | tuple[float, ...] | Mapping[str, float | str]
"""Seconds of each client, in the same four forms."""

Files = str | tuple[str, ...]
"""A file, a folder, or a list of them; empty: none."""


@dataclass(frozen=True)
class ComputeConfig:
    """``[emulation.compute]``: the time model of a local step and the devices it runs on.

    ``profile`` is a named device, a mix such as ``{"raspberry-pi-4" = 0.5, "raspberry-pi-5" = 0.5}``, or the
    path of a CSV file with one device for each client. Whatever the model says that training takes is divided by
    ``speed``. ``beta`` (model ``normalized``) is the time of an exchange of all parameters, in units of a round's
    training.
    """

    model: str = "unit"
    profile: str | Mapping[str, float] = "reference"
    unit_s: float = within(1.0, SECONDS)
    slowdown: float = within(1.0, FACTOR)
    speed: float = within(1.0, FACTOR)
    beta: float = within(10.0, FACTOR)
    options: Options = NO_OPTIONS


@dataclass(frozen=True)
class NetworkConfig:
    """``[emulation.network]``: the links of the clients and of the server (``inf``: no limit).

    A trace replaces the rate of its direction by one that varies in time. ``transport`` "tcp" lets messages start
    slowly, each over a ``connection`` that is "kept" or "new".
    """

    uplink_mbit_per_s: Rate = inf
    downlink_mbit_per_s: Rate = inf
    uplink_trace: Files = ""
    downlink_trace: Files = ""
    trace_bin_s: float = within(0.5, BIN)
    trace_start: str = one_of("zero", "random")
    transport: str = one_of("fluid", "tcp")
    connection: str = one_of("kept", "new")
    latency_s: Seconds = 0.0
    jitter_s: Seconds = 0.0
    server_ingress_mbit_per_s: float = within(inf, RATE_OR_INF)
    server_egress_mbit_per_s: float = within(inf, RATE_OR_INF)


@dataclass(frozen=True)
class AvailabilityConfig:
    """``[emulation.availability]``: which clients can be asked, and which vanish in the middle of a round.

    ``path`` is a CSV file of intervals (client, on_s, off_s), which repeat every ``period_s`` (inf: never).
    ``dropout_probability``: with it a participant vanishes at a uniform fraction of its round.
    """

    model: str = "always"
    probability: float | None = within(None, FRACTION)
    path: str = ""
    period_s: float = within(inf, SECONDS_OR_INF)
    dropout_probability: float = within(0.0, BELOW_ONE)
    options: Options = NO_OPTIONS


@dataclass(frozen=True)
class EnergyConfig:
    """``[emulation.energy]``: ``on`` charges each participant the energy of its device."""

    on: bool = False


@dataclass(frozen=True)
class EmulationConfig:
    """``[emulation]``: the clock, and the devices and links that it charges.

    ``time_scale`` (clock ``realtime``) is in host seconds for each emulated second: 0.1 runs ten times faster.
    """

    clock: str = one_of("virtual", "realtime")
    time_scale: float = within(1.0, FACTOR)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    availability: AvailabilityConfig = field(default_factory=AvailabilityConfig)
    energy: EnergyConfig = field(default_factory=EnergyConfig)
