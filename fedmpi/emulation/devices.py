"""The fleet: which device each client is, its link, and what a local step costs on it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from math import fsum, inf
from operator import attrgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedmpi.config import parts
from fedmpi.config.emulation_schema import NetworkConfig, Rate, Seconds
from fedmpi.config.ranges import FACTOR, SECONDS
from fedmpi.config.schema import Config
from fedmpi.emulation.availability import Availability, AvailabilityModel, make_availability
from fedmpi.emulation.bandwidth import BANDWIDTH, JITTER, LATENCY, Quantity, client_values, server_rate
from fedmpi.emulation.catalogue import device
from fedmpi.emulation.compute import Compute, ComputeModel, Setup, Work
from fedmpi.emulation.contents import add_to
from fedmpi.emulation.device_csv import of_file, read_devices
from fedmpi.emulation.energy import FleetPowers
from fedmpi.emulation.errors import EmulationError
from fedmpi.emulation.links import Links
from fedmpi.emulation.profiles import POWERS, Devices
from fedmpi.emulation.rate_traces import read_trace, trace_files
from fedmpi.emulation.tcp import Transport
from fedmpi.numerics.apportionment import largest_remainder
from fedmpi.numerics.streams import Purpose, generator

FloatArray = NDArray[np.float64]

_UPLINK, _DOWNLINK, _LATENCY, _JITTER, _START = range(5)
"""Which stream of a property of links is drawn; part of the results."""


@dataclass(frozen=True)
class Fleet:
    """The emulated devices. Arrays are read-only, float64, in client order: N clients, L prunable layers.

    ``uplink``, ``downlink``: the links of all clients and what they share; ``latency_s`` (N,): from the start of a
    message to its first byte, on top of which up to ``jitter_s`` (N,) are drawn.

    ``compute``: what local training takes; ``availability``: who can be asked. ``relative_speed`` (N,): see ``Device``.
    ``powers``: watts of each client's device.
    """

    device_names: tuple[str, ...]
    uplink: Links
    downlink: Links
    latency_s: FloatArray
    jitter_s: FloatArray
    compute: Compute
    availability: Availability
    relative_speed: FloatArray
    powers: FleetPowers

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value.setflags(write=False)

    def digest(self) -> str:
        """A short text that is another one for any other fleet."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for field in fields(self):
            if field.name not in ("compute", "availability"):
                add_to(digest.update, getattr(self, field.name))
        add_to(digest.update, self.compute.costs)
        if self.compute.speed != 1.0:  # checkpoints from before there was a speed keep their digest
            add_to(digest.update, self.compute.speed)
        add_to(digest.update, self.availability.setup)
        return digest.hexdigest()


def assign(config: Config, seed: int, work: Work | None = None) -> Fleet:
    """The fleet of an experiment: devices by stream DEVICES, drawn bandwidths by stream LINKS.

    A mix gives every device its share of the clients, by largest remainder (ties to the alphabetically
    first), and places them at random. A CSV file gives client i the i-th device, with its link and latency;
    the network's own keys must then be left alone, or "device". ``work``: of the model, by which a compute model that
    needs it times steps; without it such a fleet is only checked.

    Raises EmulationError that names the key, or file, line and column, of what cannot be emulated.
    """
    network, compute = config.emulation.network, config.emulation.compute
    clients = config.clients.count
    _refuse_unsupported(config)
    model = parts.build("emulation.compute.model", compute.model, compute.options, ComputeModel)
    availability = config.emulation.availability
    available = parts.build(
        "emulation.availability.model", availability.model, availability.options, AvailabilityModel
    )
    latency: Seconds = network.latency_s
    uplink: Rate = network.uplink_mbit_per_s
    downlink: Rate = network.downlink_mbit_per_s
    latencies: Sequence[float | None]
    if of_file(compute.profile):
        listed, latencies = read_devices(Path(str(compute.profile)), clients)
        devices = Devices.of(listed)
        for name, value, default in (
            ("uplink_mbit_per_s", uplink, inf),
            ("downlink_mbit_per_s", downlink, inf),
            ("latency_s", latency, 0.0),
        ):
            if value not in (default, "device"):
                raise EmulationError(
                    f"emulation.network.{name}: found {value!r}, but {compute.profile} has a column {name}; "
                    f"allowed: leave the key out"
                )
        latency, uplink, downlink = "device", "device", "device"
    else:
        devices = _named_devices(compute.profile, clients, seed)
        latencies = devices.each(lambda device: device.latency_s)
    names = devices.each(lambda device: device.name)
    key = "emulation.network."

    def seconds(
        name: str, value: Seconds, quantity: Quantity, of_devices: Sequence[float | None], stream: int
    ) -> FloatArray:
        return client_values(
            key + name, value, quantity, names, of_devices, lambda: generator(seed, Purpose.LINKS, stream)
        )

    return Fleet(
        device_names=tuple(names),
        uplink=_links(network, "uplink", uplink, "server_ingress_mbit_per_s", devices, seed, _UPLINK),
        downlink=_links(network, "downlink", downlink, "server_egress_mbit_per_s", devices, seed, _DOWNLINK),
        latency_s=seconds("latency_s", latency, LATENCY, latencies, _LATENCY),
        jitter_s=seconds(
            "jitter_s", network.jitter_s, JITTER, devices.each(lambda device: device.jitter_s), _JITTER
        ),
        compute=Compute(
            model,
            model.costs(Setup(compute, devices, config.model.name, config.training.batch_size, work)),
            compute.speed,
        ),
        availability=make_availability(available, availability, clients, seed),
        relative_speed=np.array(devices.each(lambda device: device.relative_speed)),
        powers=_powers(config, devices),
    )


