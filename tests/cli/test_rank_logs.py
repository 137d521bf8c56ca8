"""One log per rank: what is in it, that nothing else changes, and what is said where there cannot be one."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedmpi.cli.output import check_output
from fedmpi.cli.rank_logs import RankLog, holds_logs_alone
from fedmpi.config import Config, ConfigError
from fedmpi.config.errors import BAD_CONFIGURATION, FAILED
from fedmpi.experiment.progress import TERMINAL_VARIABLE

LAUNCHERS = ("PMI_", "PMIX_", "OMPI_", "MV2_", "SLURM_")


@pytest.fixture(autouse=True)
def rank_3(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(LAUNCHERS):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PMI_SIZE", "4")
    monkeypatch.setenv("PMI_RANK", "3")


def around(folder: Path, code: int = 0) -> int:
    def run() -> int:
        print("to stdout")
        print("to stderr", file=sys.stderr)
        return code

    return RankLog(folder).around(["run", "a file.toml"], run)


def test_what_is_printed_is_in_both_places(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert around(tmp_path / "logs", 75) == 75
    assert capsys.readouterr() == ("to stdout\n", "to stderr\n")
    (log,) = (tmp_path / "logs").iterdir()
    assert log.name == "rank-3.log"
    begin, *printed, end = log.read_text().splitlines()
    assert f"process {os.getpid()}," in begin
    assert begin.endswith("fedmpi run 'a file.toml'")
    assert printed == ["to stdout", "to stderr"]
    assert end.endswith("rank 3: ended with exit code 75")


def test_a_resumed_run_goes_on_in_the_same_log(tmp_path: Path) -> None:
    around(tmp_path)
    around(tmp_path)
    assert (tmp_path / "rank-3.log").read_text().count("ended with exit code 0") == 2


def test_the_streams_are_as_before_afterwards(tmp_path: Path) -> None:
    before = sys.stdout, sys.stderr
    around(tmp_path)
    assert (sys.stdout, sys.stderr) == before


def test_an_error_that_nobody_expected_is_in_the_log(tmp_path: Path) -> None:
    def run() -> int:
        raise ZeroDivisionError("of clients")

    with pytest.raises(ZeroDivisionError):
        RankLog(tmp_path).around([], run)
    text = (tmp_path / "rank-3.log").read_text()
    assert "ZeroDivisionError: of clients" in text
    assert "ended with" not in text


def test_a_terminal_gets_a_log_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv(TERMINAL_VARIABLE, "80")
    seen = []

    def run() -> int:
        seen.append((sys.stdout.isatty(), TERMINAL_VARIABLE in os.environ))
        return 0

    RankLog(tmp_path).around([], run)
    assert seen == [(False, False)]


@pytest.mark.parametrize(("code", "warnings"), [(0, 1), (FAILED, 1), (BAD_CONFIGURATION, 0)])
def test_a_rank_without_a_log_runs_and_says_so_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], code: int, warnings: int
) -> None:
    """Rank 0 refuses a folder that nobody can write; then the others have nothing to add."""
    (tmp_path / "file").touch()
    assert around(tmp_path / "file", code) == code
    assert capsys.readouterr().err.count("fedmpi: warning: rank 3 kept no log: ") == warnings
    with pytest.raises(ConfigError, match=r"--log-per-rank: .*rank-3.log cannot be written"):
        RankLog(tmp_path / "file").check()
    RankLog(tmp_path / "folder").check()


def test_a_run_folder_may_hold_its_logs_before_the_run(tmp_path: Path) -> None:
    around(tmp_path / "logs")
    assert holds_logs_alone(tmp_path / "logs")
    check_output(tmp_path, Config(), resume=False, overwrite=False)
    (tmp_path / "logs" / "rank-x.log").touch()
    assert not holds_logs_alone(tmp_path / "logs")
    with pytest.raises(ConfigError, match="holds other files and no run"):
        check_output(tmp_path, Config(), resume=False, overwrite=False)


def test_a_run_on_two_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PMI_SIZE", "PMI_RANK"):
        monkeypatch.delenv(name)
    command = [sys.executable, "-m", "fedmpi", "run", "quickstart", "experiment.rounds=2", "--ranks", "2"]
    options = ["--output", tmp_path / "run", "--log-per-rank", tmp_path / "run" / "logs"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    server, clients = (path.read_text() for path in sorted((tmp_path / "run" / "logs").iterdir()))
    for line in done.stdout.splitlines():
        assert line in server
    assert "round 2/2" in server
    assert "round 2/2" not in clients
    assert server.rstrip().endswith("rank 0: ended with exit code 0")
    assert clients.rstrip().endswith("rank 1: ended with exit code 0")
