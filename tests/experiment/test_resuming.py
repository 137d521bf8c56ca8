from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from fedmpi import checkpoint
from fedmpi.checkpoint import CheckpointError
from fedmpi.config import ConfigError, dumps, loads
from fedmpi.experiment.resuming import Identity, find_checkpoint
from fedmpi.trace import Phase, TraceError, TraceWriter
from fedmpi.trace.schema import TABLES

VERSION_1 = Path(__file__).parents[1] / "trace" / "fixtures" / "version_1.h5.gz"
CONFIG = loads("", ["experiment.rounds=10"])


def a_run(folder, config=CONFIG, rounds=range(7), saved=(3, 5), identity=None):
    """The folder of a run with these rounds in its trace and these checkpoints."""
    folder.mkdir()
    identity = Identity.of_new_run(config) if identity is None else identity
    attributes = {
        "config_toml": dumps(config),
        **dict.fromkeys(("seed", "clients", "ranks", "parameters"), 1),
        "layer_names": ["weight"],
        **dict.fromkeys(("host", "mpi_library", "slurm_job_id"), ""),
        **identity.values(),
    }
    row = {name: 0 for name in TABLES["rounds"].names if TABLES["rounds"][name].kind == "i"}
    with TraceWriter.create(folder / "trace.h5", attributes) as writer:
        for number in rounds:
            writer.append(rounds={**row, "round": number, "phase": Phase.FEDERATED})
    for number in saved:
        save(folder, number, identity.values())
    return folder


def save(folder, round_index, values):
    partial = checkpoint.start(folder / "checkpoint", round_index)
    entry = checkpoint.write_server(partial, {"weights": np.zeros(1, np.float32)})
    checkpoint.publish(partial, [entry], values)


def test_every_run_has_an_id_of_its_own_and_the_digest_of_its_configuration():
    one, same, other = map(Identity.of_new_run, (CONFIG, CONFIG, loads("", ["experiment.rounds=11"])))
    assert len({one.run_id, same.run_id, other.run_id}) == 3
    assert {len(i.run_id) for i in (one, same, other)} == {32}
    assert one.config_digest == same.config_digest != other.config_digest
    assert Identity.stored_in({**one.values(), "seed": 1}) == one
    assert Identity.stored_in({}) == Identity("", "")


def test_the_newest_checkpoint_is_found(tmp_path):
    found, problems = find_checkpoint(CONFIG, a_run(tmp_path / "run"))
    assert found is not None
    assert (found.round_index, problems) == (5, [])


@pytest.mark.parametrize("made", [False, True])
def test_a_run_starts_anew_where_nothing_is_recorded(tmp_path, made):
    folder = tmp_path / "run"
    if made:
        a_run(folder, rounds=range(0), saved=())
    assert find_checkpoint(CONFIG, folder) == (None, [])


def test_recorded_rounds_without_a_checkpoint_are_not_replaced(tmp_path):
    folder = a_run(tmp_path / "run", rounds=range(-2, 3), saved=())
    message = r"--resume: .*run holds 5 recorded rounds and no checkpoint to go on from; allowed: --overwrite"
    with pytest.raises(ConfigError, match=message):
        find_checkpoint(CONFIG, folder)


def test_recorded_rounds_with_damaged_checkpoints_are_not_replaced(tmp_path):
    folder = a_run(tmp_path / "run")
    for server in folder.rglob("server.npz"):
        server.write_bytes(b"")
    with pytest.raises(
        ConfigError, match=r"7 recorded rounds and no intact checkpoint \(checkpoint round-0{7}5 is"
    ):
        find_checkpoint(CONFIG, folder)


def test_a_trace_that_cannot_be_read_is_not_replaced(tmp_path):
    folder = a_run(tmp_path / "run", saved=())
    (folder / "trace.h5").write_bytes(b"")
    with pytest.raises(TraceError, match=r"trace\.h5"):
        find_checkpoint(CONFIG, folder)


