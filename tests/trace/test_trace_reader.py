from __future__ import annotations

import h5py
import numpy as np
import pandas as pd
import pytest

from fedmpi.trace import TraceError, TraceWriter, read
from fedmpi.trace.hdf5_layout import heap_ends
from fedmpi.trace.schema import ROWS_PER_CHUNK, TABLES, tables


@pytest.fixture
def run(tmp_path, attributes, append_round):
    """A run folder with the finished trace of rounds -2..9."""
    with TraceWriter.create(tmp_path / "trace.h5", attributes) as writer:
        for round_index in range(-2, 10):
            append_round(writer, round_index)
    return tmp_path


def test_tables_have_categories_and_strings(run):
    trace = read(run)
    assert list(trace.rounds["round"]) == list(range(-2, 10))
    assert list(trace.rounds.phase.cat.categories) == ["initial_pruning", "federated"]
    assert list(trace.rounds.phase[:3]) == ["initial_pruning", "initial_pruning", "federated"]
    assert list(trace.clients.status.cat.categories) == ["ok", "late", "dropped", "rejected", "lost"]
    assert trace.layers.layer[1] == "second.weight"
    assert trace.events.kind[0] == "kind of -2"
    assert pd.api.types.is_integer_dtype(trace.rounds.k)
    assert len(trace.clients) == 36


@pytest.fixture
def unfinished(tmp_path, attributes, append_round):
    """A run folder with the trace of rounds -2..9 of a run that was killed."""
    writer = TraceWriter.create(tmp_path / "trace.h5", attributes)
    for round_index in range(-2, 10):
        append_round(writer, round_index)
    writer.commit(force=True)
    return tmp_path


def test_file_and_run_folder_are_the_same(run):
    folder, file = read(run), read(str(run / "trace.h5"))
    for table in TABLES:
        pd.testing.assert_frame_equal(getattr(folder, table), getattr(file, table))


def test_config_and_attributes(run, attributes):
    trace = read(run)
    assert trace.config == {"experiment": {"name": "known", "seed": 7}}
    assert {name: trace.attributes[name] for name in attributes} == attributes
    assert type(trace.attributes["committed_rounds"]) is int


def test_rows_of_a_round_that_is_not_committed_are_left_out_but_not_its_events(unfinished):
    with h5py.File(unfinished / "trace.h5", "r+") as file:
        file.attrs.modify("committed_rounds", 5)
    trace = read(unfinished)
    assert list(trace.rounds["round"]) == [-2, -1, 0, 1, 2]
    assert trace.clients["round"].max() == trace.layers["round"].max() == 2
    assert trace.events["round"].max() == 9


def test_a_trace_is_shown_in_three_lines(run, attributes):
    trace = read(run)
    first, second, third = repr(trace).splitlines()
    assert first == f"Trace {run}/trace.h5: completed"
    assert second == (
        f"  10 rounds after 2 of initial pruning, {attributes['clients']} clients, "
        f"{attributes['parameters']} parameters, seed {attributes['seed']}"
    )
    rounds = trace.rounds
    rounds.loc[:, "bytes_up"], rounds.loc[:, "bytes_down"] = 2_000_000, 200_000_000
    rounds.loc[:, "end_s"] = range(1000, 1012)
    rounds.loc[:, "test_accuracy"] = [0.5] * 8 + [0.25] + [float("nan")] * 3
    assert repr(trace).splitlines()[2] == (
        "  test accuracy 0.2500, 1,011.0 emulated s, 24.00 MB up, 2,400.00 MB down"
    )
    rounds.loc[:, "test_accuracy"] = float("nan")
    assert "  never evaluated, 1,011.0" in repr(trace)
    assert third.startswith("  ")


def test_a_trace_without_rounds_is_shown_too(tmp_path, attributes):
    TraceWriter.create(tmp_path / "trace.h5", attributes).close("failed")
    first, second, third = repr(read(tmp_path)).splitlines()
    assert first.endswith("trace.h5: failed")
    assert second.startswith("  0 rounds, ")
    assert third == "  never evaluated, 0.0 emulated s, 0.00 MB up, 0.00 MB down"


