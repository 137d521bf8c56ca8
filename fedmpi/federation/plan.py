"""What the server tells everybody at the start of a round, as one record of fixed size."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray

from fedmpi.config.schema import Config
from fedmpi.numerics.streams import Purpose, generator


class Action(IntFlag):
    """What happens at this round boundary, besides or instead of the round."""

    NONE = 0
    CHECKPOINT = 1
    STOP = 2
    EVALUATE = 4
    MEASURE = 8
    PRUNE = 16
    IMPORTANCE = 32
    TRY_MASK = 64


@dataclass(frozen=True)
class RoundPlan:
    """One round as the server wants it.

    ``participants`` are client ids, int64, rising. ``k_probe`` is 0 where no second k is tried. ``start_s`` is the
    emulated time at which the round begins. CHECKPOINT comes before the round, EVALUATE after it;
    MEASURE asks the participants for their losses before and after it, on which the choice of k rests. PRUNE: the mask
    may change after the round; IMPORTANCE: clients then send the importance that they have gathered; TRY_MASK: the
    participants are asked for their losses before and after the round and under a smaller mask.
    """

    round_index: int
    action: Action
    k: int
    k_probe: int
    learning_rate: float
    start_s: float
    participants: np.ndarray


def header_dtype(clients: int) -> np.dtype:
    """The record that carries a plan: participants travel as one bit for each client."""
    return np.dtype(
        [
            ("round_index", np.int64),
            ("action", np.int64),
            ("k", np.int64),
            ("k_probe", np.int64),
            ("learning_rate", np.float64),
            ("start_s", np.float64),
            ("participants", np.uint8, (-(-clients // 8),)),
        ]
    )


def encode(plan: RoundPlan, header: np.ndarray) -> None:
    """Write a plan into a record array of one ``header_dtype`` element."""
    row = header[0]
    row["round_index"] = plan.round_index
    row["action"] = int(plan.action)
    row["k"] = plan.k
    row["k_probe"] = plan.k_probe
    row["learning_rate"] = plan.learning_rate
    row["start_s"] = plan.start_s
    bits = np.zeros(row["participants"].size * 8, dtype=bool)
    bits[plan.participants] = True
    row["participants"] = np.packbits(bits)


def decode(header: np.ndarray) -> RoundPlan:
    """The plan in a record array of one ``header_dtype`` element."""
    row = header[0]
    return RoundPlan(
        round_index=int(row["round_index"]),
        action=Action(int(row["action"])),
        k=int(row["k"]),
        k_probe=int(row["k_probe"]),
        learning_rate=float(row["learning_rate"]),
        start_s=float(row["start_s"]),
        participants=np.flatnonzero(np.unpackbits(row["participants"])),
    )


def draw_participants(
    seed: int, round_index: int, available: NDArray[np.int64], per_round: int
) -> NDArray[np.int64]:
    """The clients of one round, rising: all that are ``available``, or ``per_round`` of them (0: all).

    They are drawn uniformly without replacement; where fewer are available, all of them take part.
    """
    if per_round == 0 or per_round >= len(available):
        return available
    draw = generator(seed, Purpose.PARTICIPANTS, round_index)
    return np.sort(draw.choice(available, size=per_round, replace=False, shuffle=False))


def learning_rate_at(round_index: int, initial: float, half_life_rounds: float) -> float:
    """The learning rate of a round: halved every ``half_life_rounds`` (inf: constant)."""
    return float(initial * 0.5 ** (round_index / half_life_rounds))


def local_steps(config: Config, sizes: np.ndarray) -> np.ndarray:
    """Local steps of clients with ``sizes`` samples, in steps of ``batch_size`` samples, float64."""
    training = config.training
    if training.local_epochs:
        return training.local_epochs * sizes / training.batch_size
    return training.local_steps * np.minimum(sizes, training.batch_size) / training.batch_size
