from __future__ import annotations

import errno
import json
import os
import re
import resource
import signal

import h5py
import numpy as np
import pytest

from fedmpi.trace import Phase, Status, TraceError, TraceWriter, mark_failed, read
from fedmpi.trace.schema import (
    COLUMNS,
    DETAIL_BYTES,
    DETAILS_BYTES,
    DEVICE_BYTES,
    FINAL_STATUSES,
    KIND_BYTES,
    ROWS_PER_CHUNK,
    TABLES,
    names,
    tables,
)

ADDED = {
    "devices": "client device uplink_bytes_per_s downlink_bytes_per_s latency_s samples test_samples labels writers",
    "clients": "version staleness energy_j released_s",
    "client_tests": "round client samples loss accuracy",
    "events": "details",
}
"""Columns that version 2 has and version 1 has not, whose own are those of ``fixtures/version_1.h5.gz``."""
ATTRIBUTE_NAMES = {
    *("committed_rounds", "schema_version", "fedmpi_version", "status", "config_toml", "seed", "clients"),
    *("ranks", "parameters", "layer_names", "host", "mpi_library", "slurm_job_id", "created"),
    *("checksum", "run_id", "config_digest"),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "trace.h5"


def write(path, attributes, append_round, rounds, status="completed"):
    with TraceWriter.create(path, attributes) as writer:
        for round_index in rounds:
            append_round(writer, round_index)
        writer.close(status)


def test_columns_and_attributes_are_those_of_the_contract(path, attributes, append_round):
    write(path, attributes, append_round, range(3))
    with h5py.File(path) as file:
        assert set(file) == set(TABLES) == {*tables(1), *ADDED}
        for table in TABLES:
            before = list(tables(1)[table].names) if table in tables(1) else []
            assert list(file[table].dtype.names) == before + ADDED.get(table, "").split()
            assert [c.name for c in COLUMNS[table]] == list(file[table].dtype.names)
            assert list(file[table].attrs["unit"]) == [c.unit for c in COLUMNS[table]]
            assert list(file[table].attrs["description"]) == [c.description for c in COLUMNS[table]]
            assert file[table].maxshape == (None,)
            assert file[table].fletcher32
        assert set(file.attrs) == ATTRIBUTE_NAMES
        assert file.attrs["status"] == "completed"
        assert file.attrs["committed_rounds"] == 3
        assert file.attrs["config_toml"] == attributes["config_toml"]
        assert file.attrs["schema_version"] == 2
        phases = h5py.check_enum_dtype(file["rounds"].dtype["phase"])
        assert phases == {"initial_pruning": 0, "federated": 1}
        statuses = h5py.check_enum_dtype(file["clients"].dtype["status"])
        assert statuses == {"ok": 0, "late": 1, "dropped": 2, "rejected": 3, "lost": 4}


def test_extents_cover_real_rows_only(path, attributes, append_round, expected_rows, flush_always):
    writer = TraceWriter.create(path, attributes)
    for count in range(1, 40):
        append_round(writer, count - 1)
        writer.commit()
        with h5py.File(path) as file:
            for table in TABLES:
                np.testing.assert_array_equal(file[table][:], expected_rows(table, 0, count))
    writer.close("completed")


def chunks_left_out(path, table):
    """For each chunk of a table, whether its checksum is left out."""
    with h5py.File(path) as file:
        dataset = file[table].id
        return [dataset.get_chunk_info(i).filter_mask == 1 for i in range(dataset.get_num_chunks())]


def test_full_chunks_have_a_checksum_from_a_forced_commit_on_and_all_at_the_end(
    path, attributes, append_round, monkeypatch, flush_always
):
    monkeypatch.setitem(ROWS_PER_CHUNK, "rounds", 4)
    writer = TraceWriter.create(path, attributes)
    expected = {5: [True, True], 8: [False, False], 10: [False, False, True], 11: [False, False, True]}
    for count in range(1, 12):
        append_round(writer, count - 1)
        writer.commit(force=count in (8, 10))
        if count in expected:
            assert chunks_left_out(path, "rounds") == expected[count]
    writer.close("completed")
    for table in TABLES:
        assert not any(chunks_left_out(path, table))


@pytest.mark.parametrize("place", [b"detail of 2", b"detail of 9"])
def test_any_reader_is_kept_from_a_damaged_chunk(path, attributes, append_round, monkeypatch, place):
    monkeypatch.setitem(ROWS_PER_CHUNK, "events", 4)
    write(path, attributes, append_round, range(10))
    content = path.read_bytes()
    path.write_bytes(content.replace(place, b"D" + place[1:]))
    with h5py.File(path) as file, pytest.raises(OSError, match="filter returned failure"):
        file["events"][:]


@pytest.mark.parametrize("replaced", [False, True])
def test_a_trace_that_is_gone_ends_its_run(path, attributes, append_round, flush_always, replaced):
    writer = TraceWriter.create(path, attributes)
    append_round(writer, 0)
    writer.commit()
    path.rename(path.with_name("moved.h5"))
    if replaced:
        path.touch()
    append_round(writer, 1)
    with pytest.raises(
        TraceError, match=r"trace\.h5: was removed, moved or replaced while the run was writing"
    ):
        writer.commit()
    with pytest.raises(TraceError, match="the trace is closed"):
        writer.append()
    assert len(read(path.with_name("moved.h5")).rounds) == 1


def test_a_damaged_trace_is_not_continued(path, attributes, append_round):
    write(path, attributes, append_round, range(5))
    with h5py.File(path, "r+") as file:
        file["clients"][3, "samples"] = 99
    with pytest.raises(TraceError, match="damaged: the checksum is wrong"):
        TraceWriter.open_for_append(path, 3)


def test_index_of_many_chunks(path, attributes, append_round, expected_rows, monkeypatch):
    """4200 chunks need three levels of full-sized nodes."""
    monkeypatch.setitem(ROWS_PER_CHUNK, "rounds", 1)
    write(path, attributes, append_round, range(4200))
    with h5py.File(path) as file:
        assert file["rounds"].id.get_num_chunks() == 4200
        np.testing.assert_array_equal(file["rounds"][:], expected_rows("rounds", 0, 4200))
        assert file["rounds"][4100]["round"] == 4100


def test_hdf5_can_go_on_with_a_finished_trace(path, attributes, append_round, expected_rows):
    """The file is an ordinary one: HDF5's own growth of it agrees with what was written."""
    write(path, attributes, append_round, range(1500))
    with h5py.File(path, "r+") as file:
        for table in TABLES:
            rows = expected_rows(table, 0, 3000)
            written = len(file[table])
            file[table].resize((len(rows),))
            file[table][written:] = rows[written:]
    with h5py.File(path) as file:
        for table in TABLES:
            np.testing.assert_array_equal(file[table][:], expected_rows(table, 0, 3000))


def test_status_says_how_the_run_ended(path, attributes):
    writer = TraceWriter.create(path, attributes)
    assert read(path).attributes["status"] == "running"
    writer.close("preempted")
    writer.close("completed")
    assert read(path).attributes["status"] == "preempted"
    with pytest.raises(ValueError, match="none of completed, preempted, failed"):
        writer.close("done")
    with pytest.raises(RuntimeError, match="stop"), TraceWriter.create(path, attributes):
        raise RuntimeError("stop")
    assert read(path).attributes["status"] == "failed"


@pytest.mark.parametrize("rounds", [range(0), range(-2, 0), range(-2, 3)])
def test_a_trace_whose_writer_has_gone_is_marked(path, attributes, append_round, rounds):
    writer = TraceWriter.create(path, attributes)
    for round_index in rounds:
        append_round(writer, round_index)
    writer.commit(force=True)
    mark_failed(path, "")
    trace = read(path)
    assert trace.attributes["status"] == "failed"
    assert trace.rounds["round"].tolist() == list(rounds)


@pytest.mark.parametrize("status", FINAL_STATUSES)
def test_a_trace_that_has_ended_is_not_marked_again(path, attributes, append_round, status):
    write(path, attributes, append_round, range(3), status=status)
    before = path.read_bytes()
    mark_failed(path, "")
    assert path.read_bytes() == before


def test_the_trace_of_another_run_is_not_marked(path, attributes):
    TraceWriter.create(path, {**attributes, "run_id": "mine"})
    mark_failed(path, "other")
    assert read(path).attributes["status"] == "running"
    mark_failed(path, "mine")
    assert read(path).attributes["status"] == "failed"


def test_finished_file_has_no_room_ahead(path, attributes, append_round):
    writer = TraceWriter.create(path, attributes)
    append_round(writer, 0)
    writer.commit(force=True)
    ahead = path.stat().st_size
    writer.close("completed")
    assert path.stat().st_size < ahead // 10


def test_commit_waits_a_little_unless_forced(path, attributes, append_round, monkeypatch):
    clock_s = [100.0]
    monkeypatch.setattr("fedmpi.trace.writer.time.monotonic", lambda: clock_s[0])
    writer = TraceWriter.create(path, attributes)
    append_round(writer, 0)
    writer.commit()
    assert len(read(path).rounds) == 0
    writer.commit(force=True)
    assert len(read(path).rounds) == 1
    append_round(writer, 1)
    clock_s[0] += 1.0
    writer.commit()
    assert len(read(path).rounds) == 2
    writer.close("completed")


def test_measurements_left_out_are_nan(path, attributes):
    with TraceWriter.create(path, attributes) as writer:
        integers = {name: 1 for name in TABLES["rounds"].names if TABLES["rounds"][name].kind == "i"}
        writer.append(rounds={**integers, "round": 0, "train_loss": 0.25, "phase": Phase.FEDERATED})
    rounds = read(path).rounds
    assert rounds.train_loss[0] == 0.25
    assert (
        rounds[["start_s", "end_s", "host_s", "test_loss", "test_accuracy", "density"]].isna().all(axis=None)
    )


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"round": 0, "layer": 1, "active": 5}, "column total is missing"),
        ({"round": 0, "layer": 1, "active": 5, "total": 9, "sum": 1}, "no column sum; it has round, layer"),
        ({"round": 0, "layer": 1, "active": 5.5, "total": 9}, "layers.active holds integers, not 5.5"),
        ({"round": 0, "layer": [0, 1], "active": [1, 2, 3], "total": 9}, "layers.active: .*broadcast"),
    ],
)
def test_wrong_columns_are_refused(path, attributes, columns, message):
    with TraceWriter.create(path, attributes) as writer:
        with pytest.raises(TraceError, match=message):
            writer.append(layers=columns)
        writer.append(layers={"round": 0, "layer": [0, 1], "active": [1, 2], "total": 9})


