"""Numbers of clients' links from the configuration: bandwidths (Mbit/s there, bytes per second here) and seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from fedmpi.config.emulation_schema import Rate, Seconds
from fedmpi.config.ranges import RATE_OR_INF, SECONDS_OR_ZERO, Range
from fedmpi.emulation.errors import EmulationError, unknown_name
from fedmpi.emulation.profiles import REFERENCE

BYTES_PER_S_PER_MBIT_PER_S = 125_000.0

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Quantity:
    """What a key counts in ``unit``: the ``allowed`` numbers, and the ``factor`` to the unit that is computed with.

    ``thing``: what a device has of it. ``positive``: a distribution of it has no parameter that is 0, spreads excepted.
    """

    unit: str
    thing: str
    allowed: Range
    factor: float = 1.0
    positive: bool = False


BANDWIDTH = Quantity("Mbit/s", "link", RATE_OR_INF, BYTES_PER_S_PER_MBIT_PER_S, positive=True)
LATENCY = Quantity("seconds", "latency", SECONDS_OR_ZERO)
JITTER = Quantity("seconds", "jitter", SECONDS_OR_ZERO)


def client_values(
    key: str,
    value: Rate | Seconds,
    quantity: Quantity,
    names: Sequence[str],
    of_devices: Sequence[float | None],
    rng: Callable[[], np.random.Generator],
) -> FloatArray:
    """The number of every client at ``key``, float64 (clients,): bytes per second of a bandwidth, else seconds.

    ``value`` is what stands at ``key`` in the configuration; ``names`` and ``of_devices`` are each client's device and
    that device's own number, already in the unit that is computed with (None: unknown); ``rng`` makes the generator of
    a distribution. The first clients' draws do not depend on how many clients there are.

    Raises EmulationError that names the key when a number is missing, out of its range, or not described as
    allowed.
    """
    clients, unit = len(names), quantity.unit
    if isinstance(value, str):
        if value != "device":
            raise EmulationError(
                f'{key}: found {value!r}; allowed: {unit}, a list of them, "device", or a distribution'
            )
        return _of_devices(key, quantity, names, of_devices)
    if isinstance(value, Mapping):
        numbers = _draw(key, value, quantity, clients, rng())
    elif isinstance(value, (tuple, list)):
        if len(value) != clients:
            raise EmulationError(
                f"{key}: found a list of {len(value)}; allowed: one for each of {clients} clients"
            )
        numbers = np.asarray(value, dtype=np.float64)
    else:
        numbers = np.full(clients, value, dtype=np.float64)
    allowed = quantity.allowed
    right = (allowed.low <= numbers) & ((numbers <= allowed.high) | (allowed.or_inf & (numbers == inf)))
    if not right.all():
        client = int(right.argmin())
        raise EmulationError(
            f"{key}: found {numbers[client]} {unit} for client {client}; allowed: {allowed.allowed}"
        )
    return numbers * quantity.factor


def server_rate(key: str, mbit_per_s: float) -> float:
    """The rate of the server's link in one direction, bytes per second."""
    if not RATE_OR_INF.holds(mbit_per_s):
        raise EmulationError(f"{key}: found {mbit_per_s}; allowed: {RATE_OR_INF.allowed}")
    return mbit_per_s * BYTES_PER_S_PER_MBIT_PER_S


def _of_devices(
    key: str, quantity: Quantity, names: Sequence[str], of_devices: Sequence[float | None]
) -> FloatArray:
    for name, own in zip(names, of_devices, strict=True):
        if own is None:
            what = f"no {quantity.thing} of {name!r}"
            if name == REFERENCE:
                what = "no device (emulation.compute.profile)"
            raise EmulationError(
                f'{key}: found "device", but {what} is known; allowed: {quantity.unit} or a distribution'
            )
    return np.asarray(of_devices, dtype=np.float64)


def _draw(
    key: str, table: Mapping[str, float | str], quantity: Quantity, clients: int, rng: np.random.Generator
) -> FloatArray:
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
        lowest = "above 0" if quantity.positive and name not in ("sigma", "std") else "0 or more"
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
"""Each distribution and its parameters, all in the quantity's unit but sigma, in the order in which it takes them."""
