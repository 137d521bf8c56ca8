"""The trace of a run: one HDF5 file (``trace.h5``) with everything that happened."""

from fedmpi.trace.reader import FILE_NAME, Trace, outline, read, rows_of_clients
from fedmpi.trace.schema import STOP, Phase, Status, TraceError
from fedmpi.trace.writer import TraceWriter, mark_failed

__all__ = [
    "FILE_NAME",
    "STOP",
    "Phase",
    "Status",
    "Trace",
    "TraceError",
    "TraceWriter",
    "mark_failed",
    "outline",
    "read",
    "rows_of_clients",
]
