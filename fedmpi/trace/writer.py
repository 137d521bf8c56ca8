"""Writing a trace, by rank 0 alone, so that it can be read at any moment and after any crash.

The guarantee: after every single write, and so after a kill at any instant, the file is a complete HDF5 file
whose data sets hold whole rows only, among them every row of every committed round; a reader that opens it
meanwhile, with any HDF5 library and without SWMR, finds the same. It rests on the order of the writes
(``hdf5_layout``, ``growing_file``): rows go where no extent reaches, chunks are listed, then each table's
extent grows by one 8-byte word, ``rounds`` last, and ``committed_rounds`` grows after all of them. Chunks get
their checksums at the first forced commit after they are full, and the last ones, with the checksum of the whole
file, when it is closed: a checksum counts from one word on, which is written when rows and checksum are on the
disk. HDF5 makes the empty file; what follows are these few writes, so no HDF5 file is open during a run and no file
lock is taken. Forced commits also wait for the disk before ``committed_rounds`` grows, so a loss of power
costs at most what came after the last one. A reader on another node of a cluster sees what that file system
shows it; only file systems that keep the order of writes (Lustre, GPFS) give it the guarantee of a local one.
"""

from __future__ import annotations

import fcntl
import io
import os
import shutil
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np

import fedmpi
from fedmpi.trace import hdf5_layout
from fedmpi.trace.checksums import CHECKSUM_CHARACTERS, RowDigests
from fedmpi.trace.empty_trace import CHECKSUM_PLACE, STATUS_PLACE, empty_trace
from fedmpi.trace.growing_file import GrowingFile
from fedmpi.trace.open_file import column_texts, open_trace, read_attributes
from fedmpi.trace.schema import (
    CALLER_ATTRIBUTES,
    FINAL_STATUSES,
    RUN_ATTRIBUTES,
    SCHEMA_VERSION,
    STOP,
    TABLES,
    TraceError,
)
from fedmpi.trace.table import Columns, Table

_COPIED_ROWS = 65_536
_FLUSH_SHARE = 1 / 200
_FLUSH_EVERY_S = (0.1, 1.0)
"""Flushing may take half a percent of host time, at intervals within these bounds."""