def _powers(config: Config, devices: Devices) -> FleetPowers:
    """Refuses energy where it would be unknown for everybody, whatever they do."""
    of_kinds = FleetPowers.of(kind.powers for kind in devices.kinds)
    powers = FleetPowers(*(getattr(of_kinds, name)[devices.which] for name in POWERS))
    if config.emulation.energy.on and all(len(d.powers.unknown) == len(POWERS) for d in devices.kinds):
        raise EmulationError(
            f"emulation.energy.on: found true, but no power of {devices[0].name!r} or any other device is known; "
            f"allowed: false, or devices of which some are known, as in a CSV file with the columns {', '.join(POWERS)}"
        )
    return powers


def _links(
    network: NetworkConfig,
    direction: str,
    rate: Rate,
    server_key: str,
    devices: Devices,
    seed: int,
    stream: int,
) -> Links:
    """The links of one direction: by their traces where there are any, else by their rates."""
    key = "emulation.network."
    server = server_rate(key + server_key, getattr(network, server_key))
    transport = Transport(network.transport == "tcp", network.connection == "new")
    given = getattr(network, f"{direction}_trace")
    if not given:
        rates = client_values(
            f"{key}{direction}_mbit_per_s",
            rate,
            BANDWIDTH,
            devices.each(lambda device: device.name),
            devices.each(attrgetter(f"{direction}_bytes_per_s")),
            lambda: generator(seed, Purpose.LINKS, stream),
        )
        return Links(rates, server, transport)
    files, left_out = trace_files(f"{key}{direction}_trace", given)
    used = files[: len(devices)]
    traces = tuple(read_trace(path, network.trace_bin_s) for path in used)
    trace_of = np.arange(len(devices)) % len(used)
    shift_s = np.zeros(len(devices))
    if network.trace_start == "random":
        # One share of the loop for both directions: a client's traces of one recording stay together.
        for client in range(len(devices)):
            shift_s[client] = generator(seed, Purpose.LINKS, _START, client).random()
        shift_s *= np.array([trace.period_s for trace in traces])[trace_of]
    means = np.array([trace.mean_bytes_per_s for trace in traces])[trace_of]
    return Links(means, server, transport, traces, trace_of, shift_s, files, left_out)


def _refuse_unsupported(config: Config) -> None:
    compute = config.emulation.compute
    for name, value, allowed in (
        ("compute.unit_s", compute.unit_s, SECONDS),
        ("compute.slowdown", compute.slowdown, FACTOR),
        ("compute.speed", compute.speed, FACTOR),
    ):
        if not allowed.holds(value):
            raise EmulationError(f"emulation.{name}: found {value}; allowed: {allowed.allowed}")


def _named_devices(profile: str | Mapping[str, float], clients: int, seed: int) -> Devices:
    if isinstance(profile, str):
        return Devices((device(profile),), np.zeros(clients, np.int64))
    names = sorted(profile)
    shares = [float(profile[name]) for name in names]
    if not (all(share > 0.0 for share in shares) and abs(fsum(shares) - 1.0) <= 1e-6):
        raise EmulationError(
            f"emulation.compute.profile: found the shares {dict(profile)}; allowed: above 0, with sum 1"
        )
    counts = largest_remainder(shares, clients)
    kinds = np.repeat(np.arange(len(names)), counts)
    placed = generator(seed, Purpose.DEVICES).permutation(kinds)
    return Devices(tuple(device(name) for name in names), placed)
