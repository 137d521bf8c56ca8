from __future__ import annotations

import hashlib
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi import checkpoint
from fedmpi.checkpoint import CheckpointError, FileEntry, store

BLOCKS = (range(3), range(3, 5), range(5, 6))
VALUES = {"k": 0.1 + 0.2, "largest": sys.float_info.max, "tiny": 5e-324, "none": None, "list": [1, 2.5, "x"]}


def server_arrays(round_index):
    return {"weights": np.arange(1000, dtype=np.float32) + round_index, "mask": np.arange(7) % 2 == 0}


def client_arrays(client, round_index):
    residual = np.full(50 + client, client + round_index / 4, np.float32)
    return {"residual": residual, "seen": np.array(round_index, np.int64)}


def save(folder: Path, round_index: int) -> Path:
    """As three ranks would: every rank its clients, one rank without clients, rank 0 all the rest."""
    partial = checkpoint.start(folder, round_index)
    entries = [checkpoint.write_server(partial, server_arrays(round_index))]
    for block in (range(0), *BLOCKS):
        clients = {client: client_arrays(client, round_index) for client in block}
        entries.append(checkpoint.write_clients(partial, clients))
    entries = [FileEntry.from_bytes(entry.to_bytes()) for entry in entries]
    return checkpoint.publish(partial, entries, {**VALUES, "round": round_index})


def check(saved: checkpoint.Checkpoint, round_index: int) -> None:
    assert saved.round_index == round_index
    assert saved.values == {**VALUES, "round": round_index}
    for name, array in server_arrays(round_index).items():
        np.testing.assert_array_equal(saved.server()[name], array, strict=True)
    for ids in ([0, 1, 2, 3, 4, 5], [2, 3], [5], []):
        clients = saved.clients(ids)
        assert sorted(clients) == ids
        for client, arrays in clients.items():
            for name, array in client_arrays(client, round_index).items():
                np.testing.assert_array_equal(arrays[name], array, strict=True)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoint"


@pytest.mark.parametrize("round_index", [0, 120, -7])
def test_what_is_saved_is_read_on_any_number_of_ranks(folder, round_index):
    path = save(folder, round_index)
    check(checkpoint.open_checkpoint(path), round_index)
    saved, problems = checkpoint.latest_good(folder)
    check(saved, round_index)
    assert problems == []


def test_clients_without_state_are_left_out(folder):
    saved = checkpoint.open_checkpoint(save(folder, 1))
    assert set(saved.clients([4, 5, 6, 1000])) == {4, 5}


def test_the_last_two_are_kept(folder):
    for round_index in (-5, -1, 0, 10, 20):
        save(folder, round_index)
    assert [path.name for path in checkpoint.candidates(folder)] == ["round-00000020", "round-00000010"]
    assert sorted(os.listdir(folder)) == ["round-00000010", "round-00000020"]


def test_saving_a_round_again_replaces_it(folder):
    for round_index in (10, 20, 30, 20):
        save(folder, round_index)
    assert [path.name for path in checkpoint.candidates(folder)] == ["round-00000020"]
    check(checkpoint.open_checkpoint(folder / "round-00000020"), 20)


def test_a_replaced_checkpoint_is_found_until_the_new_one_has_its_name(folder):
    path = save(folder, 20)
    save(folder, 30)
    path.rename(path.with_name(path.name + ".replaced"))
    names = [path.name for path in checkpoint.candidates(folder)]
    assert names == ["round-00000030", "round-00000020.replaced"]


def test_no_checkpoint(folder):
    assert checkpoint.latest_good(folder) == (None, [])


