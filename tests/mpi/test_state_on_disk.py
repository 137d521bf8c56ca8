"""What clients carry on disk: the traces of runs that keep it in memory, on any ranks, after kills and resumes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from experiments import BASE, VARIANTS, assert_same_trace, write_config
from test_kill_and_resume import ENDS_WITHIN_S, LONG, rank_processes, wait_for_rounds

from fedmpi import trace

ON_DISK = "clients.state=disk"
METHODS = ("departures_prunefl_fab", "fedavg", "ogd_float16")


@pytest.fixture(scope="module")
def runs(launch_all, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each of METHODS: ``memory`` on one rank, ``disk`` on three, and ``pairs``.

    ``pairs`` is on disk too: as on three nodes, goes on as on two with other ranks on each, then on one.
    """
    folder = tmp_path_factory.mktemp("state")
    config = folder / "base.toml"
    config.write_text(BASE, encoding="utf-8")
    run = ["run", config, "experiment.evaluate_every=1"]  # the last round of a run is evaluated anyway

    def start(ranks: int, output: str, *more: str) -> None:
        into = ["--quiet", "--output"]
        launch_all(ranks, ([*run, *VARIANTS[m], *more, *into, folder / m / output] for m in METHODS))

    start(1, "memory")
    start(3, "disk", ON_DISK)
    pairs = ("pairs", ON_DISK, "experiment.checkpoint_every=1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDMPI_SHARED_MEMORY", "2")
        start(5, *pairs, "experiment.rounds=4")
        patch.setenv("FEDMPI_SHARED_MEMORY", "3")
        start(4, *pairs, "--resume", "experiment.rounds=5")
        start(1, *pairs, "--resume")
    return folder


@pytest.mark.parametrize("method", METHODS)
def test_memory_and_disk_give_the_same_trace(runs: Path, method: str) -> None:
    folder = runs / method
    assert_same_trace(folder / "memory", folder / "disk")
    assert_same_trace(folder / "memory", folder / "pairs", ("rounds", "clients", "layers"))
    assert not list((folder / "pairs").glob("checkpoint/*/clients-*"))


def test_kill_then_resume_sees_the_state_of_the_checkpoint(whole_run, launch, start, tmp_path: Path) -> None:
    config = write_config(tmp_path, "fab_fixed")
    whole = whole_run(config, *LONG)
    killed, elsewhere = tmp_path / "killed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    disk = [ON_DISK, f"clients.state_folder={elsewhere}"]
    slow = ["emulation.clock=realtime", "emulation.time_scale=1"]
    process = start(3, config, *LONG, *disk, *slow, "--output", killed)
    wait_for_rounds(process, killed, 13)  # three rounds have written since the last checkpoint
    os.kill(rank_processes(killed)[1], signal.SIGKILL)
    process.communicate(timeout=ENDS_WITHIN_S)
    assert process.returncode != 0
    resume = ["-m", "fedmpi", "run", config, *LONG, *disk, "--output", killed, "--resume"]
    newest = sorted((killed / "checkpoint").glob("round-????????"))[-1]
    shutil.rmtree(newest)  # the one before is as good
    launch(4, *resume, "--quiet")
    assert_same_trace(whole, killed)
    (folder,) = elsewhere.iterdir()
    folder.rename(tmp_path / "moved")
    done = launch(2, *resume, "experiment.rounds=50", check=False)
    assert done.returncode == 2
    assert f"{folder}: is not there; the state of clients lies in it" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    (tmp_path / "moved").rename(folder)
    again = [config, *LONG, *disk, "experiment.rounds=2", "--output", killed, "--overwrite", "--quiet"]
    launch(2, "-m", "fedmpi", "run", *again)
    assert [path.name for path in elsewhere.iterdir()] != [folder.name]


def test_damage_is_found_before_a_run_goes_on(whole_run, launch, tmp_path: Path) -> None:
    config = write_config(tmp_path, "fab_fixed")
    whole = whole_run(config, *LONG)
    run = ["-m", "fedmpi", "run", config, *LONG, ON_DISK, "--output", tmp_path / "damaged"]
    launch(2, *run, "experiment.rounds=16", "--quiet")
    rows = tmp_path / "damaged" / "client-state" / "accumulated-00000.rows"
    kept = rows.read_bytes()
    rows.write_bytes(kept[: len(kept) // 2])
    done = launch(2, *run, "--resume", check=False)
    assert done.returncode == 2
    assert "accumulated-00000.rows: ends within the row" in done.stderr
    rows.write_bytes(kept)
    launch(3, *run, "--resume", "--quiet")
    assert_same_trace(whole, tmp_path / "damaged")


FULL = """
import errno, os, sys
from fedmpi.cli.main import main

write = os.pwrite

def full(descriptor, data, start):
    if start and os.readlink(f"/proc/self/fd/{descriptor}").endswith(".rows"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return write(descriptor, data, start)

os.pwrite = full
sys.exit(main(sys.argv[1:]))
"""
"""A run on a disk that becomes full with the second row of a file."""


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_full_disk_ends_a_run_with_one_line(launch, tmp_path: Path, ranks: int) -> None:
    config = write_config(tmp_path, "fab_fixed")
    program = tmp_path / "full.py"
    program.write_text(FULL)
    run = ["run", config, ON_DISK, "--quiet", "--output", tmp_path / "run"]
    done = launch(ranks, program, *run, check=False)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("fedmpi:")]
    assert lines
    for line in lines:
        assert ".rows: No space left on device; " in line
        assert line.endswith(" bytes are free on its disk")
    assert "Traceback" not in done.stderr
    assert trace.read(tmp_path / "run").attributes["status"] == "failed"


def test_folders_that_cannot_be_used_are_refused(launch, tmp_path: Path) -> None:
    config = write_config(tmp_path, "fab_fixed")

    def refused(*overrides: str) -> str:
        run = [sys.executable, "-m", "fedmpi", "run", str(config), *overrides, "--output", tmp_path / "run"]
        done = subprocess.run(run, capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        return done.stderr

    said = refused(ON_DISK, f"clients.state_folder={tmp_path / 'none'}")
    assert "[clients] state_folder" in said
    assert "does not exist" in said
    assert 'with clients.state "memory"' in refused(f"clients.state_folder={tmp_path}")
    file = tmp_path / "file"
    file.touch()
    assert "cannot be made: Not a directory" in refused(ON_DISK, f"clients.state_folder={file}")
