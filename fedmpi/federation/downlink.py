"""What a client must download before it can train: what it missed, or the model, whichever is smaller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmpi.sparsification.codec import Codec, WireCodec
from fedmpi.sparsification.wire import message_bytes

NEVER = -1
"""The version of a client that never had a model."""


class Downlink:
    """The server's account of which version of the model each client has.

    Version v is the model after v rounds that changed it; the initial model is version 0. For every coordinate
    the account keeps the version that last changed it, so a client that missed several rounds is charged for
    the coordinates that differ, once each.

    ``tail`` is the number of values that travel dense beside the ``dimension`` parameters (float buffers). The last
    change has the form of ``codec``, as the server sent it; who missed more is sent weights, float32, in the smallest
    form, or in that of ``codec`` where that is one of the wire's.

    With ``resends`` the lengths of messages depend on what they say: who missed several is sent each of them as it was.

    Under a mask, messages are over the ``dimension`` coordinates that travel. A new mask is a version of its own; who
    has an older one downloads ``mask_bytes`` more. What a mask prunes is zero without a word: it is not sent.
    """

    def __init__(self, clients: int, dimension: int, tail: int, codec: Codec, resends: bool = False) -> None:
        self.dimension = dimension
        self.tail = tail
        self.codec = codec
        self._of_weights = WireCodec(codec.form if isinstance(codec, WireCodec) else "auto")
        self.version = 0
        self._resends = resends
        self._message_bytes = [0]
        """The length of the message that made version v, for each v."""
        self.client_version = np.full(clients, NEVER, dtype=np.int64)
        self._changed_at = np.zeros(dimension, dtype=np.int32)
        self._changed_in = [dimension]
        """Number of active coordinates that version v was the last to change, for each v."""
        self._active: NDArray[np.bool_] | None = None
        self._positions: NDArray[np.int64] | slice = slice(dimension)
        """The active coordinates, by which versions are noted faster than by flags."""
        self._mask_version = 0
        self._mask_bytes = 0

    def new_mask(self, active: NDArray[np.bool_], dimension: int, mask_bytes: int) -> None:
        """A new version: another mask, ``active`` bool (D,). What is pruned now was last changed by it."""
        self.version += 1
        self._message_bytes.append(0)
        self._mask_version = self.version
        before = np.ones(active.size, np.bool_) if self._active is None else self._active
        self._changed_at[before & ~active] = self.version
        self.set_mask(active, dimension, mask_bytes)

    def set_mask(self, active: NDArray[np.bool_], dimension: int, mask_bytes: int) -> None:
        """Go on under a mask that all clients of this version know."""
        self._active = active
        self._positions = np.flatnonzero(active)
        self.dimension = dimension
        self._mask_bytes = mask_bytes
        self._count_changes()

    def _count_changes(self) -> None:
        changed_at = self._changed_at[self._positions]
        self._changed_in = np.bincount(changed_at, minlength=self.version + 1).tolist()

    def advance(self, changed: NDArray[np.int32] | None, message_bytes: int = 0) -> None:
        """A new version has been made; ``changed`` holds its int32 coordinates (None: all that are active).

        Coordinates that the present mask prunes may be among them, for a mask to come: only those of them that it takes
        in are ever charged. ``message_bytes``: the length of the server's message.
        """
        self.version += 1
        self._message_bytes.append(message_bytes)
        if changed is None:
            self._changed_at[self._positions] = self.version
            self._changed_in = [0] * self.version + [sum(self._changed_in)]
            return
        counted = changed if self._active is None else changed[self._active[changed]]
        for version, count in enumerate(np.bincount(self._changed_at[counted])):
            self._changed_in[version] -= int(count)
        self._changed_at[changed] = self.version
        self._changed_in.append(len(counted))

    def download_bytes(self, clients: NDArray[np.int64]) -> NDArray[np.int64]:
        """The bytes, int64, of the message that brings each client to the present version."""
        versions, which = np.unique(self.client_version[clients], return_inverse=True)
        sizes = np.array([self._bytes_from(int(version)) for version in versions], dtype=np.int64)
        return sizes[which]

    def _bytes_from(self, version: int) -> int:
        model = message_bytes("dense", self.dimension, self.dimension) + 4 * self.tail
        new_mask = self._mask_bytes if max(version, 0) < self._mask_version else 0  # all know the first mask
        if version == NEVER:
            return model + new_mask
        learned = self.version - (self.version == self._mask_version > 0)  # a mask changes nothing that stays
        if version >= learned:
            return message_bytes("coo", 0, self.dimension) + new_mask
        if self._resends:
            return min(model, sum(self._message_bytes[version + 1 :])) + new_mask
        missed = sum(self._changed_in[version + 1 :])
        codec = self.codec if version == self.version - 1 else self._of_weights
        update = codec.message_bytes(missed, self.dimension) + 4 * self.tail
        return min(model, update) + new_mask

    def delivered(self, clients: NDArray[np.int64]) -> None:
        """These clients now have the present version."""
        self.client_version[clients] = self.version

    def state(self) -> dict[str, NDArray[Any]]:
        """Arrays for a checkpoint; ``restore`` takes them back."""
        lengths = {"message_bytes": np.array(self._message_bytes)} if self._resends else {}
        return {
            **lengths,
            "client_version": self.client_version,
            "changed_at": self._changed_at,
            "mask_version": np.array([self._mask_version]),
        }

    def restore(self, version: int, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from ``state`` at ``version``, under the mask that was set before."""
        self.version = version
        self.client_version = np.array(state["client_version"], dtype=np.int64)
        self._changed_at = np.array(state["changed_at"], dtype=np.int32)
        self._mask_version = int(state["mask_version"][0])
        if self._resends:
            self._message_bytes = np.asarray(state["message_bytes"]).tolist()
        self._count_changes()
