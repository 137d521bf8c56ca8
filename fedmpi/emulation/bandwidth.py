"""Bandwidths of the clients' links from the configuration: Mbit/s there, bytes per second here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf

import numpy as np
from numpy.typing import NDArray

from fedmpi.config.ranges import RATE, RATE_OR_INF
from fedmpi.config.schema import Rate
from fedmpi.emulation.errors import EmulationError, unknown_name
from fedmpi.emulation.profiles import REFERENCE

BYTES_PER_S_PER_MBIT_PER_S = 125_000.0

FloatArray = NDArray[np.float64]


def client_rates(
    key: str,
    rate: Rate,
    names: Sequence[str],
    device_bytes_per_s: Sequence[float | None],
    rng: Callable[[], np.random.Generator],
) -> FloatArray:
    """The rate of every client's link in one direction, float64 (clients,), bytes per second.

    ``rate`` is what stands at ``key`` in the configuration; ``names`` and ``device_bytes_per_s`` are each
    client's device and that device's own rate (None: unknown); ``rng`` makes the generator of a
    distribution. The first clients' draws do not depend on how many clients there are.

    Raises EmulationError that names the key when a rate is missing, out of its range, or not described as
    allowed.
    """
    clients = len(names)
    if isinstance(rate, str):
        if rate != "device":
            raise EmulationError(
                f'{key}: found {rate!r}; allowed: Mbit/s, a list of them, "device", or a distribution'
            )
        return _device_rates(key, names, device_bytes_per_s)
    if isinstance(rate, Mapping):
        mbit_per_s = _draw(key, rate, clients, rng())
    elif isinstance(rate, (tuple, list)):
        if len(rate) != clients:
            raise EmulationError(
                f"{key}: found a list of {len(rate)}; allowed: one for each of {clients} clients"
            )
        mbit_per_s = np.asarray(rate, dtype=np.float64)
    else:
        mbit_per_s = np.full(clients, rate, dtype=np.float64)
    right = (RATE.low <= mbit_per_s) & ((mbit_per_s <= RATE.high) | (mbit_per_s == inf))
    if not right.all():
        client = int(right.argmin())
        raise EmulationError(
            f"{key}: found {mbit_per_s[client]} Mbit/s for client {client}; allowed: {RATE_OR_INF.allowed}"
        )
    return mbit_per_s * BYTES_PER_S_PER_MBIT_PER_S


def server_rate(key: str, mbit_per_s: float) -> float:
    """The rate of the server's link in one direction, bytes per second."""
    if not RATE_OR_INF.holds(mbit_per_s):
        raise EmulationError(f"{key}: found {mbit_per_s}; allowed: {RATE_OR_INF.allowed}")
    return mbit_per_s * BYTES_PER_S_PER_MBIT_PER_S


def _device_rates(key: str, names: Sequence[str], device_bytes_per_s: Sequence[float | None]) -> FloatArray:
    for name, own in zip(names, device_bytes_per_s, strict=True):
        if own is None:
            what = "no device (emulation.compute.profile)" if name == REFERENCE else f"no link of {name!r}"
            raise EmulationError(
                f'{key}: found "device", but {what} is known; allowed: Mbit/s or a distribution'
            )
    return np.asarray(device_bytes_per_s, dtype=np.float64)


def _draw(key: str, table: Mapping[str, float | str], clients: int, rng: np.random.Generator) -> FloatArray:
    kind = str(table.get("distribution", ""))
    if kind not in _DISTRIBUTIONS:
        raise unknown_name(f"{key}.distribution", kind, tuple(_DISTRIBUTIONS))
    draw, parameters = _DISTRIBUTIONS[kind]
    found = set(table) - {"distribution"}
    if found != set(parameters):
        raise EmulationError(
            f"{key}: found the keys {', '.join(sorted(found)) or 'none'} for a {kind} distribution; "
            f"allowed, and needed: {', '.join(parameters)}"
        )
    values = []
    for name in parameters:
        value = table[name]
        lowest = "0 or more" if name in ("sigma", "std") else "above 0"
        if (
            isinstance(value, (bool, str))
            or not (0.0 <= value < inf)
            or (value == 0.0 and lowest == "above 0")
        ):
            raise EmulationError(f"{key}.{name}: found {value!r}; allowed: a finite number, {lowest}")
        values.append(float(value))
    if kind == "uniform" and values[1] < values[0]:
        raise EmulationError(f"{key}.high: found {values[1]}; allowed: at least low = {values[0]}")
    with np.errstate(over="ignore"):
        drawn = draw(rng, clients, *values)
    if not np.isfinite(drawn).all():
        raise EmulationError(f"{key}: a draw is beyond the range of numbers; allowed: a smaller spread")
    return drawn


def _lognormal(rng: np.random.Generator, clients: int, median: float, sigma: float) -> FloatArray:
    return median * np.exp(sigma * rng.standard_normal(clients))


def _normal(rng: np.random.Generator, clients: int, mean: float, std: float, minimum: float) -> FloatArray:
    """Draws below ``minimum`` become ``minimum``: what the configuration says, and no draw is repeated."""
    return np.maximum(minimum, mean + std * rng.standard_normal(clients))


def _uniform(rng: np.random.Generator, clients: int, low: float, high: float) -> FloatArray:
    return low + (high - low) * rng.random(clients)


_DISTRIBUTIONS: dict[str, tuple[Callable[..., FloatArray], tuple[str, ...]]] = {
    "lognormal": (_lognormal, ("median", "sigma")),
    "normal": (_normal, ("mean", "std", "minimum")),
    "uniform": (_uniform, ("low", "high")),
}
"""Each distribution and its parameters, all in Mbit/s but sigma, in the order in which it takes them."""
