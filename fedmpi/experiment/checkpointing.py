"""Saving and restoring a run: every rank has its part, and all of them agree that it worked."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmpi import checkpoint as store
from fedmpi.checkpoint import Checkpoint, CheckpointError, FileEntry
from fedmpi.checkpoint.contents import DEVICES, MODEL, WEIGHTS, checked_weights
from fedmpi.checkpoint.layout import layout_of
from fedmpi.checkpoint.state_folder import check_folder, folder_of, make_folder, stored
from fedmpi.checkpoint.store import FOLDER
from fedmpi.experiment.assembly import Expected, Run
from fedmpi.experiment.resuming import Identity, find_checkpoint
from fedmpi.federation.client_state import ROW, DiskRows
from fedmpi.mpi.agreement import on_every_rank, on_server
from fedmpi.pruning.interface import MASK
from fedmpi.pruning.mask import Mask

State = tuple[dict[str, np.ndarray], dict[str, Any]]
"""What a part keeps in a checkpoint: arrays, and numbers as JSON."""

_MASK_SINCE = "mask_since"
_IMPORTANCE = "importance"


def save(run: Run, output: Path, expected: Expected, identity: Identity) -> None:
    """Write a checkpoint of the present round boundary. Refused on all ranks when it cannot be written."""
    ranks = run.ranks
    ranks.barrier()  # nobody may still be changing what lies in shared memory
    round_index = run.server.round_index if run.server is not None else 0
    partial = on_server(ranks, lambda: store.start(output / FOLDER, round_index), expected)
    partial = Path(ranks.broadcast_json(None if partial is None else str(partial)))
    on_every_rank(ranks, run.state.sync, expected)
    changes = [_gather_changes(run, rows, expected) for rows in run.state.disk]
    entry = _write_clients(run, partial)
    row = np.frombuffer(entry.to_bytes(), dtype=f"V{FileEntry.RECORD_BYTES}").copy()
    rows = ranks.gather_rows(row, [1] * ranks.size)

    def publish() -> None:
        assert run.server is not None
        assert rows is not None
        arrays, numbers = run.server.state()
        if run.initial is not None:
            of_initial = run.initial.state()
            arrays, numbers = arrays | of_initial[0], numbers | of_initial[1]
        if MASK in arrays:
            arrays[_MASK_SINCE] = np.array([run.masked.since])
        for on_disk, changed in zip(run.state.disk, changes, strict=True):
            arrays |= on_disk.table(changed)
        entries = [FileEntry.from_bytes(r.tobytes()) for r in rows]
        entries.append(_attempt_server(partial, {**arrays, WEIGHTS: run.masked.weights.numpy()}))
        described = {
            MODEL: _described_model(run),
            DEVICES: run.server.accountant.fleet.digest(),
            **identity.values(),
        }
        store.publish(partial, entries, {**numbers, **described})

    on_server(ranks, publish, expected)
    for on_disk, changed in zip(run.state.disk, changes, strict=True):
        on_disk.published(changed)


def _described_model(run: Run) -> dict[str, Any]:
    """What the values of a checkpoint say of the model and of the data that it takes."""
    facts = run.facts
    return {
        "input_shape": list(facts.input_shape),
        "classes": facts.classes,
        "layout": layout_of(run.model),
    }


def _gather_changes(run: Run, rows: DiskRows, expected: Expected) -> NDArray[np.void]:
    """What all ranks have changed on disk since the last checkpoint, ROWs on every rank."""
    ranks = run.ranks
    mine = on_every_rank(ranks, rows.changes, expected)
    counts = ranks.gather_rows(np.array([len(mine)]), [1] * ranks.size)
    gathered = ranks.gather_rows(mine, [] if counts is None else counts.tolist())
    return ranks.broadcast_bytes(None if gathered is None else gathered.view(np.uint8)).view(ROW)


def start_state(run: Run, output: Path, expected: Expected, run_id: str) -> None:
    """Make the folder for what clients carry, where that is on disk. Refused on all ranks when it cannot be made."""
    if not run.state.disk:
        return
    ranks = run.ranks
    folder = folder_of(run.config, output, run_id).absolute() if ranks.is_server else Path()
    on_server(ranks, lambda: make_folder(folder, run_id), expected)
    shared = Path(ranks.broadcast_json(str(folder)))
    on_every_rank(ranks, lambda: check_folder(shared, run_id, platform.node()), expected)
    for rows in run.state.disk:
        rows.start(shared)


def restore(run: Run, output: Path, expected: Expected) -> tuple[Checkpoint | None, list[str]]:
    """Continue from the latest good checkpoint in a run folder, if there is one (see ``find_checkpoint``).

    Returns it (None on a fresh start) and what was wrong with newer checkpoints, the same on every rank.
    """
    ranks = run.ranks
    found = on_server(ranks, lambda: find_checkpoint(run.config, output), expected)
    shared: dict[str, Any] = {"path": None, "problems": []}
    if found is not None:
        checkpoint, problems = found
        shared = {"path": str(checkpoint.path) if checkpoint else None, "problems": problems}
    shared = ranks.broadcast_json(shared)
    if shared["path"] is None:
        return None, shared["problems"]
    path = Path(shared["path"])
    return on_every_rank(ranks, lambda: _restore_rank(run, output, path), expected), shared["problems"]


def _restore_rank(run: Run, output: Path, path: Path) -> Checkpoint:
    """Take this rank's part of the checkpoint. CheckpointError for one that no run like this one has written."""
    checkpoint = store.open_checkpoint(path)
    try:
        _take(run, output, checkpoint)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"{path}: is of another kind of run, or damaged ({error})") from error
    return checkpoint


