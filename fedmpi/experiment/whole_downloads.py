"""How long the messages were that participants did not get to the end of, as far as a trace shows.

A trace has the bytes that had arrived. What the whole message was follows from the version of the model that a client
had: everybody who had the same one is sent the same. Nothing here needs torch or MPI.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedmpi.aggregation import Aggregator
from fedmpi.config import Config, parts
from fedmpi.config.parts import is_reference
from fedmpi.experiment.recorded import Recorded
from fedmpi.federation.downlink import NEVER, Downlink
from fedmpi.federation.round_cost import loss_report_bytes
from fedmpi.sparsification import Codec, Method, SparseMethod, WireCodec, largest
from fedmpi.sparsification.choices import at_random, by_layer
from fedmpi.sparsification.qsgd import QuantizedCodec
from fedmpi.sparsification.settings import codec_down_of, codec_of
from fedmpi.sparsification.wire import HEADER_BYTES

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_ROWS_LOOKED_AT = 10_000
_MOST_BYTES = 2**50
"""No message is longer, though a damaged file may say so."""


def most_common(values: IntArray) -> int:
    """The value that stands in most places of ``values`` (n,), n > 0; of several the lowest."""
    found, counts = np.unique(values, return_counts=True)
    return int(found[counts.argmax()])


def most_recorded(sizes: IntArray) -> int:
    """The largest of recorded ``sizes`` (n,), as far as it may be true."""
    return min(int(sizes.max(initial=0)), _MOST_BYTES)


def length_follows(codec: Codec) -> bool:
    """Whether messages of as many entries are equally long, whatever these are."""
    return isinstance(codec, WireCodec) or (isinstance(codec, QuantizedCodec) and not codec.elias)


def has_one_length(codec: Codec, method: Method) -> bool:
    """Whether the messages of all participants of a round are equally long, of as many entries each."""
    if not isinstance(method, SparseMethod):
        return length_follows(codec)
    chosen = method.coordinates is not None or method.choose in (largest, at_random, by_layer)
    return length_follows(codec) and (chosen or method.all_entries)


class Downloads:
    """Which version of the model each client of a recorded run has, and what the others would have downloaded.

    ``method``: that of sparsification. ``most_bytes``: no message down is longer.
    """

    def __init__(
        self, recorded: Recorded, config: Config, method: Method, sketch_bytes: int, measures_losses: bool
    ) -> None:
        parameters = int(recorded.attributes["parameters"])
        self._stamps = np.full(config.clients.count, -1)
        """When each client was last brought up to date; who was at the same time has the same version."""
        self._time = 0
        self._all_changed_in = -1
        """The last version in which all coordinates changed."""
        self._changes_all = False
        self._resends = isinstance(method, SparseMethod) and method.resends
        self._account: Downlink | None = None
        self.most_bytes = HEADER_BYTES + 8 * parameters + most_recorded(recorded.clients["bytes_down"])
        known = config.pruning.method == "none" and not is_reference(config.federation.aggregator)
        tail_bytes = _tail_bytes(recorded, config, method, sketch_bytes, measures_losses) if known else None
        if tail_bytes is not None:
            section = config.federation
            aggregator = parts.build("federation.aggregator", section.aggregator, section.options, Aggregator)
            self._changes_all = aggregator.dense or not isinstance(method, SparseMethod)
            self._account = Downlink(
                config.clients.count,
                parameters,
                tail_bytes // 4,
                codec_down_of(config.sparsification, method),
                self._resends,
            )
            self.most_bytes = HEADER_BYTES + 4 * parameters + tail_bytes

    def whole_bytes(
        self, clients: IntArray, recorded: IntArray, complete: BoolArray
    ) -> tuple[IntArray, BoolArray]:
        """What each of ``clients`` (n,) was sent, int64, and whether that is known; if not, it is ``most_bytes``.

        ``recorded`` (n,) bytes arrived, of some all, ``complete``.
        """
        whole, known = recorded.copy(), complete.copy()
        stamps = self._stamps[clients]
        for stamp in np.unique(stamps[~complete]).tolist():
            same = stamps == stamp
            others = same & complete
            if others.any():
                whole[same & ~complete], known[same] = most_common(recorded[others]), True
        left = np.flatnonzero(~known)
        whole[left] = self.most_bytes
        if self._account is not None and len(left):
            follows = self._follow_from_counts(self._account, self._account.client_version[clients[left]])
            left = left[follows]
            whole[left], known[left] = self._account.download_bytes(clients[left]), True
        return whole, known

    def _follow_from_counts(self, account: Downlink, versions: IntArray) -> BoolArray:
        """Whether bytes from ``versions`` (n,) on follow from how many coordinates changed: not where several changes
        were missed, which may have some in common, unless one was of all."""
        follows = (versions == NEVER) | (versions == account.version)
        if not self._resends:
            follows |= (versions == account.version - 1) | (versions < self._all_changed_in)
        return np.asarray(follows)

    def delivered(self, clients: IntArray) -> None:
        """These clients have the present version from now on."""
        self._time += 1
        self._stamps[clients] = self._time
        if self._account is not None:
            self._account.delivered(clients)

    def advance(self, k_down: int) -> None:
        """A round's message has gone out: ``k_down`` coordinates of it, which are not known, or all; perhaps none."""
        account = self._account
        if account is None:
            return
        whole = self._changes_all or k_down >= account.dimension
        account.advance(None if whole else np.arange(k_down, dtype=np.int32))
        if whole:
            self._all_changed_in = account.version


def _tail_bytes(
    recorded: Recorded, config: Config, method: Method, sketch_bytes: int, measures_losses: bool
) -> int | None:
    """Bytes of the float buffers in each message of a run that does not prune; None where no message shows it."""
    rounds, rows, parameters = recorded.rounds, recorded.clients, int(recorded.attributes["parameters"])
    codec = codec_of(config.sparsification, method)
    if length_follows(codec):
        sent = np.flatnonzero(recorded.staying & (rows["entries_sent"] > 0))[:_ROWS_LOOKED_AT]
        entries, beside = rows["entries_sent"][sent], np.full(len(sent), sketch_bytes)
        if measures_losses:
            place = np.searchsorted(rounds["round"], rows["round"][sent])
            beside += np.array(
                [loss_report_bytes(2 + (k > 0)) for k in rounds["k_probe"][place].tolist()], int
            )
        fits = entries <= parameters
        kinds, which = np.unique(entries[fits], return_inverse=True)
        lengths = np.array([codec.message_bytes(each, parameters) for each in kinds.tolist()], int)
        found = rows["bytes_up"][sent][fits] - lengths[which] - beside[fits]
    else:  # then nobody is asked for losses, and the first who got a message got the model
        there = np.flatnonzero(recorded.staying)
        first = there[rows["round"][there] == rows["round"][there[:1]]]
        found = rows["bytes_down"][first] - HEADER_BYTES - 4 * parameters
    if not len(found):
        return None
    tail_bytes = most_common(found)
    return tail_bytes if tail_bytes >= 0 and tail_bytes % 4 == 0 else None
