"""Refusal of devices and links that cannot be emulated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, fields
from math import fsum
from typing import Any

from fedmpi.config.errors import ConfigError, refusal, shown_value
from fedmpi.config.ranges import RATE, RATE_OR_INF
from fedmpi.config.schema import Config, value_of


def check_emulation(config: Config) -> None:
    """Raise ConfigError for what ``[emulation]`` cannot be."""
    network, profile = config.emulation.network, config.emulation.compute.profile
    for name in ("uplink_mbit_per_s", "downlink_mbit_per_s"):
        _check_rate(f"emulation.network.{name}", getattr(network, name), config.clients.count)
    if network.trace:
        problem = f"found {shown_value(network.trace)}, but in this version bandwidths do not vary in time"
        raise ConfigError("emulation.network.trace", problem, '""')
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


def _check_rate(key: str, rate: Any, clients: int) -> None:
    """One bandwidth in Mbit/s in any of its four forms."""
    if isinstance(rate, str):
        if rate != "device":
            raise refusal(key, rate, 'a number in Mbit/s, a list of them, "device", or a table')
    elif isinstance(rate, tuple):
        if len(rate) != clients:
            raise ConfigError(key, f"found a list of {len(rate)}", f"clients.count = {clients} items")
        for client, item in enumerate(rate):
            if not RATE_OR_INF.holds(item):
                raise ConfigError(key, f"found {item} for client {client}", RATE_OR_INF.allowed)
    elif isinstance(rate, Mapping):
        _check_distribution(key, rate)
    elif not RATE_OR_INF.holds(rate):
        raise refusal(key, rate, RATE_OR_INF.allowed)


def _check_distribution(key: str, rate: Mapping[str, Any]) -> None:
    if not isinstance(rate.get("distribution"), str):
        raise refusal(key, rate, 'a table with a distribution, such as {distribution = "lognormal", ...}')
    for name, value in rate.items():
        if name != "distribution" and not (isinstance(value, float) and 0 <= value <= RATE.high):
            raise refusal(f"{key}.{name}", value, f"a number from 0 to {RATE.high:g}")
