"""Traces in which participants are late or vanish, verified: who stops when follows from them, and one value that is
flipped does not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

import fedmpi
from fedmpi.experiment.verifying import verify
from fedmpi.trace import Status, read

HERE = Path(__file__).resolve().parent

CONFIG = f"""
[experiment]
seed = 3
rounds = 8
evaluate_every = 8
[clients]
count = 8
per_round = 4
[model]
hidden = [8]
[emulation.compute]
model = "linear"
profile = "{HERE / "powered_devices.csv"}"
[emulation.energy]
on = true
"""

SHARED = [
    "emulation.network.server_ingress_mbit_per_s=1.0",
    "emulation.network.server_egress_mbit_per_s=3.0",
]
DEADLINE = ["federation.deadline_s=0.12"]
OVER_SELECTION = ["federation.over_selection=0.6"]
DROPOUT = ["emulation.availability.dropout_probability=0.4"]
INTERVALS = [
    "emulation.availability.model=intervals",
    f"emulation.availability.path={HERE / 'intervals.csv'}",
    "emulation.availability.period_s=0.7",
]
FAB = ["sparsification.method=fab", "sparsification.k=100"]
STC = ["sparsification.method=stc", "sparsification.k=100"]
EF21 = ["sparsification.method=ef21", "sparsification.k=100"]
ELIAS = ["sparsification.method=qsgd", "sparsification.options.elias=true"]
FEDAVG = ["sparsification.method=fedavg", "sparsification.k=400"]
PRUNEFL = ["pruning.method=prunefl", "pruning.reconfigure_every=2"]

NORMALIZED = [
    *(
        "emulation.compute.model=normalized",
        "emulation.compute.profile=reference",
        "emulation.energy.on=false",
    ),
]
VARYING = HERE.parent / "mpi" / "varying.up"

KINDS = {
    "deadline": DEADLINE,
    "over-selection": OVER_SELECTION,
    "dropout": DROPOUT,
    "intervals": INTERVALS,
    "deadline, shared": [*SHARED, "federation.deadline_s=0.125"],
    "dropout, shared": [*SHARED, *DROPOUT],
    "several": [*DEADLINE, *OVER_SELECTION, *DROPOUT, *INTERVALS, "federation.min_updates=2"],
    "several, fab": [*FAB, "federation.deadline_s=0.05", *OVER_SELECTION, *DROPOUT, *INTERVALS],
    "fab, dropout": [*FAB, *DROPOUT],
    "ef21": [*EF21, "federation.deadline_s=0.06", *DROPOUT],
    "stc": [*STC, "federation.deadline_s=0.04", *DROPOUT],
    "stc, shared": [*STC, *SHARED, *DROPOUT],
    "codes": [*ELIAS, *DROPOUT],
    "threshold": [
        *("sparsification.method=threshold", "sparsification.k=100", "sparsification.options.value=0.02"),
        *("federation.deadline_s=0.04", *DROPOUT),
    ],
    "threshold, nothing": [
        *("sparsification.method=threshold", "sparsification.k=100", "sparsification.options.value=1e9"),
        *DROPOUT,
    ],
    "random": ["sparsification.method=random_k", "sparsification.k=100", *DROPOUT],
    "periods": [*FEDAVG, "federation.deadline_s=0.1", *DROPOUT],
    "pruning": [*PRUNEFL, *DEADLINE, *DROPOUT],
    "gradients": [
        *("pruning.method=fedtiny", "pruning.target_density=0.4", "pruning.reconfigure_every=2"),
        *DEADLINE,
        *DROPOUT,
    ],
    "pruning, waiting": [*PRUNEFL, *DROPOUT, "federation.min_updates=4"],
    "probed": [*FAB[:1], "k_control.method=ogd_sign", "clients.per_round=0", "federation.deadline_s=0.06"],
    "probability": [
        *("emulation.availability.model=probability", "emulation.availability.probability=0.6"),
        *("federation.deadline_s=0.05", *FAB),
    ],
    "unit": ["emulation.compute.model=unit", "emulation.compute.unit_s=0.01", *DEADLINE, *DROPOUT],
    "measured": ["emulation.compute.model=measured", *DEADLINE],
    "jitter": ["emulation.network.jitter_s=0.02", *DEADLINE, *DROPOUT],
    "links that vary": [
        f"emulation.network.uplink_trace={VARYING}",
        "emulation.network.transport=tcp",
        *("federation.deadline_s=0.4", *DROPOUT),
    ],
    "normalized": [*NORMALIZED, *FAB, *OVER_SELECTION, *DROPOUT],
}

NOTES = {
    "stc, shared": "shared by messages that are not recorded as a whole",
    "probed": "with losses",
}
"""What is said of kinds of which not every round can be charged again."""

Runner = Callable[[str], Path]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """Run a kind on one rank, once each; the path of its trace."""
    done: dict[str, Path] = {}

    def once(kind: str) -> Path:
        if kind not in done:
            folder = tmp_path_factory.mktemp("stops") / "run"
            fedmpi.run(CONFIG, *KINDS[kind], output=folder, quiet=True)
            done[kind] = folder / "trace.h5"
        return done[kind]

    return once


@pytest.mark.parametrize("kind", KINDS)
def test_who_stops_and_when_follows_from_the_trace(run: Runner, kind: str) -> None:
    clients = read(run(kind)).clients
    assert clients["status"].isin(["late", "dropped"]).any()
    found = verify(run(kind))
    assert found.differences == ()
    notes = "; ".join(note for note in found.notes if "measured on the host" not in note)
    if kind in NOTES:
        assert 0 < found.rounds < found.all_rounds
        assert NOTES[kind] in notes
    else:
        assert (found.rounds, notes) == (found.all_rounds, "")


OF_CLIENTS = [
    *("download_s", "compute_s", "upload_s", "wait_s", "energy_j", "bytes_down", "bytes_up"),
    *("status", "samples", "entries_sent", "client"),
]
OF_ROUNDS = ["start_s", "end_s", "bytes_up", "bytes_down", "participants", "dropped"]
FLIPPED = ["deadline", "dropout", "over-selection", "intervals", "several", "several, fab", "ef21"]


def flipped(file: h5py.File, table: str, column: str, row: int) -> None:
    """Flip the lowest bit of one value."""
    rows = file[table][:]
    value = rows[column][row : row + 1].copy()
    value.view(np.uint8)[0] ^= 1
    rows[column][row] = value[0]
    file[table][:] = rows


@pytest.mark.parametrize("stopped", [True, False])
@pytest.mark.parametrize("column", OF_CLIENTS)
@pytest.mark.parametrize("kind", FLIPPED)
def test_one_flipped_value_of_a_participant_is_found(
    run: Runner, tmp_path: Path, kind: str, column: str, stopped: bool
) -> None:
    """Of one that was late or vanished, and of one that was in time where another was not."""
    path = Path(shutil.copy(run(kind), tmp_path / "trace.h5"))
    with h5py.File(path, "r+") as file:
        rows = file["clients"][:]
        early = rows["status"] != Status.OK
        some = np.flatnonzero(early if stopped else ~early & np.isin(rows["round"], rows["round"][early]))
        row = int(some[7 * OF_CLIENTS.index(column) % len(some)])
        flipped(file, "clients", column, row)
        changed = file["clients"][row]
    found = {(one.table, one.column, one.row) for one in verify(path).differences}
    own = ("clients", column, f"round {changed['round']} client {changed['client']}")
    in_sum = ("rounds", column, f"round {changed['round']}")
    # Of a message that arrived, the bytes are what times follow from; their sum does not agree.
    assert own in found or (column.startswith("bytes") and in_sum in found)


@pytest.mark.parametrize("column", OF_ROUNDS)
@pytest.mark.parametrize("kind", FLIPPED)
def test_one_flipped_value_of_a_round_is_found(run: Runner, tmp_path: Path, kind: str, column: str) -> None:
    path = Path(shutil.copy(run(kind), tmp_path / "trace.h5"))
    row = 3
    with h5py.File(path, "r+") as file:
        flipped(file, "rounds", column, row)
    found = {(one.table, one.column, one.row) for one in verify(path).differences}
    assert ("rounds", column, f"round {row}") in found


OF_USERS = {
    "emulation.availability.model": [
        *("emulation.availability.model=night_shift:shifts", "emulation.availability.options.period_s=0.4"),
        *DEADLINE,
    ],
    "sparsification.method": [
        *("sparsification.method=random_k:METHOD", "sparsification.k=40", "federation.deadline_s=0.04"),
    ],
}


@pytest.mark.parametrize("key", OF_USERS)
def test_code_of_ones_own_is_run_only_with_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.chdir(HERE.parent / "parts" / "mine")
    fedmpi.run(CONFIG, *OF_USERS[key], output=tmp_path / "run", quiet=True)
    found = verify(tmp_path / "run")
    assert found.differences == ()
    assert f"{key} (--trust)" in "; ".join(found.notes)
    monkeypatch.syspath_prepend(Path.cwd())
    trusted = verify(tmp_path / "run", (key,))
    assert trusted.differences == ()
    assert (trusted.rounds, trusted.notes) == (trusted.all_rounds, ())