@pytest.mark.parametrize(
    ("text", "stored"),
    [("Open MPI v5\0", "Open MPI v5\ufffd"), ("a\0b", "a\ufffdb"), ("caf\udce9", "caf\\udce9"), ("é…", "é…")],
)
def test_any_text_can_be_an_attribute(path, attributes, text, stored):
    """HDF5 knows neither NULs nor halves of surrogate pairs (undecodable bytes of environment variables)."""
    texts = ("host", "mpi_library", "slurm_job_id")
    given = attributes | dict.fromkeys(texts, text) | {"layer_names": [text, "second"]}
    TraceWriter.create(path, given).close("completed")
    found = read(path).attributes
    assert [found[name] for name in texts] == [stored] * 3
    assert list(found["layer_names"]) == [stored, "second"]


def test_missing_attribute_is_refused(path, attributes):
    del attributes["seed"]
    with pytest.raises(TraceError, match="attribute seed is missing"):
        TraceWriter.create(path, attributes)
    assert not path.exists()


@pytest.mark.parametrize("character", ["a", "é", "語", "🙂"])
def test_long_details_are_cut_between_characters_and_end_in_an_ellipsis(path, attributes, character):
    fits = character * (DETAIL_BYTES // len(character.encode()))
    with TraceWriter.create(path, attributes) as writer:
        writer.append(events={"round": 0, "time_s": 0.5, "kind": "note", "detail": fits})
        writer.append(
            events={
                "round": 0,
                "time_s": [1.5, 2.5],
                "kind": ["k" * 99, "b"],
                "detail": [f"xx{fits}", "a\0b"],
            }
        )
    events = read(path).events
    assert events.detail[0] == fits
    assert events.detail[1].endswith("…")
    assert events.detail[1][:-1] == f"xx{fits}"[: len(events.detail[1]) - 1]
    assert DETAIL_BYTES - 3 <= len(events.detail[1].encode()) <= DETAIL_BYTES
    assert events.detail[2] == "a�b"
    assert events.kind[1] == "k" * (KIND_BYTES - 3) + "…"


def test_appending_gives_the_file_of_an_uninterrupted_run(tmp_path, path, attributes, append_round):
    write(tmp_path / "whole.h5", attributes, append_round, range(-3, 20))
    write(path, attributes, append_round, range(-3, 14), status="preempted")
    writer = TraceWriter.open_for_append(path, 8, {"ranks": 5})
    assert read(path).attributes["committed_rounds"] == 11
    assert read(path).attributes["status"] == "running"
    for round_index in range(8, 20):
        append_round(writer, round_index)
    writer.close("completed")
    with h5py.File(path) as resumed, h5py.File(tmp_path / "whole.h5") as whole:
        for table in TABLES:
            np.testing.assert_array_equal(resumed[table][:], whole[table][:])
        assert resumed.attrs["ranks"] == 5
        for name in ATTRIBUTE_NAMES - {"ranks", "created", "checksum"}:
            np.testing.assert_array_equal(resumed.attrs[name], whole.attrs[name])
    assert not path.with_name("trace.h5.partial").exists()


def test_appending_takes_back_the_end_of_the_run(path, attributes, append_round):
    """A run that has ended and goes on, to more rounds or because it was killed a moment later, ends once."""
    with TraceWriter.create(path, attributes) as writer:
        for round_index in range(4):
            append_round(writer, round_index)
        for kind in ("stop", "rejected"):
            writer.append(events={"round": 3, "time_s": 1.0, "kind": kind, "detail": "all rounds done"})
    TraceWriter.open_for_append(path, 4).close("completed")
    kinds = read(path).events["kind"].tolist()
    assert kinds[-1] == "rejected"
    assert "stop" not in kinds


def test_appending_is_refused_when_rounds_are_missing(path, attributes, append_round):
    write(path, attributes, append_round, range(5))
    with pytest.raises(TraceError, match="must hold round 6, but its last committed round before that is 4"):
        TraceWriter.open_for_append(path, 7)
    assert len(read(path).rounds) == 5


def test_appending_to_another_schema_version_is_refused(path, attributes, append_round):
    write(path, attributes, append_round, range(5))
    with h5py.File(path, "r+") as file:
        file.attrs["schema_version"] = 3
    with pytest.raises(TraceError, match=r"trace\.h5: schema version 3, but this fedmpi reads 1 and 2"):
        TraceWriter.open_for_append(path, 3)


def test_a_trace_of_version_1_is_not_continued(path, version_1):
    path.write_bytes(version_1)
    with pytest.raises(TraceError, match=r"trace\.h5: schema version 1 is read, but not continued"):
        TraceWriter.open_for_append(path, 2)
    assert path.read_bytes() == version_1
    assert not path.with_name("trace.h5.partial").exists()


def test_devices_are_kept_once_whatever_is_kept_of_the_rounds(path, attributes, devices, append_round):
    with TraceWriter.create(path, attributes) as writer:
        writer.append(devices=devices)
        for round_index in range(5):
            append_round(writer, round_index)
    TraceWriter.open_for_append(path, 0).close("preempted")
    trace = read(path)
    assert len(trace.rounds) == len(trace.client_tests) == 0
    assert {name: list(trace.devices[name]) for name in trace.devices} == {
        name: list(np.broadcast_to(value, 3)) for name, value in devices.items()
    }


def test_names_of_devices_are_cut_like_those_of_events(path, attributes, devices):
    with TraceWriter.create(path, attributes) as writer:
        writer.append(devices={**devices, "device": ["é" * DEVICE_BYTES, "b", "c"]})
    name = read(path).devices.device[0]
    assert name == "é" * ((DEVICE_BYTES - 3) // 2) + "…"


def test_details_are_a_json_object(path, attributes):
    facts = {
        "client": np.int64(3),
        "share": np.float32(0.5),
        "loss": np.nan,
        "layers": np.arange(2),
        "why": 'a "\0é',
    }
    with TraceWriter.create(path, attributes) as writer:
        writer.append(events={"round": 0, "time_s": 0.5, "kind": "one", "detail": "", "details": facts})
        pair = {"round": [1, 2], "time_s": 0.5, "kind": ["a", "b"], "detail": ""}
        writer.append(events={**pair, "details": [{"a": 1}, {"b": [float("inf")]}]})
        writer.append(events={**pair, "detail": "without"})
    plain = {"client": 3, "share": 0.5, "loss": None, "layers": [0, 1], "why": 'a "\0é'}
    found = read(path).events.details.map(json.loads).tolist()
    assert found == [plain, {"a": 1}, {"b": [None]}, {}, {}]


@pytest.mark.parametrize("count", [1, 40, 41, 300])
def test_details_that_do_not_fit_are_left_out_and_counted(path, attributes, count):
    facts = {f"fact_{number:03}": number for number in range(count)}
    with TraceWriter.create(path, attributes) as writer:
        writer.append(events={"round": 0, "time_s": 0.5, "kind": "many", "detail": "", "details": facts})
    text = read(path).events.details[0]
    found = json.loads(text)
    left_out = found.pop("left_out", 0)
    assert list(found.items()) == list(facts.items())[: count - left_out]
    assert len(text.encode()) <= DETAILS_BYTES
    assert len(found) == count or len(text.encode()) > DETAILS_BYTES - 40


def test_details_that_json_does_not_have_are_refused(path, attributes):
    with TraceWriter.create(path, attributes) as writer:
        event = {"round": 0, "time_s": 0.5, "kind": "set", "detail": ""}
        with pytest.raises(TraceError, match=r"column events\.details: Object of type set"):
            writer.append(events={**event, "details": {"clients": {1, 2}}})
    assert len(read(path).events) == 0


def test_full_disk_leaves_the_committed_rounds(
    path, attributes, append_round, expected_rows, monkeypatch, flush_always
):
    """The disk fills up at each of many writes in turn."""
    pwrite = os.pwrite
    for room in range(0, 60_000, 900):
        left = [1e9]

        def limited(descriptor, data, offset, left=left):
            left[0] -= len(data)
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return pwrite(descriptor, data, offset)

        monkeypatch.setattr(os, "pwrite", limited)
        writer = TraceWriter.create(path, attributes)
        left[0] = room
        error, committed = None, -1
        while error is None:
            committed += 1
            append_round(writer, committed)
            try:
                writer.commit()
            except TraceError as raised:
                error = str(raised)
        assert re.search(r"trace\.h5: No space left on device; [0-9,]+ bytes are free", error)
        with h5py.File(path) as file:
            assert file.attrs["committed_rounds"] in (committed, committed + 1)
            assert len(file["rounds"]) >= committed
            for table, rows in ((table, file[table][:]) for table in TABLES):
                np.testing.assert_array_equal(rows, expected_rows(table, 0, 200)[: len(rows)])
        with pytest.raises(TraceError, match="the trace is closed"):
            writer.append()
        writer.close("failed")


def test_file_size_limit_while_making_a_trace(path, attributes):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(TraceError, match=r"cannot write the trace .*trace\.h5: File too large"):
            TraceWriter.create(path, attributes)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(path.parent.iterdir()) == []


def test_folder_that_does_not_exist(tmp_path, attributes):
    with pytest.raises(TraceError, match="No such file or directory"):
        TraceWriter.create(tmp_path / "none" / "trace.h5", attributes)


def test_interrupt_while_writing_gives_up_the_rest(path, attributes, append_round, monkeypatch, flush_always):
    writer = TraceWriter.create(path, attributes)
    append_round(writer, 0)
    writer.commit()

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", interrupted)
        append_round(writer, 1)
        with pytest.raises(KeyboardInterrupt):
            writer.commit()
    writer.close("failed")
    assert len(read(path).rounds) == 1


def test_names_are_lower_case_members_in_the_order_of_codes():
    assert names(Phase) == ["initial_pruning", "federated"]
    assert names(Status) == ["ok", "late", "dropped", "rejected", "lost"]


def test_a_system_without_fdatasync_waits_for_the_disk_by_fsync(path, attributes, append_round, monkeypatch):
    waited = []
    fsync = os.fsync
    monkeypatch.delattr(os, "fdatasync", raising=False)  # macOS has none
    monkeypatch.setattr(os, "fsync", lambda descriptor: waited.append(descriptor) or fsync(descriptor))
    with TraceWriter.create(path, attributes) as writer:
        append_round(writer, 0)
        before = len(waited)
        writer.commit(force=True)
        assert len(waited) > before
    assert len(read(path).rounds) == 1
