"""One reconfiguration of PruneFL (Jiang et al., IEEE TNNLS 2022, "further pruning").

The published rule takes candidates by falling importance per second and stops at the first that would not
raise the ratio Delta / T. That greedy rule finds the largest ratio that any set of candidates reaches, and the
set is all those above it: so the ratio is found by Dinkelbach's iteration (each step one pass that sums what
lies above the last ratio), and nothing needs to be sorted. Within a layer all parameters take the same time,
so that a ratio is one bar for the importances of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, isfinite

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedmpi.numerics.topk import largest
from fedmpi.pruning.magnitude import keep_largest, magnitudes
from fedmpi.pruning.mask import LayerSlice, Mask

Importance = NDArray[np.floating]
"""float32 or float64."""

_BLOCK = 1 << 16
"""Entries of one pass in cache."""
_SAMPLE = 1 << 12
"""Entries of each layer from which the first ratio is guessed."""
_GATHERED_FRACTION = 8
"""Once no more than one candidate in so many lies above the bar, those are gathered for the next pass."""


@dataclass(frozen=True)
class Reconfiguration:
    """The new mask, and what it was decided by.

    ``importance`` is Delta and ``round_s`` is T, both of the new mask. ``dropped`` and ``put_back`` are int64
    (L,), one entry for each prunable layer: what went for its small magnitude, and what came (or came back).
    """

    mask: Mask
    importance: float
    round_s: float
    dropped: NDArray[np.int64]
    put_back: NDArray[np.int64]


def reconfigure(
    weights: NDArray[np.float32],
    importance: Importance,
    mask: Mask,
    layers: Sequence[LayerSlice],
    seconds_per_parameter: ArrayLike,
    constant_s: float,
    decrease_fraction: float,
    max_density: float = 1.0,
) -> Reconfiguration:
    """Drop small weights, then put back what is worth its time.

    ``weights`` float32 (D,), finite; ``importance`` float32 or float64 (D,), of all parameters, not negative;
    ``seconds_per_parameter`` (L,) and ``constant_s`` make the round time T of a mask: constant_s + sum over
    prunable layers of active parameters x seconds_per_parameter.

    1. In every prunable layer with n active weights, those below the (floor(f n) + 1)-th smallest magnitude
       go, f being ``decrease_fraction``; weights that tie with it stay.
    2. Delta is the importance of all that is left, non-prunable parameters included.
    3. The others return by falling importance per second while that exceeds Delta / T, which follows.

    The density never exceeds ``max_density``: among equals at the limit the lowest index returns, and where
    step 1 leaves too many, every layer gives up the same fraction more, its smallest weights.
    Sums are made in float64 in an order that depends on the arguments alone.

    Raises ValueError for shapes, dtypes or numbers outside of this, and when T would be zero.
    """
    seconds = np.asarray(seconds_per_parameter, dtype=np.float64)
    prunable = [layer for layer in layers if layer.prunable]
    _check(weights, importance, mask, len(prunable), seconds, constant_s, decrease_fraction, max_density)
    before = mask.active_per_layer(prunable)
    limit = allowed_active(max_density, sum(layer.stop - layer.start for layer in prunable))
    kept_mask = _drop(weights, mask, prunable, decrease_fraction, limit)
    kept = kept_mask.active_per_layer(prunable)

    active = np.array(kept_mask.flags())
    gain = sum(
        float(importance[la.start : la.stop].sum(dtype=np.float64)) for la in layers if not la.prunable
    )
    candidates = []
    for layer in prunable:
        inside = active[layer.start : layer.stop]
        of_layer = importance[layer.start : layer.stop]
        gain += _sum_where(of_layer, inside)
        candidates.append(of_layer * ~inside)
    round_s = constant_s + float((seconds * kept).sum())
    if round_s == 0.0:
        raise ValueError("a round of the kept parameters takes no time: constant_s must be positive")

    bars = _bars(_best_ratio(candidates, seconds, gain, round_s), seconds, importance.dtype)
    chosen = [values > bar for values, bar in zip(candidates, bars, strict=True)]
    room = limit - int(kept.sum())
    if sum(int(np.count_nonzero(each)) for each in chosen) > room:
        _cut(chosen, candidates, seconds, room)
    put_back = np.array([np.count_nonzero(each) for each in chosen], dtype=np.int64)
    for layer, values, each in zip(prunable, candidates, chosen, strict=True):
        active[layer.start : layer.stop] |= each
        gain += _sum_where(values, each)
    return Reconfiguration(
        mask=Mask.of(active),
        importance=gain,
        round_s=round_s + float((seconds * put_back).sum()),
        dropped=before - kept,
        put_back=put_back,
    )


def _check(
    weights: NDArray[np.float32],
    importance: Importance,
    mask: Mask,
    prunable_layers: int,
    seconds: NDArray[np.float64],
    constant_s: float,
    decrease_fraction: float,
    max_density: float,
) -> None:
    shape = (mask.dimension,)
    if weights.dtype != np.float32 or weights.shape != shape:
        raise ValueError(f"weights are float32 of shape {shape}, found {weights.dtype} of {weights.shape}")
    if importance.dtype not in (np.float32, np.float64) or importance.shape != shape:
        raise ValueError(
            f"importance is float32 or float64 of shape {shape}, found {importance.dtype} of {importance.shape}"
        )
    if mask.dimension and not (isfinite(weights.min()) and isfinite(weights.max())):
        raise ValueError("weights has entries that are not finite")
    if mask.dimension and not (importance.min() >= 0.0 and isfinite(importance.max())):
        raise ValueError("importance has entries that are negative or not finite")
    if seconds.shape != (prunable_layers,) or not (np.isfinite(seconds) & (seconds >= 0.0)).all():
        raise ValueError(
            f"seconds_per_parameter has one finite number from 0 on for each of {prunable_layers} prunable "
            f"layers, found {seconds.tolist()}"
        )
    if not (isfinite(constant_s) and constant_s >= 0.0):
        raise ValueError(f"constant_s is {constant_s}, allowed are finite numbers from 0 on")
    if not (0.0 <= decrease_fraction <= 1.0 and 0.0 <= max_density <= 1.0):
        raise ValueError(
            f"decrease_fraction is {decrease_fraction} and max_density {max_density}, both allowed from 0 to 1"
        )


def allowed_active(max_density: float, total: int) -> int:
    """The largest n with n / total <= max_density."""
    limit = min(floor(max_density * total) + 1, total)  # the product may have been rounded down
    while limit and limit / total > max_density:
        limit -= 1
    return limit


def _drop(
    weights: NDArray[np.float32], mask: Mask, prunable: Sequence[LayerSlice], fraction: float, limit: int
) -> Mask:
    """The mask without the small weights, at most ``limit`` of the prunable ones."""
    active = np.array(mask.flags())
    for layer in prunable:
        inside = active[layer.start : layer.stop]
        count = int(np.count_nonzero(inside))
        drop = floor(fraction * count)
        if drop == count:
            inside[:] = False
        elif drop:
            sizes = magnitudes(weights[layer.start : layer.stop])
            inside &= sizes >= _order_statistic(
                sizes if count == sizes.size else sizes[inside.nonzero()], drop
            )
    kept_mask = Mask.of(active)
    kept = kept_mask.active_per_layer(prunable)
    total = int(kept.sum())
    if total > limit:
        kept_mask = keep_largest(weights, kept_mask, prunable, [limit * int(n) // total for n in kept])
    return kept_mask


def _order_statistic(values: NDArray[np.uint32], position: int) -> np.uint32:
    """The entry at ``position`` of the rising order, positions counted from 0."""
    smallest: np.uint32 = values[largest(~values, position + 1)].max()
    return smallest


def _best_ratio(
    candidates: Sequence[Importance], seconds: NDArray[np.float64], gain: float, round_s: float
) -> float:
    """The largest (gain + importances) / (round_s + seconds) that any set of candidates reaches.

    Candidates are positive entries; zeros stand for what is none.
    """
    lowest = gain / round_s
    dtype = candidates[0].dtype if candidates else np.dtype(np.float64)

    def counts_and_ratio(
        groups: Sequence[Importance], bars: Sequence[np.floating]
    ) -> tuple[list[int], float]:
        above = [_count_and_sum_above(values, bar) for values, bar in zip(groups, bars, strict=True)]
        counts = [count for count, _ in above]
        total = sum(total for _, total in above)
        return counts, (gain + total) / (round_s + float((seconds * counts).sum()))

    # Whatever set a guess leads to, its ratio is no more than the best, and close to it if the guess was good.
    guess = max(lowest, _sampled_ratio(candidates, seconds, gain, round_s))
    ratio = max(lowest, counts_and_ratio(candidates, _bars(guess, seconds, dtype))[1])
    previous: list[int] | None = None
    remaining = list(candidates)
    while True:
        bars = _bars(ratio, seconds, dtype)
        counts, reached = counts_and_ratio(remaining, bars)
        if counts == previous:  # the sets are nested, as the ratio never falls: equal counts are equal sets
            return ratio
        remaining = [_gathered(*each) for each in zip(remaining, bars, counts, strict=True)]
        previous = counts
        ratio = max(ratio, reached)


def _sampled_ratio(
    candidates: Sequence[Importance], seconds: NDArray[np.float64], gain: float, round_s: float
) -> float:
    """A guess of the best ratio, by the published rule on some candidates that stand for all."""
    ratios, gains, times = [], [], []
    for values, per_parameter in zip(candidates, seconds.tolist(), strict=True):
        sample = values[:: max(1, values.size // _SAMPLE)]
        positive = sample[sample > 0].astype(np.float64)
        stands_for = values.size / max(1, sample.size)
        ratios.append(positive / per_parameter if per_parameter else np.full(positive.size, np.inf))
        gains.append(positive * stands_for)
        times.append(np.full(positive.size, per_parameter * stands_for))
    order = np.argsort(-np.concatenate([np.empty(0), *ratios]))
    gain_sums = np.cumsum(np.concatenate([np.empty(0), *gains])[order])
    time_sums = np.cumsum(np.concatenate([np.empty(0), *times])[order])
    return float(((gain + gain_sums) / (round_s + time_sums)).max(initial=0.0))


def _bars(ratio: float, seconds: NDArray[np.float64], dtype: np.dtype) -> list[np.floating]:
    """For every layer the largest number of ``dtype`` that, divided by its seconds, is at most ``ratio``.

    An importance exceeds it exactly where the quotient in float64 exceeds the ratio. Where parameters take no
    time it is zero: all of some importance are worth it.
    """
    bars = []
    largest_number = np.finfo(dtype).max
    for per_parameter in seconds.tolist():
        if ratio == 0.0 or per_parameter == 0.0:
            bars.append(dtype.type(0))
            continue
        bar = dtype.type(min(ratio * per_parameter, float(largest_number)))
        while float(bar) / per_parameter > ratio:
            bar = np.nextafter(bar, dtype.type(0))
        while (
            bar < largest_number
            and float(higher := np.nextafter(bar, largest_number)) / per_parameter <= ratio
        ):
            bar = higher
        bars.append(bar)
    return bars


def _sum_where(values: Importance, chosen: NDArray[np.bool_]) -> float:
    """The sum of the chosen entries in float64."""
    total = 0.0
    for start in range(0, values.size, _BLOCK):
        part = values[start : start + _BLOCK] * chosen[start : start + _BLOCK]
        total += float(part.sum(dtype=np.float64))
    return total


def _count_and_sum_above(values: Importance, bar: np.floating) -> tuple[int, float]:
    """How many entries exceed ``bar``, and their sum in float64."""
    count, total = 0, 0.0
    for start in range(0, values.size, _BLOCK):
        block = values[start : start + _BLOCK]
        above = block > bar
        count += int(np.count_nonzero(above))
        total += float((block * above).sum(dtype=np.float64))
    return count, total


def _gathered(values: Importance, bar: np.floating, count: int) -> Importance:
    """Only what exceeds ``bar``, where that is so little that later passes gain by it."""
    if count * _GATHERED_FRACTION > values.size:
        return values
    return values[np.flatnonzero(values > bar)]


def _cut(
    chosen: Sequence[NDArray[np.bool_]],
    candidates: Sequence[Importance],
    seconds: NDArray[np.float64],
    room: int,
) -> None:
    """Leave the ``room`` entries of largest importance per second chosen, those that take no time first."""
    for free in (True, False):
        group = [index for index, each in enumerate(seconds.tolist()) if (each == 0.0) == free]
        positions = [np.flatnonzero(chosen[index]) for index in group]
        ends = np.cumsum([at.size for at in positions], dtype=np.int64)
        joined = np.empty(int(ends[-1]) if group else 0)
        for index, at, end in zip(group, positions, ends.tolist(), strict=True):
            divisor = 1.0 if free else seconds[index]
            np.divide(candidates[index][at], divisor, out=joined[end - at.size : end], dtype=np.float64)
        stays = np.zeros(joined.size, np.bool_)
        stays[largest(joined, min(room, joined.size))] = True
        room -= int(np.count_nonzero(stays))
        for index, at, end in zip(group, positions, ends.tolist(), strict=True):
            chosen[index][at] = stays[end - at.size : end]