def _take(run: Run, output: Path, checkpoint: Checkpoint) -> None:
    path, arrays = checkpoint.path, checkpoint.server()
    run.masked.weights.numpy()[:] = checked_weights(path, arrays, run.masked.weights.numel())
    del arrays[WEIGHTS]
    if MASK in arrays:
        mask = Mask.from_bits(arrays[MASK], run.model.parameter_count)
        run.masked.use(mask, int(arrays[_MASK_SINCE][0]))
    if run.server is not None:
        if _described_model(run) != checkpoint.values.get(MODEL):
            raise CheckpointError(
                f"{path}: the model's layers are not those of before; a model of one's own, or the data, has changed"
            )
        if run.server.accountant.fleet.digest() != checkpoint.values.get(DEVICES):
            raise CheckpointError(
                f"{path}: the devices are not those of before; devices of one's own, a CSV file or traces have changed"
            )
        run.server.restore(arrays, checkpoint.values)
        _check_taken(run.server.state(), (arrays, checkpoint.values))
        if run.server.round_index != checkpoint.round_index:
            raise ValueError(f"the server is at round {run.server.round_index}")
    if run.initial is not None:
        run.initial.restore(arrays, checkpoint.values)
    run.loop.seen[:] = arrays["client_version"] >= 0
    _take_disk_state(run, output, checkpoint, arrays)
    for client, state in checkpoint.clients(run.loop.carrying).items():
        importance = state.pop(_IMPORTANCE, None)
        if importance is not None and run.host.importance is not None:
            run.host.importance.restore_client(client, importance)
        if state:
            run.exchange.restore_client(client, state)
            _check_taken((run.exchange.client_state(client), {}), (state, {}))


def _take_disk_state(
    run: Run, output: Path, checkpoint: Checkpoint, arrays: Mapping[str, np.ndarray]
) -> None:
    """Go on from the rows to which the checkpoint refers; those of an older one stay as they are."""
    if not run.state.disk:
        return
    run_id = Identity.stored_in(checkpoint.values).run_id
    folder = folder_of(run.config, output, run_id)
    check_folder(folder, run_id, platform.node())
    older: Mapping[str, np.ndarray] = {}
    for path in store.candidates(output / FOLDER):
        with suppress(CheckpointError):  # nobody will go on from one that cannot be read
            other = store.open_checkpoint(path)
            if other.round_index < checkpoint.round_index:
                older = other.server()
                break
    for rows in run.state.disk:
        places, digests = stored(arrays, rows.name, rows.length)
        before = stored(older, rows.name, rows.length)[0] if older else places
        rows.resume(folder, places, before)
        rows.take_digests(digests)


def _check_taken(now: State, stored: State) -> None:
    """ValueError unless a checkpoint of what was restored would hold the same: nothing was converted or repeated."""
    for name, array in now[0].items():
        found = stored[0][name]
        if found.dtype != array.dtype or found.shape != array.shape or found.tobytes() != array.tobytes():
            raise ValueError(f"array {name} is {found.dtype} of shape {found.shape}")
    for name, value in now[1].items():
        if not _same(json.loads(json.dumps(value)), stored[1][name]):
            raise ValueError(f"{name} is {str(stored[1][name])[:60]}")


def _same(now: Any, stored: Any) -> bool:
    """Whether plain values are equal, of the same kind, and NaN in the same places."""
    if isinstance(now, dict) and isinstance(stored, dict):
        return now.keys() == stored.keys() and all(_same(now[key], stored[key]) for key in now)
    if isinstance(now, list) and isinstance(stored, list):
        return len(now) == len(stored) and all(map(_same, now, stored))
    return now == stored or (now != now and stored != stored)


def _write_clients(run: Run, partial: Path) -> FileEntry:
    states = {client: run.exchange.client_state(client) for client in run.loop.carrying}
    if run.host.importance is not None:
        for client, state in states.items():
            state.update(run.host.importance.client_state(client))
    try:
        return store.write_clients(partial, {client: state for client, state in states.items() if state})
    except CheckpointError as error:
        return FileEntry.failed(error)


def _attempt_server(partial: Path, arrays: dict[str, np.ndarray]) -> FileEntry:
    try:
        return store.write_server(partial, arrays)
    except CheckpointError as error:
        return FileEntry.failed(error)
