"""Traces that are verified: what was recorded follows from itself, and one flipped value does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

import fedmpi
from fedmpi.cli.main import main
from fedmpi.experiment.verifying import verify
from fedmpi.trace import read

DEVICES = Path(__file__).resolve().parent / "powered_devices.csv"

CONFIG = f"""
[experiment]
seed = 2
rounds = 4
[clients]
count = 8
per_round = 4
[model]
hidden = [8]
[emulation.compute]
model = "linear"
profile = "{DEVICES}"
[emulation.network]
server_ingress_mbit_per_s = 1.0
[emulation.energy]
on = true
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verified") / "run"
    fedmpi.run(CONFIG, output=folder, quiet=True)
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(run / "trace.h5", tmp_path / "trace.h5"))


def test_what_was_recorded_follows_from_itself(run, capsys):
    assert main(["verify", str(run)]) == 0
    assert capsys.readouterr().out == "4 of 4 rounds charged again\nevery value follows from the others\n"


FLIPPED = [
    *[
        ("rounds", name, 2)
        for name in ("start_s", "end_s", "bytes_up", "bytes_down", "participants", "dropped")
    ],
    *[("clients", name, 7) for name in ("download_s", "compute_s", "upload_s", "wait_s", "energy_j")],
    *[("clients", name, 7) for name in ("bytes_up", "bytes_down")],
    *[("devices", name, 1) for name in ("uplink_bytes_per_s", "downlink_bytes_per_s", "latency_s")],
    ("events", "time_s", 0),
]


@pytest.mark.parametrize(("table", "column", "row"), FLIPPED)
def test_one_flipped_bit_is_found_by_value_and_by_checksum(copy, capsys, table, column, row):
    """The lowest bit of one value, in the file itself: all checksums are as they were."""
    with h5py.File(copy, "r") as file:
        dataset = file[table]
        dtype = dataset.dtype
        chunk = dataset.id.get_chunk_info_by_coord((0,))
        assert row < dataset.chunks[0]
        byte = chunk.byte_offset + row * dtype.itemsize + dtype.fields[column][1]
    data = bytearray(copy.read_bytes())
    data[byte] ^= 1
    copy.write_bytes(data)
    found = verify(copy)
    assert "damaged" in found.damage
    if table == "clients" and column.startswith("bytes"):  # what times follow from; its sum does not agree
        table, place = "rounds", f"round {read_client(copy, row)[0]}"
    else:
        place = {
            "clients": "round {} client {}".format(*read_client(copy, row)),
            "rounds": f"round {row}",
            "devices": f"client {row}",
            "events": "round 3 stop",
        }[table]
    assert (table, column, place) in {(one.table, one.column, one.row) for one in found.differences}
    assert main(["verify", str(copy)]) == 1
    told = capsys.readouterr()
    assert "damaged" in told.err
    assert f"{table}.{column}" in told.out.split("differ: ")[1]


def read_client(path: Path, row: int) -> tuple[int, int]:
    with h5py.File(path, "r") as file:
        rows = file["clients"]
        raw = np.frombuffer(rows.id.read_direct_chunk((0,))[1], rows.dtype, rows.chunks[0])[row]
        return int(raw["round"]), int(raw["client"])


def test_a_flip_stays_in_its_row(copy):
    """With checksums that agree, as after a change by somebody who knows them, values alone tell."""
    with h5py.File(copy, "r+") as file:
        rows = file["clients"][:]
        rows["upload_s"][4] = np.nextafter(rows["upload_s"][4], 0.0)
        file["clients"][:] = rows
    found = verify(copy)
    assert [(one.table, one.column) for one in found.differences] == [
        ("clients", "upload_s"),
        ("clients", "energy_j"),
    ]
    assert found.differences[0].row == found.differences[1].row
    assert "checksum is wrong" in found.damage


def test_bytes_that_nobody_can_send_are_a_difference(copy):
    with h5py.File(copy, "r+") as file:
        rows = file["clients"][:]
        rows["bytes_up"][4] = -1
        file["clients"][:] = rows
    columns = {(one.table, one.column) for one in verify(copy).differences}
    assert {("rounds", "end_s"), ("rounds", "bytes_up"), ("clients", "upload_s")} <= columns


@pytest.mark.parametrize(
    ("overrides", "rounds", "note"),
    [
        (["pruning.method=prunefl", "pruning.reconfigure_every=2", "pruning.initial.where=client"], None, ""),
        (["emulation.compute.model=measured"], 4, "measured on the host"),
        (
            ["sparsification.method=fab", "k_control.method=ogd_sign", "clients.per_round=0"],
            3,
            "1 round with losses",
        ),
        (  # somebody, not everybody, was in the round before and has the model
            ["sparsification.method=fab", "k_control.method=ogd_sign", "clients.per_round=6"],
            3,
            "1 round with losses",
        ),
    ],
)
def test_what_follows_of_other_runs(tmp_path, overrides, rounds, note):
    fedmpi.run(CONFIG, *overrides, output=tmp_path / "run", quiet=True)
    found = verify(tmp_path / "run")
    assert found.differences == ()
    assert found.all_rounds == len(read(tmp_path / "run").rounds)
    assert found.rounds == (rounds if rounds is not None else found.rounds)
    assert note in "; ".join(found.notes)
    if not note:
        assert found.rounds == found.all_rounds