FILES = [
    "server.npz",
    "clients-00000-00002.npz",
    "clients-00003-00004.npz",
    "clients-00005-00005.npz",
    "manifest.json",
]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "damage", ["first bit", "middle bit", "last bit", "truncated", "empty", "missing", "longer"]
)
def test_damage_is_found_and_the_one_before_is_used(folder, name, damage):
    save(folder, 10)
    path = save(folder, 20) / name
    content = bytearray(path.read_bytes())
    if damage.endswith("bit"):
        place = {"first bit": 0, "middle bit": len(content) // 2, "last bit": len(content) - 2}[damage]
        content[place] ^= 4
    elif damage == "longer":
        content += b"x"
    else:
        del content[{"truncated": len(content) - 9}.get(damage, 0) :]
    path.write_bytes(content)
    if damage == "missing":
        path.unlink()
    saved, problems = checkpoint.latest_good(folder)
    check(saved, 10)
    assert len(problems) == 1
    assert problems[0].startswith("checkpoint round-00000020 is passed over: ")
    assert str(path) in problems[0]
    with pytest.raises(CheckpointError, match=name):
        checkpoint.open_checkpoint(path.parent).clients(range(6))


def test_a_changed_manifest_is_refused_or_means_the_same(folder):
    path = save(folder, 10) / "manifest.json"
    content = path.read_bytes()
    refused = []
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            check(checkpoint.open_checkpoint(path.parent), 10)
        except CheckpointError as error:
            refused.append(str(error))
    assert len(refused) > 0.7 * len(content)  # the others: white space, the last digit of a number
    assert all("manifest.json: " in error for error in refused)


def rewrite_manifest(path: Path, change) -> None:
    """Change what a manifest says, and make its checksum right again."""
    body = json.loads((path / "manifest.json").read_text())
    del body["checksum"]
    change(body)
    (path / "manifest.json").write_text(store._manifest_text(body))


def at(*keys):
    """A change that puts its value at these keys of the manifest."""

    def put(value):
        def change(body):
            for key in keys[:-1]:
                body = body[key]
            body[keys[-1]] = value

        return change

    return put


@pytest.mark.parametrize(
    "change",
    [
        *(at("round")(value) for value in ("20", 20.0, True, None, 10, -1)),
        *(at("values")(value) for value in ([], None, "x", 1)),
        *(at("files")(value) for value in (None, 5, {"a": 1}, [None], [["name"]], [{}])),
        *(
            at("files", 1, "name")(v)
            for v in ("../../x", "/etc/passwd", "clients-00000-00003.npz", "", 5, None)
        ),
        at("files", 0, "name")("clients-00000-00002.npz"),
        *(at("files", 1, "first_client")(value) for value in (-1, 3, 0.0, "0", True, None)),
        *(at("files", 1, "last_client")(value) for value in (-1, 10**9, None)),
        *(at("files", 1, "size")(value) for value in (-1, "1", None)),
        *(at("files", 1, "checksum")(value) for value in ("", "x" * 64, "A" * 64, 5)),
        at("files", 1, "problem")(""),
    ],
)
def test_a_manifest_that_no_run_has_written_is_refused(folder, change):
    save(folder, 10)
    path = save(folder, 20)
    rewrite_manifest(path, change)
    with pytest.raises(CheckpointError, match=r"manifest\.json: is no manifest"):
        checkpoint.open_checkpoint(path)
    assert checkpoint.latest_good(folder)[0].round_index == 10


@pytest.mark.parametrize("text", ["[]", "5", "null", "[" * 100_000, "9" * 5000, "\0", '{"checksum": 5}'])
def test_a_manifest_of_garbage_is_refused(folder, text):
    path = save(folder, 20)
    (path / "manifest.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"manifest\.json: "):
        checkpoint.open_checkpoint(path)


def test_a_client_range_without_end_is_not_counted_through(folder):
    partial = checkpoint.start(folder, 1)
    entries = [
        checkpoint.write_server(partial, {}),
        checkpoint.write_clients(partial, {0: {"a": np.zeros(1)}, 10**15: {"a": np.ones(1)}}),
    ]
    saved = checkpoint.open_checkpoint(checkpoint.publish(partial, entries, {}))
    assert set(saved.clients([5, 10**15])) == {10**15}
    assert saved.clients([10**15 + 1]) == {}


def test_a_checkpoint_without_a_server_file_has_no_arrays(folder):
    for number, clients in enumerate(({}, {3: {"a": np.zeros(1)}})):
        partial = checkpoint.start(folder, number)
        path = checkpoint.publish(partial, [checkpoint.write_clients(partial, clients)], {})
        with pytest.raises(CheckpointError, match=r"manifest\.json: names no server\.npz"):
            checkpoint.open_checkpoint(path).server()


def test_a_checkpoint_without_clients_has_the_servers_arrays(folder):
    partial = checkpoint.start(folder, 1)
    path = checkpoint.publish(partial, [checkpoint.write_server(partial, server_arrays(1))], {})
    saved = checkpoint.open_checkpoint(path)
    assert set(saved.server()) == {"weights", "mask"}
    assert saved.clients(range(9)) == {}


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no archive",
        npy(np.zeros(3)),
        npy(np.array([None], dtype=object)),
        b"PK\x05\x06" + bytes(5),
    ],
)
def test_arrays_of_garbage_with_the_right_checksum_are_refused(folder, content):
    path = save(folder, 20)
    for entry, name in enumerate(FILES[:2]):
        (path / name).write_bytes(content)
        rewrite_manifest(path, at("files", entry, "size")(len(content)))
        checksum = hashlib.blake2b(content, digest_size=32).hexdigest()
        rewrite_manifest(path, at("files", entry, "checksum")(checksum))
    saved = checkpoint.open_checkpoint(path)
    with pytest.raises(CheckpointError, match=r"server\.npz: cannot be read as arrays"):
        saved.server()
    with pytest.raises(CheckpointError, match=r"clients-00000-00002\.npz: cannot be read as arrays"):
        saved.clients([1])