class TraceWriter:
    """One open trace. Made by ``create`` or ``open_for_append``; as a context manager it closes as failed
    when an exception leaves the block, and as completed otherwise.

    Every method raises TraceError, naming the file and the room left on its disk, when a write fails; the
    file then stays readable up to its last committed round, and the writer accepts nothing more.
    """

    def __init__(self, path: Path, image: bytes) -> None:
        self._path = path
        self._partial = path.with_name(path.name + ".partial")
        self._open = True
        self._published = False
        self._last_flush_s = time.monotonic()
        self._flush_every_s = _FLUSH_EVERY_S[0]
        self._status_place = image.index(STATUS_PLACE)
        self._checksum_place = image.index(CHECKSUM_PLACE)
        self._digests = RowDigests()
        with h5py.File(io.BytesIO(image), "r") as file:
            self._attributes = read_attributes(file)
            self._texts = column_texts(file)
            headers = {name: h5py.h5o.get_info(file[name].id).addr for name in ("/", *TABLES)}
        self._committed_place = hdf5_layout.attribute_value(image, headers["/"], "committed_rounds")
        try:
            self._file = GrowingFile(self._partial, image, hdf5_layout.END_OF_FILE_WORD)
        except OSError as error:
            self._partial.unlink(missing_ok=True)
            raise self._failure(error) from error
        self._tables = {
            name: Table(name, self._file, self._digests, *hdf5_layout.dataset_words(image, headers[name]))
            for name in TABLES
        }

    @classmethod
    def create(cls, path: os.PathLike[str] | str, attributes: Mapping[str, Any]) -> Self:
        """A new trace with status "running", in place of any file at ``path``.

        ``attributes`` gives ``CALLER_ATTRIBUTES``: config_toml (str), seed, clients, ranks, parameters (int),
        layer_names (sequence of str), host, mpi_library, slurm_job_id (str); and, if there are any,
        ``RUN_ATTRIBUTES``: run_id, config_digest (str).
        """
        _check_attributes(path, attributes)
        added = {
            **dict.fromkeys(RUN_ATTRIBUTES, ""),
            "schema_version": SCHEMA_VERSION,
            "fedmpi_version": fedmpi.__version__,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        writer = cls(Path(path), empty_trace({**added, **attributes}))
        writer._publish()
        return writer

    @classmethod
    def open_for_append(
        cls, path: os.PathLike[str] | str, keep_rounds: int, attributes: Mapping[str, Any] | None = None
    ) -> Self:
        """Go on with a trace: rows of rounds >= ``keep_rounds`` and the event STOP are dropped, all others are kept.

        The kept rows are copied to a new file that replaces the old one when it is complete. ``attributes``
        replaces those of ``CALLER_ATTRIBUTES`` that are given (ranks, host, ...); the others stay.
        TraceError: not a trace, another schema version, or its committed rounds end before ``keep_rounds``.
        """
        with open_trace(path) as old:
            if (version := int(old.attrs["schema_version"])) != SCHEMA_VERSION:
                raise TraceError(f"{path}: schema version {version} is read, but not continued")
            kept = {name: old[name]["round"] < keep_rounds for name in TABLES if name != "devices"}
            kept["devices"] = np.ones(len(old["devices"]), np.bool_)
            kept["events"] &= old["events"]["kind"] != STOP.encode()
            rounds = old["rounds"]["round"][: int(old.attrs["committed_rounds"])]
            kept_rounds = rounds[rounds < keep_rounds]
            last = int(kept_rounds[-1]) if len(kept_rounds) else None
            if last != keep_rounds - 1 and (last is not None or keep_rounds > 0):
                raise TraceError(
                    f"{path}: to go on at round {keep_rounds} the trace must hold round {keep_rounds - 1}, "
                    f"but its last committed round before that is {last}"
                )
            known = {**read_attributes(old), **(attributes or {})}
            _check_attributes(path, known)
            writer = cls(Path(path), empty_trace(known))
            for name, table in writer._tables.items():
                mask = kept[name]
                for start in range(0, len(mask), _COPIED_ROWS):
                    block = slice(start, start + _COPIED_ROWS)
                    table.append_rows(old[name][block][mask[block]])
                    with writer._writing():
                        table.write_rows()
        writer.commit(force=True)
        writer._publish()
        return writer

    def append(
        self,
        *,
        devices: Columns | None = None,
        rounds: Columns | None = None,
        clients: Columns | None = None,
        client_tests: Columns | None = None,
        layers: Columns | None = None,
        events: Columns | None = None,
    ) -> None:
        """Take rows into memory; ``commit`` writes them.

        Each table is given by its columns: name -> array, or one value for all rows (a table given by single
        values alone is one row). Float columns left out are NaN, ``details`` empty, all others must be there. A
        round is committed by its row in ``rounds``: give it with or after the rows of its clients and layers.
        Names and words that are too long are cut and end in an ellipsis; ``details`` are facts by name
        (a mapping, or one for each row), of which those are left out that do not fit (see ``fitted_json``).
        """
        self._check_open()
        given = {"devices": devices, "clients": clients, "client_tests": client_tests, "layers": layers}
        given |= {"events": events, "rounds": rounds}
        for name, columns in given.items():
            if columns is not None:
                self._tables[name].append(columns)

    def commit(self, force: bool = False) -> None:
        """Write what was appended, if ``force`` or if the last time is long enough ago (at most a second).

        It costs next to nothing when nothing is due, so it may also be called while waiting. ``force`` waits
        until everything is on the disk.
        """
        self._check_open()
        start_s = time.monotonic()
        if not force and start_s - self._last_flush_s < self._flush_every_s:
            return
        with self._writing():
            self._write(to_disk=force)
        self._last_flush_s = time.monotonic()
        shortest_s, longest_s = _FLUSH_EVERY_S
        cost_s = self._last_flush_s - start_s
        self._flush_every_s = min(max(cost_s / _FLUSH_SHARE, shortest_s), longest_s)

    def close(self, status: str) -> None:
        """Commit, set the status (completed, preempted, failed), and close; nothing if it is closed."""
        if status not in FINAL_STATUSES:
            raise ValueError(f"status {status!r} is none of {', '.join(FINAL_STATUSES)}")
        if not self._open:
            return
        self._check_open()
        with self._writing():
            self._write(to_disk=True, last=True)
            ended = {"status": status, "committed_rounds": self._tables["rounds"].rows}
            checksum = self._digests.checksum({**self._attributes, **ended}, self._texts)
            self._file.write(self._checksum_place, checksum.encode())
            self._file.to_disk()
            self._file.write(self._status_place, _status(status))
            self._file.finish()
        self._open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close("completed" if kind is None else "failed")

    def _write(self, to_disk: bool, last: bool = False) -> None:
        """``last``: nothing more will be appended. TraceError when another file, or none, has taken its place."""
        if self._published and not self._file.is_at(self._path):
            raise TraceError(f"{self._path}: was removed, moved or replaced while the run was writing it")
        for table in self._tables.values():
            table.write_rows()
            if to_disk:
                table.write_checksums(last)
        if to_disk:
            self._file.to_disk()
        for name, table in self._tables.items():
            if name != "rounds":
                table.announce_rows()
                if to_disk:
                    table.announce_checksums(last)
        self._tables["rounds"].announce_rows()
        if to_disk:
            self._tables["rounds"].announce_checksums(last)
        self._file.write(self._committed_place, struct.pack("<q", self._tables["rounds"].rows))
        if to_disk:
            self._file.to_disk()

    def _publish(self) -> None:
        with self._writing():
            self._file.write(self._checksum_place, bytes(CHECKSUM_CHARACTERS))
            self._file.write(self._status_place, _status("running"))
            self._file.to_disk()
            os.replace(self._partial, self._path)
            self._published = True

    def _check_open(self) -> None:
        if not self._open:
            raise TraceError(f"{self._path}: the trace is closed")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Leave the file as it is and give up when a write is cut short, by the disk or by an interrupt."""
        try:
            yield
        except BaseException as error:
            self._open = False
            self._file.abandon()
            if not self._published:
                self._partial.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise self._failure(error) from error
            raise

    def _failure(self, error: OSError) -> TraceError:
        try:
            room = f"{shutil.disk_usage(self._path.parent).free:,} bytes are free on its disk"
        except OSError:
            room = "the room on its disk is unknown"
        return TraceError(f"cannot write the trace {self._path}: {error.strerror or error}; {room}")


def mark_failed(path: os.PathLike[str] | str, run_id: str) -> None:
    """Set the status of a trace that says "running" to "failed" where its writer cannot: another process failed.

    What was committed is kept, in a new file that replaces the old one. Nothing where it is the trace of another run
    than ``run_id``. Raises TraceError and OSError.
    """
    with open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # processes that fail together end each other when they are done
        with open_trace(path) as trace:
            running = trace.attrs["status"] == "running" and trace.attrs.get("run_id", "") == run_id
            rounds = trace["rounds"]["round"][: int(trace.attrs["committed_rounds"])]
        if running:
            TraceWriter.open_for_append(path, max(int(rounds[-1]) + 1, 0) if len(rounds) else 0).close(
                "failed"
            )


def _status(status: str) -> bytes:
    return status.encode().ljust(len(STATUS_PLACE), b"\0")


def _check_attributes(path: os.PathLike[str] | str, attributes: Mapping[str, Any]) -> None:
    if missing := [name for name in CALLER_ATTRIBUTES if name not in attributes]:
        raise TraceError(f"{path}: attribute {', '.join(missing)} is missing")
