"""Checkpoints: the state of a run at the start of a round, keyed by client, never by rank.

A folder ``checkpoint/`` holds one sub-folder per checkpoint, ``round-00000120/``: ``server.npz``, one
``clients-00000-00049.npz`` from each rank that hosts clients, and ``manifest.json`` with round, sizes,
checksums (BLAKE2b) and the state that is not arrays. It is written as ``round-00000120.partial``, brought to
disk, then renamed; only then do older ones go, except the one before. Saving takes four steps, so that the
ranks of a run can share it: ``start`` (one rank), ``write_server`` (one) and ``write_clients`` (each),
``publish`` (one, with everybody's FileEntry). Any number of ranks may read it back.
"""

from fedmpi.checkpoint.files import CheckpointError, FileEntry, write_clients, write_server
from fedmpi.checkpoint.store import (
    Checkpoint,
    candidates,
    discard,
    latest_good,
    open_checkpoint,
    publish,
    start,
)

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "FileEntry",
    "candidates",
    "discard",
    "latest_good",
    "open_checkpoint",
    "publish",
    "start",
    "write_clients",
    "write_server",
]
