import os
from pathlib import Path

import pytest

from fedmpi.cli.output import check_output, default_output, prepare_output
from fedmpi.config import Config, ConfigError, dumps, loads

CONFIG = Config()


def a_run(folder: Path) -> Path:
    (folder / "checkpoint" / "round-5").mkdir(parents=True)
    (folder / "checkpoint" / "round-5" / "server.npz").touch()
    (folder / "trace.h5").touch()
    (folder / "config.toml").write_text(dumps(CONFIG))
    (folder / "notes.txt").touch()
    return folder


def test_the_default_folder_is_named_by_name_and_seed():
    config = loads("", ["experiment.name=study", "experiment.seed=3"])
    assert default_output(config) == Path("runs/study-3")


@pytest.mark.parametrize(("resume", "overwrite"), [(False, False), (True, False), (False, True)])
def test_a_new_or_empty_folder_is_made_whatever_is_asked(tmp_path, resume, overwrite):
    for folder in (tmp_path / "a" / "b", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        prepare_output(folder, CONFIG, resume, overwrite)
        assert folder.is_dir()
        assert not list(folder.iterdir())


def test_a_run_is_not_written_over_unless_asked(tmp_path):
    folder = a_run(tmp_path / "run")
    with pytest.raises(
        ConfigError, match=r"--output: .*run holds a run already; allowed: --resume .*--overwrite"
    ):
        prepare_output(folder, CONFIG, resume=False, overwrite=False)
    assert (folder / "trace.h5").exists()


def test_resuming_keeps_everything(tmp_path):
    folder = a_run(tmp_path / "run")
    before = sorted(folder.rglob("*"))
    prepare_output(folder, CONFIG, resume=True, overwrite=False)
    assert sorted(folder.rglob("*")) == before


def test_resuming_another_experiment_is_refused(tmp_path):
    folder = a_run(tmp_path / "run")
    other = loads("", ["experiment.seed=1"])
    with pytest.raises(ConfigError, match=r"\[experiment\] seed: found 1, but the run to resume has 0"):
        prepare_output(folder, other, resume=True, overwrite=False)


def test_overwriting_removes_the_run_and_nothing_else(tmp_path):
    folder = a_run(tmp_path / "run")
    prepare_output(folder, CONFIG, resume=False, overwrite=True)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_a_link_to_a_checkpoint_is_removed_and_not_what_it_points_to(tmp_path):
    kept = a_run(tmp_path / "kept")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "checkpoint").symlink_to(kept / "checkpoint")
    prepare_output(folder, CONFIG, resume=False, overwrite=True)
    assert not list(folder.iterdir())
    assert (kept / "checkpoint" / "round-5" / "server.npz").exists()


@pytest.mark.parametrize(("resume", "overwrite"), [(False, False), (True, False), (False, True)])
def test_a_folder_of_other_things_is_never_written(tmp_path, resume, overwrite):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="holds other files and no run; allowed: a new or empty folder"):
        prepare_output(tmp_path, CONFIG, resume, overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match=r"--output: .* is a file; allowed: a folder"):
            prepare_output(path, CONFIG, resume=False, overwrite=False)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(ConfigError, match="cannot be written; allowed: a folder with write permission"):
        prepare_output(tmp_path / "new", CONFIG, resume=False, overwrite=False)
    assert not list(tmp_path.iterdir())


def test_a_failing_disk_is_told(tmp_path, monkeypatch):
    def full(self, **_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(ConfigError, match="cannot be written: No space left on device"):
        prepare_output(tmp_path / "new", CONFIG, resume=False, overwrite=False)


def test_checking_changes_nothing(tmp_path):
    check_output(tmp_path / "new", CONFIG, resume=False, overwrite=False)
    check_output(a_run(tmp_path / "run"), CONFIG, resume=False, overwrite=True)
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "run" / "trace.h5").exists()