def test_trace_without_rounds(tmp_path, attributes):
    attributes["layer_names"] = []
    TraceWriter.create(tmp_path / "trace.h5", attributes).close("failed")
    trace = read(tmp_path)
    assert [len(getattr(trace, table)) for table in TABLES] == [0] * len(TABLES)


def test_missing_file(tmp_path):
    with pytest.raises(TraceError, match=r"trace\.h5: there is no trace"):
        read(tmp_path)


def test_every_truncation_is_noticed_or_harmless(run):
    """What is cut off must not be missed, whatever is cut."""
    path = run / "trace.h5"
    content = path.read_bytes()
    for size in range(0, len(content), len(content) // 25):
        path.write_bytes(content[:size])
        with pytest.raises(TraceError, match=r"trace\.h5: no readable HDF5 file, or damaged"):
            read(run)


def test_foreign_files(tmp_path):
    path = tmp_path / "trace.h5"
    path.write_text("round,loss\n0,1\n")
    with pytest.raises(TraceError, match="no readable HDF5 file"):
        read(path)
    with h5py.File(path, "w") as file:
        file["numbers"] = [1, 2, 3]
    with pytest.raises(TraceError, match="an HDF5 file, but not a trace of fedmpi"):
        read(path)


def test_other_schema_and_other_columns(run):
    with h5py.File(run / "trace.h5", "r+") as file:
        file.attrs["schema_version"] = 9
    with pytest.raises(TraceError, match="schema version 9, but this fedmpi reads 1 and 2"):
        read(run)
    with h5py.File(run / "trace.h5", "r+") as file:
        file.attrs["schema_version"] = 2
        del file["layers"]
    with pytest.raises(TraceError, match="the table layers is missing or has other columns"):
        read(run)


def test_committed_rounds_that_are_not_there(unfinished):
    with h5py.File(unfinished / "trace.h5", "r+") as file:
        file.attrs.modify("committed_rounds", 50)
    with pytest.raises(TraceError, match="50 rounds are committed, but 12 are there"):
        read(unfinished)


def test_rows_whose_chunks_are_not_there(unfinished):
    with h5py.File(unfinished / "trace.h5", "r+") as file:
        file["clients"].resize((10**12,))
    with pytest.raises(
        TraceError, match="damaged: the table clients has 1000000000000 rows, not all of them"
    ):
        read(unfinished)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("config_toml", "[experiment\n"),
        ("config_toml", "a = " + "[" * 5000),
        ("config_toml", "a = " + "9" * 5000),
        ("config_toml", 7),
        ("layer_names", 7),
        ("committed_rounds", "many"),
        ("committed_rounds", -1),
        ("schema_version", [1, 2]),
    ],
)
def test_attributes_that_make_no_sense(unfinished, name, value):
    with h5py.File(unfinished / "trace.h5", "r+") as file:
        file.attrs[name] = value
    with pytest.raises(TraceError, match=r"trace\.h5: "):
        read(unfinished)


@pytest.mark.parametrize(
    ("name", "value"),
    [("status", "preempted"), ("seed", 8), ("run_id", "other"), ("committed_rounds", 11), ("checksum", "")],
)
def test_a_finished_trace_of_which_an_attribute_was_changed(run, name, value):
    with h5py.File(run / "trace.h5", "r+") as file:
        file.attrs[name] = value
    with pytest.raises(TraceError, match="damaged: the checksum is wrong"):
        read(run)


def test_a_finished_trace_without_its_checksum_and_one_with_an_unknown_status(run):
    with h5py.File(run / "trace.h5", "r+") as file:
        del file.attrs["checksum"]
    with pytest.raises(TraceError, match="damaged"):
        read(run)
    with h5py.File(run / "trace.h5", "r+") as file:
        file.attrs["status"] = "dompleted"
    with pytest.raises(TraceError, match="damaged: the status is 'dompleted'"):
        read(run)