@pytest.mark.parametrize("taken", ["trace.h5", "checkpoint"])
def test_trace_and_checkpoint_of_two_runs_of_one_configuration_are_refused(tmp_path, taken):
    folder, other = a_run(tmp_path / "run"), a_run(tmp_path / "other")
    if taken == "checkpoint":
        shutil.rmtree(folder / taken)
        shutil.copytree(other / taken, folder / taken)
    else:
        shutil.copy(other / taken, folder / taken)
    with pytest.raises(
        CheckpointError, match=r"round-00000005: is of run \w{8}, but .*trace\.h5 of \w{8}: they"
    ):
        find_checkpoint(CONFIG, folder)


@pytest.mark.parametrize("lacking", ["checkpoint", "trace"])
def test_a_run_with_an_id_and_one_without_do_not_belong_together(tmp_path, lacking):
    folder = a_run(tmp_path / "run", identity=Identity("", "") if lacking == "trace" else None)
    save(folder, 6, {} if lacking == "checkpoint" else Identity.of_new_run(CONFIG).values())
    with pytest.raises(CheckpointError, match="they do not belong together"):
        find_checkpoint(CONFIG, folder)


def test_a_run_of_version_0_1_without_ids_goes_on(tmp_path):
    folder = a_run(tmp_path / "run", identity=Identity("", ""))
    save(folder, 6, {})
    with h5py.File(folder / "trace.h5") as new, h5py.File(folder / "old.h5", "w") as old:
        for name, value in new.attrs.items():
            if name not in ("checksum", "run_id", "config_digest"):
                old.attrs[name] = value
        for name in TABLES:
            old.create_dataset(name, data=new[name][:], maxshape=(None,), chunks=(8,))
    (folder / "old.h5").replace(folder / "trace.h5")
    found, _ = find_checkpoint(CONFIG, folder)
    assert found is not None
    assert found.round_index == 6


def test_a_run_whose_trace_is_of_version_1_is_not_resumed(tmp_path):
    folder = a_run(tmp_path / "run")
    (folder / "trace.h5").write_bytes(gzip.decompress(VERSION_1.read_bytes()))
    message = (
        r"--resume: .*trace\.h5 is of schema version 1, which is read but not continued; allowed: the fedmpi "
    )
    with pytest.raises(ConfigError, match=message):
        find_checkpoint(CONFIG, folder)


def test_trace_and_checkpoint_of_another_configuration_are_refused(tmp_path):
    folder = a_run(tmp_path / "run", loads("", ["experiment.rounds=10", "training.batch_size=3"]))
    with pytest.raises(ConfigError, match=r"batch_size: found .* but the run to resume has 3"):
        find_checkpoint(CONFIG, folder)


@pytest.mark.parametrize(("rounds", "allowed"), [(6, False), (7, True), (11, True)])
def test_a_run_is_not_resumed_with_fewer_rounds_than_were_run(tmp_path, rounds, allowed):
    folder = a_run(tmp_path / "run", rounds=range(-3, 7))
    config = loads("", [f"experiment.rounds={rounds}"])
    if allowed:
        assert find_checkpoint(config, folder)[0] is not None
    else:
        message = (
            r"\[experiment\] rounds: found 6, but the run to resume has 7 rounds already; allowed: at least 7"
        )
        with pytest.raises(ConfigError, match=message):
            find_checkpoint(config, folder)


def test_rounds_of_a_checkpoint_count_where_the_trace_has_none(tmp_path):
    folder = a_run(tmp_path / "run")
    (folder / "trace.h5").unlink()
    assert find_checkpoint(CONFIG, folder)[0] is not None
    folder = a_run(tmp_path / "shorter", rounds=range(2))
    with pytest.raises(ConfigError, match="has 5 rounds already"):
        find_checkpoint(loads("", ["experiment.rounds=4"]), folder)
