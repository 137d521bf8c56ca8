"""Refusal of devices and links that cannot be emulated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, fields
from math import fsum, inf
from typing import Any

from fedmpi.config.emulation_schema import NetworkConfig
from fedmpi.config.errors import ConfigError, refusal, shown_value
from fedmpi.config.ranges import RATE_OR_INF, SECONDS_OR_ZERO, Range
from fedmpi.config.schema import Config, value_of


def check_emulation(config: Config) -> None:
    """Raise ConfigError for what ``[emulation]`` cannot be."""
    network, profile = config.emulation.network, config.emulation.compute.profile
    for name, allowed in (
        ("uplink_mbit_per_s", RATE_OR_INF),
        ("downlink_mbit_per_s", RATE_OR_INF),
        ("latency_s", SECONDS_OR_ZERO),
        ("jitter_s", SECONDS_OR_ZERO),
    ):
        _check_per_client(f"emulation.network.{name}", getattr(network, name), config.clients.count, allowed)
    _check_traces(network)
    if network.connection == "new" and network.transport != "tcp":
        problem = f'found "new" with transport "{network.transport}", which knows no connections'
        raise ConfigError("emulation.network.connection", problem, '"kept", or transport = "tcp"')
    if config.emulation.compute.model == "normalized":
        _check_normalized(config)
    key = "emulation.compute.profile"
    if isinstance(profile, str):
        if not profile:
            raise refusal(key, profile, "a device, a mix of devices, or the path of a CSV file")
        return
    if not profile or not all(0 < share <= 1 for share in profile.values()):
        raise refusal(key, profile, "a mix whose shares are above 0 and at most 1")
    if abs(fsum(profile.values()) - 1) > 1e-6:
        raise refusal(key, profile, "a mix whose shares add up to 1")


def _check_normalized(config: Config) -> None:
    """The normalized cost model knows neither devices nor links."""
    compute, network = config.emulation.compute, config.emulation.network
    if config.emulation.energy.on:
        problem = 'found true with [emulation.compute] model "normalized", whose times are no seconds'
        raise ConfigError("emulation.energy.on", problem, "false, or another emulation.compute.model")
    found: dict[str, object] = {f"emulation.network.{field.name}": field for field in fields(network)}
    found |= {
        f"emulation.compute.{field.name}": field
        for field in fields(compute)
        if field.name not in ("model", "beta")
    }
    for key, field in found.items():
        assert isinstance(field, Field)
        if value_of(config, key) != field.default:
            problem = (
                f'found {shown_value(value_of(config, key))} with [emulation.compute] model "normalized"'
            )
            raise ConfigError(
                key, problem, f"{shown_value(field.default)}: that model has a cost of its own, beta"
            )


def _check_traces(network: NetworkConfig) -> None:
    """A trace is the rate of its direction, so there is no other; its own settings need one."""
    for direction in ("uplink", "downlink"):
        trace, rate = getattr(network, f"{direction}_trace"), getattr(network, f"{direction}_mbit_per_s")
        key = f"emulation.network.{direction}_trace"
        if trace != "" and (not trace or not all([trace] if isinstance(trace, str) else trace)):
            raise refusal(key, list(trace), "a list of files and folders, not empty and none of them empty")
        if trace and rate != inf:
            problem = f"found {shown_value(trace)} with {direction}_mbit_per_s = {shown_value(rate)}"
            raise ConfigError(key, problem, "one of the two")
    if not (network.uplink_trace or network.downlink_trace):
        for name, default in (("trace_bin_s", 0.5), ("trace_start", "zero")):
            value = getattr(network, name)
            if value != default:
                problem = f"found {shown_value(value)} without a trace"
                raise ConfigError(
                    f"emulation.network.{name}", problem, f"{shown_value(default)}, or a trace of a link"
                )


def _check_per_client(key: str, value: Any, clients: int, allowed: Range) -> None:
    """One number for each client (Mbit/s, seconds) in any of the four forms."""
    if isinstance(value, str):
        if value != "device":
            unit = " in Mbit/s" if allowed is RATE_OR_INF else " of seconds"
            raise refusal(key, value, f'a number{unit}, a list of them, "device", or a table')
    elif isinstance(value, tuple):
        if len(value) != clients:
            raise ConfigError(key, f"found a list of {len(value)}", f"clients.count = {clients} items")
        for client, item in enumerate(value):
            if not allowed.holds(item):
                raise ConfigError(key, f"found {item} for client {client}", allowed.allowed)
    elif isinstance(value, Mapping):
        _check_distribution(key, value, allowed.high)
    elif not allowed.holds(value):
        raise refusal(key, value, allowed.allowed)


def _check_distribution(key: str, table: Mapping[str, Any], high: float) -> None:
    if not isinstance(table.get("distribution"), str):
        raise refusal(key, table, 'a table with a distribution, such as {distribution = "lognormal", ...}')
    for name, value in table.items():
        if name != "distribution" and not (isinstance(value, float) and 0 <= value <= high):
            raise refusal(f"{key}.{name}", value, f"a number from 0 to {high:g}")