def test_notes_of_a_user_in_a_finished_trace_are_read(run):
    with h5py.File(run / "trace.h5", "r+") as file:
        file.attrs["note"] = "the good one"
    assert read(run).attributes["note"] == "the good one"


@pytest.fixture
def old(tmp_path, version_1):
    path = tmp_path / "version_1.h5"
    path.write_bytes(version_1)
    return path


def test_a_trace_of_version_1_is_read_as_it_was_written(old):
    trace = read(old)
    assert trace.attributes["schema_version"] == 1
    assert trace.config["pruning"]["initial"]["max_rounds"] == 3
    with h5py.File(old) as file:
        for table in tables(1):
            assert file[table].dtype == tables(1)[table]
            frame = getattr(trace, table)
            assert list(frame.columns) == list(file[table].dtype.names)
            for name in frame:
                if frame[name].dtype.kind in "if":
                    np.testing.assert_array_equal(frame[name], file[table][name])
    assert list(trace.rounds["round"]) == [-3, -2, -1, 0, 1, 2, 3]
    assert trace.rounds.phase.value_counts().to_dict() == {"federated": 4, "initial_pruning": 3}
    assert trace.rounds.active_parameters.tolist() == [4810, 4810, 4031, 4031, 4031, 3445, 3445]
    assert trace.rounds.test_accuracy.iloc[-1] == 0.5793871866295265
    assert trace.clients.groupby("round").bytes_up.sum()[3] == trace.rounds.bytes_up.iloc[-1] == 109084
    assert set(trace.clients.status) == {"ok"}
    assert trace.layers.layer[4] == "fc1.weight"
    assert trace.events.detail.iloc[-1] == "all 4 rounds done"


def test_a_trace_of_version_1_has_no_rows_of_what_came_later(old):
    trace = read(old)
    for table in ("devices", "client_tests"):
        assert getattr(trace, table).empty
        assert list(getattr(trace, table)) == list(TABLES[table].names)
    with h5py.File(old, "r+") as file:
        file["devices"] = [1, 2, 3]  # a user's own
    assert read(old).devices.empty


def test_damage_to_a_trace_of_version_1_is_noticed(old):
    with h5py.File(old, "r+") as file:
        file["clients"][3, "samples"] = 99
    with pytest.raises(TraceError, match="damaged: the checksum is wrong"):
        read(old)


def test_a_trace_of_version_1_that_lacks_its_checksums_is_read(old):
    """The first traces had no filter, and among their attributes neither checksum nor run id."""
    expected, first = read(old), old.with_name("first.h5")
    with h5py.File(old) as new, h5py.File(first, "w") as file:
        for name, value in new.attrs.items():
            if name not in ("checksum", "run_id", "config_digest"):
                file.attrs[name] = value
        for name in tables(1):
            file.create_dataset(name, data=new[name][:], maxshape=(None,), chunks=(8,))
    trace = read(first)
    for table in TABLES:
        pd.testing.assert_frame_equal(getattr(trace, table), getattr(expected, table))


@pytest.mark.parametrize("text", ["unit", "description"])
def test_what_a_finished_trace_says_of_its_columns_cannot_change(run, text):
    with h5py.File(run / "trace.h5", "r+") as file:
        texts = list(file["rounds"].attrs[text])
        file["rounds"].attrs[text] = ["other", *texts[1:]]
    with pytest.raises(TraceError, match="damaged: the checksum is wrong"):
        read(run)


@pytest.mark.parametrize("mode", [{"mode": "r"}, {"mode": "r", "locking": True}, {"mode": "r+"}])
def test_other_handles_of_the_same_process_do_not_matter(unfinished, append_round, mode):
    path = unfinished / "trace.h5"
    with h5py.File(path, **mode) as other:
        assert len(other["rounds"]) == 12
        assert len(read(path).rounds) == 12
        with TraceWriter.open_for_append(path, 10) as writer:
            append_round(writer, 10)
        assert len(read(path).rounds) == 13


