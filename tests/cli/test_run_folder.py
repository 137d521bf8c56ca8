import os
from pathlib import Path

import pytest

from fedmpi.cli.output import check_output, default_output
from fedmpi.cli.output import prepare_output as prepared
from fedmpi.config import Config, ConfigError, dumps, loads
from fedmpi.experiment.folder_lock import LOCK_NAME, FolderLock

CONFIG = Config()


def prepare_output(path: Path, config: Config, resume: bool, overwrite: bool) -> None:
    """Prepare a folder as a run does that ends at once."""
    prepared(path, config, resume, overwrite).release()


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
        lock = prepared(folder, CONFIG, resume, overwrite)
        assert [place.name for place in folder.iterdir()] == [LOCK_NAME]
        lock.release()


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


@pytest.mark.parametrize(("resume", "overwrite"), [(False, False), (True, False), (False, True)])
def test_the_folder_of_a_run_that_goes_on_is_refused_whatever_is_asked(tmp_path, resume, overwrite):
    new, folder = tmp_path / "new", a_run(tmp_path / "run")
    locks = [prepared(new, CONFIG, False, False), prepared(folder, CONFIG, True, False)]
    before = sorted(tmp_path.rglob("*"))
    for path in (new, folder) if resume or overwrite else (new,):
        with pytest.raises(
            ConfigError, match=f"--output: {path} is in use by process {os.getpid()} on .*; wait"
        ):
            prepared(path, CONFIG, resume, overwrite)
    assert sorted(tmp_path.rglob("*")) == before
    for lock in locks:
        lock.release()
    assert not (folder / LOCK_NAME).exists()


def test_a_run_that_goes_on_is_not_overwritten_and_nobody_waits_for_its_end(tmp_path):
    folder = a_run(tmp_path / "run")
    lock = prepared(folder, CONFIG, True, False)
    with pytest.raises(ConfigError, match=f"in use by process {os.getpid()} on .*; wait until it has ended"):
        check_output(folder, CONFIG, resume=False, overwrite=True)
    check_output(folder, CONFIG, resume=True, overwrite=False)
    lock.release()
    check_output(folder, CONFIG, resume=False, overwrite=True)


def test_a_run_that_began_while_the_lock_was_awaited_is_not_written_over(tmp_path, monkeypatch):
    """What was right before the lock is looked at again under it; a refusal gives the lock back."""
    folder = tmp_path / "run"
    acquire = FolderLock.acquire

    def after_another_run(path):
        a_run(path)
        return acquire(path)

    with monkeypatch.context() as patch:
        patch.setattr(FolderLock, "acquire", after_another_run)
        with pytest.raises(ConfigError, match="run holds a run already"):
            prepared(folder, CONFIG, resume=False, overwrite=False)
    assert (folder / "trace.h5").exists()
    acquire(folder).release()


@pytest.mark.parametrize("ends_with", ["nothing", "a file"])
def test_folders_that_were_made_and_stay_empty_go_with_the_lock(tmp_path, ends_with):
    (tmp_path / "mine").mkdir()
    folder = tmp_path / "mine" / "runs" / "run"
    lock = prepared(folder, CONFIG, False, False)
    if ends_with == "a file":
        (folder / "trace.h5").touch()
    lock.release()
    assert list((tmp_path / "mine").iterdir()) == (
        [] if ends_with == "nothing" else [tmp_path / "mine" / "runs"]
    )
    (tmp_path / "empty").mkdir()
    prepared(tmp_path / "empty", CONFIG, False, False).release()
    assert (tmp_path / "empty").is_dir()


def test_the_lock_that_a_killed_run_left_is_no_other_file(tmp_path):
    (tmp_path / LOCK_NAME).write_text("elsewhere 1 then\n")
    check_output(tmp_path, CONFIG, resume=False, overwrite=False)
    prepare_output(tmp_path, CONFIG, resume=False, overwrite=False)
    assert not list(tmp_path.iterdir())
