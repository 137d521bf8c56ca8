"""What a client must download before it can train: what it missed, or the model, whichever is smaller."""

from __future__ import annotations

import numpy as np

from fedmpi.sparsification.wire import message_bytes

NEVER = -1
"""The version of a client that never had a model."""


class Downlink:
    """The server's account of which version of the model each client has.

    Version v is the model after v rounds that changed it; the initial model is version 0. For every coordinate
    the account keeps the version that last changed it, so a client that missed several rounds is charged for
    the coordinates that differ, once each.

    ``tail`` is the number of values that travel dense beside the ``dimension`` parameters (float buffers). The
    values of the last change are of ``value_type``, as the server sent them; who missed more is sent
    weights, float32.
    """

    def __init__(
        self, clients: int, dimension: int, tail: int, wire: str, value_type: str = "float32"
    ) -> None:
        self.dimension = dimension
        self.tail = tail
        self.wire = wire
        self.value_type = value_type
        self.version = 0
        self.client_version = np.full(clients, NEVER, dtype=np.int64)
        self._changed_at = np.zeros(dimension, dtype=np.int32)
        self._changed_in = [dimension]
        """Number of coordinates that version v was the last to change, for each v."""

    def advance(self, changed: np.ndarray | None) -> None:
        """A new version has been made; ``changed`` holds its int32 coordinates (None: all of them)."""
        self.version += 1
        if changed is None:
            self._changed_at[:] = self.version
            self._changed_in = [0] * self.version + [self.dimension]
            return
        for version, count in enumerate(np.bincount(self._changed_at[changed])):
            self._changed_in[version] -= int(count)
        self._changed_at[changed] = self.version
        self._changed_in.append(len(changed))

    def download_bytes(self, clients: np.ndarray) -> np.ndarray:
        """The bytes, int64, of the message that brings each client to the present version."""
        versions, which = np.unique(self.client_version[clients], return_inverse=True)
        sizes = np.array([self._bytes_from(int(version)) for version in versions], dtype=np.int64)
        return sizes[which]

    def _bytes_from(self, version: int) -> int:
        model = message_bytes("dense", self.dimension, self.dimension) + 4 * self.tail
        if version == NEVER:
            return model
        if version == self.version:
            return message_bytes("coo", 0, self.dimension)
        missed = sum(self._changed_in[version + 1 :])
        value_type = self.value_type if version == self.version - 1 else "float32"
        return min(model, message_bytes(self.wire, missed, self.dimension, value_type) + 4 * self.tail)

    def delivered(self, clients: np.ndarray) -> None:
        """These clients now have the present version."""
        self.client_version[clients] = self.version

    def state(self) -> dict[str, np.ndarray]:
        """Arrays for a checkpoint; ``restore`` takes them back."""
        return {"client_version": self.client_version, "changed_at": self._changed_at}

    def restore(self, version: int, state: dict[str, np.ndarray]) -> None:
        """Continue from ``state`` at ``version``."""
        self.version = version
        self.client_version = np.array(state["client_version"], dtype=np.int64)
        self._changed_at = np.array(state["changed_at"], dtype=np.int32)
        self._changed_in = np.bincount(self._changed_at, minlength=version + 1).tolist()