def test_what_was_written_since_another_handle_was_opened_is_read(
    tmp_path, attributes, append_round, flush_always
):
    writer = TraceWriter.create(tmp_path / "trace.h5", attributes)
    with h5py.File(tmp_path / "trace.h5", "r", locking=False) as other:
        assert len(other["rounds"]) == 0
        append_round(writer, 0)
        writer.commit()
        assert len(read(tmp_path).rounds) == 1
    writer.close("completed")


def test_texts_without_an_end_are_refused(run):
    """HDF5 would read for ever where a sector of its heap of texts is zero."""
    content = bytearray((run / "trace.h5").read_bytes())
    heap = content.index(b"GCOL")
    assert heap_ends(content)
    for start in (heap + 16, heap + 200):
        damaged = content[:start] + bytes(1000) + content[start + 1000 :]
        (run / "trace.h5").write_bytes(damaged)
        with pytest.raises(TraceError, match="damaged"):
            read(run)
    second = content.index(b"GCOL", heap + 1)
    for start in (heap, second):
        (run / "trace.h5").write_bytes(content[: start + 16] + bytes(16) + content[start + 32 :])
        with pytest.raises(TraceError, match="its texts have no end"):
            read(run)


def test_a_text_that_looks_like_a_heap_of_texts_is_none(tmp_path, attributes):
    attributes["host"] = "GCOL"
    TraceWriter.create(tmp_path / "trace.h5", attributes).close("completed")
    assert read(tmp_path).attributes["host"] == "GCOL"


DAMAGES = 300


def damaged(image: bytes, random: np.random.Generator) -> bytes:
    """A bit that flipped, anywhere or in the first 8 KiB; a sector of zeros; or a file cut short."""
    content = bytearray(image)
    kind = random.integers(4)
    place = int(random.integers(8192 if kind == 0 else len(content)))
    if kind < 2:
        content[place] ^= 1 << int(random.integers(8))
    elif kind == 2:
        sector = place // 512 * 512
        content[sector : sector + 512] = bytes(len(content[sector : sector + 512]))
    else:
        del content[place:]
    return bytes(content)


def test_no_damaged_trace_is_read_with_other_values(tmp_path, attributes, append_round, monkeypatch):
    monkeypatch.setattr("fedmpi.trace.reader._ATTEMPTS", 1)
    for table in TABLES:
        monkeypatch.setitem(ROWS_PER_CHUNK, table, 16)
    path = tmp_path / "trace.h5"
    with TraceWriter.create(path, attributes) as writer:
        for round_index in range(-2, 40):
            append_round(writer, round_index)
    image, expected, refused = path.read_bytes(), read(path), 0
    random = np.random.default_rng(0)
    for _ in range(DAMAGES):
        path.write_bytes(damaged(image, random))
        try:
            trace = read(path)
        except TraceError:
            refused += 1
            continue
        assert (trace.attributes, trace.config) == (expected.attributes, expected.config)
        for table in TABLES:
            pd.testing.assert_frame_equal(getattr(trace, table), getattr(expected, table))
    assert DAMAGES // 2 < refused < DAMAGES  # the others met room that nothing uses


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("parameters", "x", "attribute parameters is 'x'"),
        ("clients", 1.5, "attribute clients is 1.5"),
        ("host", 3, "attribute host is 3"),
        ("layer_names", [1, 2], r"attribute layer_names is \[1, 2\]"),
    ],
)
def test_attributes_of_other_kinds_are_refused(unfinished, name, value, found):
    """Of a run that has not ended, whose attributes no checksum covers yet."""
    with h5py.File(unfinished / "trace.h5", "r+") as file:
        file.attrs[name] = value
    with pytest.raises(TraceError, match=found) as refused:
        read(unfinished)
    assert "trace.h5" in str(refused.value)
    assert "\n" not in str(refused.value)