def test_arrays_of_something_else_than_a_client_are_refused(folder):
    partial = checkpoint.start(folder, 1)
    entry = checkpoint.write_clients(partial, {0: {"a": np.zeros(1)}})
    np.savez(partial / entry.name, **{"one/a": np.zeros(1)})
    content = (partial / entry.name).read_bytes()
    entry = FileEntry(entry.name, len(content), hashlib.blake2b(content, digest_size=32).hexdigest(), 0, 0)
    path = checkpoint.publish(partial, [entry], {})
    with pytest.raises(CheckpointError, match=r"cannot be read as arrays: .*'one'"):
        checkpoint.open_checkpoint(path).clients([0])


def test_other_format_version_is_refused(folder, monkeypatch):
    monkeypatch.setattr("fedmpi.checkpoint.store.FORMAT_VERSION", 2)
    path = save(folder, 10)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"manifest\.json: format 2, expected 1"):
        checkpoint.open_checkpoint(path)


def test_when_all_are_damaged_each_is_named(folder):
    for round_index in (10, 20):
        (save(folder, round_index) / "server.npz").write_bytes(b"")
    saved, problems = checkpoint.latest_good(folder)
    assert saved is None
    assert [problem.split()[1] for problem in problems] == ["round-00000020", "round-00000010"]


def test_damaged_later_rounds_do_not_stay(folder):
    save(folder, 10)
    (save(folder, 20) / "manifest.json").unlink()
    save(folder, 15)
    assert [path.name for path in checkpoint.candidates(folder)] == ["round-00000015", "round-00000010"]


def test_a_rank_that_could_not_write_ends_it_for_all(folder):
    save(folder, 10)
    partial = checkpoint.start(folder, 20)
    entry = checkpoint.write_server(partial, server_arrays(20))
    failed = FileEntry.failed(CheckpointError("clients-00003-00004.npz: No space left on device"))
    with pytest.raises(CheckpointError, match="No space left"):
        checkpoint.publish(partial, [entry, FileEntry.from_bytes(failed.to_bytes())], {})
    assert os.listdir(folder) == ["round-00000010"]


def test_a_file_that_is_not_there_in_full_is_refused(folder):
    partial = checkpoint.start(folder, 20)
    entry = checkpoint.write_server(partial, server_arrays(20))
    os.truncate(partial / entry.name, entry.size - 1)
    with pytest.raises(CheckpointError, match=r"server\.npz: is not [0-9,]+ bytes long"):
        checkpoint.publish(partial, [entry], {})
    assert os.listdir(folder) == []


def test_unfinished_ones_are_removed_by_the_next(folder):
    partial = checkpoint.start(folder, 20)
    checkpoint.write_server(partial, server_arrays(20))
    assert checkpoint.latest_good(folder) == (None, [])
    save(folder, 30)
    assert os.listdir(folder) == ["round-00000030"]


def test_full_disk(folder, limit_file_size):
    save(folder, 10)
    partial = checkpoint.start(folder, 20)
    with (
        limit_file_size(3000),
        pytest.raises(CheckpointError, match=r"server\.npz: File too large; [0-9,]+ bytes"),
    ):
        checkpoint.write_server(partial, server_arrays(20))
    checkpoint.discard(partial)
    check(checkpoint.latest_good(folder)[0], 10)
    assert os.listdir(folder) == ["round-00000010"]


def test_full_disk_while_publishing(folder, limit_file_size):
    save(folder, 10)
    partial = checkpoint.start(folder, 20)
    entry = checkpoint.write_server(partial, server_arrays(20))
    with limit_file_size(10), pytest.raises(CheckpointError, match="File too large"):
        checkpoint.publish(partial, [entry], {})
    assert os.listdir(folder) == ["round-00000010"]


def test_python_objects_are_refused(folder):
    partial = checkpoint.start(folder, 1)
    with pytest.raises(TypeError, match="array names holds Python objects"):
        checkpoint.write_server(partial, {"names": np.array(["a", None], dtype=object)})


def test_kill_at_random_instants_loses_no_checkpoint(tmp_path):
    report = subprocess.run(
        [sys.executable, Path(__file__).with_name("kill_savers.py"), tmp_path, "30"],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert report.returncode == 0, report.stdout + report.stderr
    assert "30 kills" in report.stdout


@given(st.floats(allow_nan=False), st.integers(-(2**63), 2**64))
def test_numbers_keep_every_bit(tmp_path_factory, number, integer):
    partial = checkpoint.start(tmp_path_factory.mktemp("numbers"), 0)
    values = checkpoint.open_checkpoint(checkpoint.publish(partial, [], {"a": [number], "b": integer})).values
    assert values["b"] == integer
    assert values["a"][0] == number
    assert math.copysign(1, values["a"][0]) == math.copysign(1, number)


def test_manifest_is_plain_json(folder):
    manifest = json.loads((save(folder, 3) / "manifest.json").read_text())
    assert manifest["round"] == 3
    assert [entry["name"] for entry in manifest["files"]] == FILES[:-1]
