"""What is recorded of one run of a sweep, whichever way it ends."""

import sys

import pytest

from fedmpi.cli.recorded_run import reason_in, recorded, save
from fedmpi.config import ConfigError
from fedmpi.sweeps import read_outcome

LAUNCH_VARIABLES = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK", "PMIX_RANK")


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in LAUNCH_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def ending(code, said=""):
    def run():
        print(said, file=sys.stderr)
        return code

    return run


def exit_code(error):
    return 2 if isinstance(error, ConfigError) else None


@pytest.mark.parametrize(
    ("code", "said", "reason"),
    [
        (0, "fedmpi: warning: slow", ""),
        (75, "fedmpi: stopped with a checkpoint", ""),
        (2, "fedmpi: data: no such file", "data: no such file"),
        (1, "", ""),
        (1, "a\nb", "b"),
    ],
)
def test_an_exit_code_and_what_was_said_of_it(tmp_path, capsys, code, said, reason):
    assert recorded(tmp_path, "a", ending(code, said), exit_code) == code
    outcome = read_outcome(tmp_path, "a")
    assert (outcome.exit_code, outcome.reason) == (code, reason)
    assert capsys.readouterr().err == said + "\n"


def test_a_run_is_recorded_from_its_start(tmp_path):
    def run():
        outcome = read_outcome(tmp_path, "a")
        assert (outcome.exit_code, outcome.ended, outcome.lost()) == (None, None, False)
        return 0

    recorded(tmp_path, "a", run, exit_code)


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (ConfigError("k", "found 0", "1"), 2, str(ConfigError("k", "found 0", "1"))),
        (RuntimeError("no\n  luck"), 1, "RuntimeError: no luck"),
        (KeyboardInterrupt(), 1, "KeyboardInterrupt"),
    ],
)
def test_an_error_is_recorded_and_raised_again(tmp_path, error, code, reason):
    def run():
        raise error

    before = sys.stderr
    with pytest.raises(type(error)) as raised:
        recorded(tmp_path, "a", run, exit_code)
    assert raised.value is error
    outcome = read_outcome(tmp_path, "a")
    assert (outcome.exit_code, outcome.reason) == (code, reason)
    assert sys.stderr is before


def test_rank_0_alone_records(tmp_path, monkeypatch):
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setenv("PMI_RANK", "1")
    assert recorded(tmp_path, "a", ending(3), exit_code) == 3
    assert read_outcome(tmp_path, "a") is None


def test_a_disk_that_takes_no_record_ends_nothing(tmp_path, capsys):
    (tmp_path / "logs").write_text("a file")
    assert recorded(tmp_path, "a", ending(0), exit_code) == 0
    warnings = capsys.readouterr().err.split("fedmpi: warning: what became of run a is not recorded: ")
    assert len(warnings) == 3

    def full(study, name):
        raise OSError("disk full")

    save(full, tmp_path, "b")
    assert "of run b is not recorded: disk full" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("", ""),
        (" \n", ""),
        (
            "Traceback (most recent call last):\nsrun: Job step aborted\n  File x\nValueError: no\nsrun: Killed",
            "ValueError: no",
        ),
        (
            "slurmstepd-vm: error: *** STEP\nsrun: error: vm: tasks 0-1: Killed\n",
            "srun: error: vm: tasks 0-1: Killed",
        ),
        (
            "fedmpi: rank 1 failed:\nTraceback (most recent call last):\n  File x\nValueError: no\n",
            "ValueError: no",
        ),
    ],
)
def test_the_reason_is_taken_from_what_was_printed(said, reason):
    assert reason_in(said) == reason
