"""The fleet: which device each client is, its link, and what a local step costs on it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import fsum, inf, nan
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedmpi.config.ranges import FACTOR, SECONDS, SECONDS_OR_ZERO
from fedmpi.config.schema import Config, Rate
from fedmpi.emulation.bandwidth import client_rates, server_rate
from fedmpi.emulation.catalogue import device
from fedmpi.emulation.device_csv import read_devices
from fedmpi.emulation.errors import EmulationError, unknown_name
from fedmpi.emulation.profiles import Device, StepCost
from fedmpi.numerics.streams import Purpose, generator

FloatArray = NDArray[np.float64]

COMPUTE_MODELS = ("unit", "linear", "measured", "normalized")

_UPLINK, _DOWNLINK = 0, 1
"""Which stream of a distribution of links is drawn; part of the results."""


@dataclass(frozen=True)
class Fleet:
    """The emulated devices. Arrays are read-only, float64, in client order: N clients, L prunable layers.

    ``uplink_bytes_per_s``, ``downlink_bytes_per_s``, ``latency_s`` (N,): each client's own link;
    ``jitter_s``: the most that is added to a latency; ``server_ingress_bytes_per_s`` and
    ``server_egress_bytes_per_s``: what all uploads, and all downloads, share. Rates may be inf.

    ``compute_model`` is one of ``COMPUTE_MODELS``, with ``unit_s`` and ``slowdown`` as configured.
    ``constant_s`` and ``seconds_per_parameter`` (N,) are seconds of one local step at the experiment's
    batch size, for any model; ``layer_constant_s`` (N,) and ``layer_seconds_per_parameter`` (N, L) those of
    the experiment's model where it was measured, else L = 0; ``layer_dense_step_s`` (N,) what a step of that
    takes with dense kernels. NaN where nothing is known. ``relative_speed`` (N,): see ``Device``.
    """

    device_names: tuple[str, ...]
    uplink_bytes_per_s: FloatArray
    downlink_bytes_per_s: FloatArray
    latency_s: FloatArray
    jitter_s: float
    server_ingress_bytes_per_s: float
    server_egress_bytes_per_s: float
    compute_model: str
    unit_s: float
    slowdown: float
    constant_s: FloatArray
    seconds_per_parameter: FloatArray
    layer_constant_s: FloatArray
    layer_seconds_per_parameter: FloatArray
    layer_dense_step_s: FloatArray
    relative_speed: FloatArray

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value.setflags(write=False)

    def digest(self) -> str:
        """A short text that is another one for any other fleet."""
        digest = hashlib.blake2b(digest_size=16)
        for field in fields(self):
            value = getattr(self, field.name)
            digest.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
        return digest.hexdigest()


def assign(config: Config, seed: int) -> Fleet:
    """The fleet of an experiment: devices by stream DEVICES, drawn bandwidths by stream LINKS.

    A mix gives every device its share of the clients, by largest remainder (ties to the alphabetically
    first), and places them at random. A CSV file gives client i the i-th device, with its link and latency;
    the network's own keys must then be left alone, or "device".

    Raises EmulationError that names the key, or file, line and column, of what cannot be emulated.
    """
    network, compute = config.emulation.network, config.emulation.compute
    clients = config.clients.count
    _refuse_unsupported(config)
    latency = np.full(clients, network.latency_s, dtype=np.float64)
    uplink: Rate = network.uplink_mbit_per_s
    downlink: Rate = network.downlink_mbit_per_s
    if isinstance(compute.profile, str) and compute.profile.lower().endswith(".csv"):
        devices, latencies = read_devices(Path(compute.profile), clients)
        for name, value, default in (
            ("uplink_mbit_per_s", uplink, inf),
            ("downlink_mbit_per_s", downlink, inf),
            ("latency_s", network.latency_s, 0.0),
        ):
            if value not in (default, "device"):
                raise EmulationError(
                    f"emulation.network.{name}: found {value!r}, but {compute.profile} has a column {name}; "
                    f"allowed: leave the key out"
                )
        latency, uplink, downlink = np.array(latencies), "device", "device"
    else:
        devices = _named_devices(compute.profile, clients, seed)
    names = [d.name for d in devices]
    key = "emulation.network."
    return Fleet(
        device_names=tuple(names),
        uplink_bytes_per_s=client_rates(
            key + "uplink_mbit_per_s",
            uplink,
            names,
            [d.uplink_bytes_per_s for d in devices],
            lambda: generator(seed, Purpose.LINKS, _UPLINK),
        ),
        downlink_bytes_per_s=client_rates(
            key + "downlink_mbit_per_s",
            downlink,
            names,
            [d.downlink_bytes_per_s for d in devices],
            lambda: generator(seed, Purpose.LINKS, _DOWNLINK),
        ),
        latency_s=latency,
        jitter_s=network.jitter_s,
        server_ingress_bytes_per_s=server_rate(
            key + "server_ingress_mbit_per_s", network.server_ingress_mbit_per_s
        ),
        server_egress_bytes_per_s=server_rate(
            key + "server_egress_mbit_per_s", network.server_egress_mbit_per_s
        ),
        compute_model=compute.model,
        unit_s=compute.unit_s,
        slowdown=compute.slowdown,
        **_step_costs(devices, config),
        relative_speed=np.array([d.relative_speed for d in devices]),
    )


def _refuse_unsupported(config: Config) -> None:
    network, compute = config.emulation.network, config.emulation.compute
    if network.trace:
        raise EmulationError(
            f'emulation.network.trace: found {network.trace!r}; allowed: "", rates that never vary'
        )
    if config.emulation.availability.model != "always":
        raise unknown_name("emulation.availability.model", config.emulation.availability.model, ("always",))
    if compute.model not in COMPUTE_MODELS:
        raise unknown_name("emulation.compute.model", compute.model, COMPUTE_MODELS)
    for name, value, allowed in (
        ("network.latency_s", network.latency_s, SECONDS_OR_ZERO),
        ("network.jitter_s", network.jitter_s, SECONDS_OR_ZERO),
        ("compute.unit_s", compute.unit_s, SECONDS),
        ("compute.slowdown", compute.slowdown, FACTOR),
    ):
        if not allowed.holds(value):
            raise EmulationError(f"emulation.{name}: found {value}; allowed: {allowed.allowed}")


def _named_devices(profile: str | Mapping[str, float], clients: int, seed: int) -> tuple[Device, ...]:
    if isinstance(profile, str):
        return (device(profile),) * clients
    names = sorted(profile)
    shares = [float(profile[name]) for name in names]
    if not (all(share > 0.0 for share in shares) and abs(fsum(shares) - 1.0) <= 1e-6):
        raise EmulationError(
            f"emulation.compute.profile: found the shares {dict(profile)}; allowed: above 0, with sum 1"
        )
    counts = largest_remainder(shares, clients)
    kinds = np.repeat(np.arange(len(names)), counts)
    placed = generator(seed, Purpose.DEVICES).permutation(kinds)
    known = [device(name) for name in names]
    return tuple(known[kind] for kind in placed.tolist())


def largest_remainder(shares: Sequence[float], total: int) -> list[int]:
    """``total`` divided by ``shares`` (of sum 1) into whole numbers, none off by 1 or more.

    Hamilton's method: what is left after rounding down goes to the largest remainders, ties to the first.
    """
    # A remainder within rounding of the next whole number is that number: 0.1 * 30 is 3.0000000000000004.
    exact = [round(share * total, 6) for share in shares]
    counts = [int(quota) for quota in exact]
    by_remainder = sorted(range(len(shares)), key=lambda i: counts[i] - exact[i])
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts


def _step_costs(devices: Sequence[Device], config: Config) -> dict[str, FloatArray]:
    """The five arrays of the linear model, at the experiment's batch size."""
    if config.emulation.compute.model == "linear":
        for client, known in enumerate(devices):
            if known.generic is None and config.model.name not in known.models:
                raise EmulationError(
                    f"emulation.compute.profile: found {known.name!r} for client {client}, of which no time of a "
                    f'step of {config.model.name} is known; allowed with model = "linear": any other device, or '
                    f"what fedmpi calibrate has measured"
                )
    unknown = StepCost(nan, (nan,))
    generic = [d.generic or unknown for d in devices]
    tables = [d.models.get(config.model.name) for d in devices]
    layers = max((len(table.seconds_per_parameter) for table in tables if table), default=0)
    no_table = StepCost(nan, (nan,) * layers)
    measured = [table or no_table for table in tables]
    scale = np.array([config.training.batch_size / d.batch_size if d.batch_size else 1.0 for d in devices])
    return {
        "constant_s": scale * [cost.constant_s for cost in generic],
        "seconds_per_parameter": scale * [cost.seconds_per_parameter[0] for cost in generic],
        "layer_constant_s": scale * [cost.constant_s for cost in measured],
        "layer_seconds_per_parameter": scale[:, None]
        * np.array([cost.seconds_per_parameter for cost in measured]).reshape(len(devices), layers),
        "layer_dense_step_s": scale
        * [nan if cost.dense_step_s is None else cost.dense_step_s for cost in measured],
    }
