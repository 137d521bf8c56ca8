"""What the server and the other ranks say to each other in a round: its plan, and records of its participants.

All of it has a fixed size, which every rank knows beforehand.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray

from fedmpi.pruning import Needs

RECORD = np.dtype(
    [
        ("client", np.int64),
        ("samples", np.int64),
        ("entries", np.int64),
        ("message_bytes", np.int64),
        ("train_loss", np.float64),
        ("max_abs", np.float64),
        ("compute_host_s", np.float64),
        ("ready_s", np.float64),
        ("signalled", np.int8),
    ]
)
"""One participant after its training. ``samples``: how many it processed, repetitions counted. ``entries``: how
many values it sends, in a message of ``message_bytes``. ``max_abs``: its largest |update|, NaN or inf when the
update is not finite. ``compute_host_s``: how long training took here; ``ready_s``: the emulated moment at which
it was done (NaN under a virtual clock). ``signalled``: whether its rank was asked to stop."""

VERDICT = np.dtype(
    [("deadline_s", np.float64), ("message_bytes", np.int64), ("status", np.int8), ("trained", np.bool_)]
)
"""The server's verdict on one participant, in client order: the emulated time at which its message has arrived, how
long that is, and its status (``trace.Status``): the update of a participant that is OK is taken, of any other not.
``deadline_s`` is where a participant stopped that is late or dropped; ``trained``: whether it had trained by then."""

LOSSES = np.dtype(
    [
        ("client", np.int64),
        ("previous", np.float64),
        ("current", np.float64),
        ("probe", np.float64),
        ("pruned", np.float64),
    ]
)
"""The losses of one participant's probe sample under w(m-1), w(m), w'(m), and w(m) pruned to a mask that is tried."""


class Action(IntFlag):
    """What happens at this round boundary, besides or instead of the round."""

    NONE = 0
    CHECKPOINT = 1
    STOP = 2
    EVALUATE = 4
    MEASURE = 8


@dataclass(frozen=True)
class RoundStart:
    """The circumstances in which a round begins, as far as they bear on what it costs.

    ``start_s``: the emulated moment; ``participants``: client ids, int64 (n,), rising; ``tries_second_model``: whether
    they try a second model on a sample, one of a smaller k or mask.
    """

    round_index: int
    start_s: float
    participants: NDArray[np.int64]
    tries_second_model: bool = False


@dataclass(frozen=True)
class RoundPlan:
    """One round as the server wants it.

    ``participants`` are client ids, int64, rising. ``k_probe`` is 0 where no second k is tried. ``start_s`` is the
    emulated time at which the round begins. CHECKPOINT comes before the round, EVALUATE after it;
    MEASURE asks the participants for their losses before and after it, on which the choice of k rests. ``needs`` is
    what the pruning method asks of the round; unless it is nothing, the mask may change after it. IMPORTANCE: clients
    send the importance that they have gathered; LOSSES: they are asked for their losses before and after the round
    and under a smaller mask. ``layer_k``: how many of the k entries are of each layer; empty: they may be any.
    """

    round_index: int
    action: Action
    k: int
    k_probe: int
    learning_rate: float
    start_s: float
    participants: NDArray[np.int64]
    needs: Needs = Needs.NOTHING
    layer_k: tuple[int, ...] = ()

    @property
    def measures_losses(self) -> bool:
        """Whether participants are asked for losses, by whoever chooses k or the mask."""
        return Action.MEASURE in self.action or Needs.LOSSES in self.needs

    @property
    def start(self) -> RoundStart:
        """What the costs of the round depend on."""
        second = self.k_probe > 0 or Needs.LOSSES in self.needs
        return RoundStart(self.round_index, self.start_s, self.participants, second)


def header_dtype(clients: int, layers: int = 0) -> np.dtype:
    """The record that carries a plan: participants travel as one bit for each client, k of each of ``layers``."""
    return np.dtype(
        [
            ("round_index", np.int64),
            ("action", np.int32),
            ("needs", np.int32),
            ("k", np.int64),
            ("k_probe", np.int64),
            ("learning_rate", np.float64),
            ("start_s", np.float64),
            ("participants", np.uint8, (-(-clients // 8),)),
            ("layer_k", np.int64, (layers,)),
        ]
    )


def encode(plan: RoundPlan, header: NDArray[np.void]) -> None:
    """Write a plan into a record array of one ``header_dtype`` element."""
    row = header[0]
    row["round_index"] = plan.round_index
    row["action"] = int(plan.action)
    row["needs"] = plan.needs.value
    row["k"] = plan.k
    row["k_probe"] = plan.k_probe
    row["learning_rate"] = plan.learning_rate
    row["start_s"] = plan.start_s
    bits = np.zeros(row["participants"].size * 8, dtype=bool)
    bits[plan.participants] = True
    row["participants"] = np.packbits(bits)
    row["layer_k"] = plan.layer_k


def decode(header: NDArray[np.void]) -> RoundPlan:
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
        needs=Needs(int(row["needs"])),
        layer_k=tuple(row["layer_k"].tolist()),
    )
