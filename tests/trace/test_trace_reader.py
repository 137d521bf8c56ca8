from __future__ import annotations

import h5py
import pandas as pd
import pytest

from fedmpi.trace import TraceError, TraceWriter, read


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


def test_file_and_run_folder_are_the_same(run):
    folder, file = read(run), read(str(run / "trace.h5"))
    for table in ("rounds", "clients", "layers", "events"):
        pd.testing.assert_frame_equal(getattr(folder, table), getattr(file, table))


def test_config_and_attributes(run, attributes):
    trace = read(run)
    assert trace.config == {"experiment": {"name": "known", "seed": 7}}
    assert {name: trace.attributes[name] for name in attributes} == attributes
    assert type(trace.attributes["committed_rounds"]) is int


def test_rows_of_a_round_that_is_not_committed_are_left_out_but_not_its_events(run):
    with h5py.File(run / "trace.h5", "r+") as file:
        file.attrs.modify("committed_rounds", 5)
    trace = read(run)
    assert list(trace.rounds["round"]) == [-2, -1, 0, 1, 2]
    assert trace.clients["round"].max() == trace.layers["round"].max() == 2
    assert trace.events["round"].max() == 9


def test_trace_without_rounds(tmp_path, attributes):
    attributes["layer_names"] = []
    TraceWriter.create(tmp_path / "trace.h5", attributes).close("failed")
    trace = read(tmp_path)
    assert [len(table) for table in (trace.rounds, trace.clients, trace.layers, trace.events)] == [0, 0, 0, 0]


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
    with pytest.raises(TraceError, match="schema version 9, but this fedmpi reads 1"):
        read(run)
    with h5py.File(run / "trace.h5", "r+") as file:
        file.attrs["schema_version"] = 1
        del file["layers"]
    with pytest.raises(TraceError, match="the table layers is missing or has other columns"):
        read(run)


def test_committed_rounds_that_are_not_there(run):
    with h5py.File(run / "trace.h5", "r+") as file:
        file.attrs.modify("committed_rounds", 50)
    with pytest.raises(TraceError, match="50 rounds are committed, but 12 are there"):
        read(run)
