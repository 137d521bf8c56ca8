"""A forked process is what its stub was, and both end alike."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from libraries import Mpi, both_mpis

from fedmpi.mpi.forkserver import stub
from fedmpi.mpi.forkserver.process import process_state
from fedmpi.mpi.forkserver.stub import running_server

PROGRAM = Path(__file__).with_name("programs_forkserver.py")
COMMAND = [sys.executable, "-m", "fedmpi.mpi.forkserver", str(PROGRAM)]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")


@pytest.fixture(scope="module")
def named() -> str:
    return os.environ[stub.VARIABLE]


@pytest.fixture
def start(named: str, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    running: list[subprocess.Popen[str]] = []

    def begin(*arguments: str | Path, server: str = named, **how: object) -> subprocess.Popen[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", stub.VARIABLE: server}
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=tmp_path,
            **how,  # type: ignore[call-overload]
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        with process:
            process.kill()


def waiting(path: Path) -> int:
    """The process that wrote to ``path`` and waits now."""
    waits = path.with_suffix(".waits")
    end_s = time.monotonic() + 60
    while not (waits.exists() and waits.read_text()):
        assert time.monotonic() < end_s
        time.sleep(0.02)
    return int(waits.read_text())


def gone(process: int) -> None:
    end_s = time.monotonic() + 30
    while process_state(process) not in ("", "Z"):
        assert time.monotonic() < end_s
        time.sleep(0.02)


def peculiar() -> None:
    """A process as the one of a launcher might be: ignored signals, other limits, mask, niceness and files."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.umask(0o027)
    os.nice(3)
    os.dup2(os.open("/dev/null", os.O_RDONLY), 17, inheritable=True)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))
    resource.setrlimit(resource.RLIMIT_STACK, (4 << 20, 8 << 20))


@pytest.mark.parametrize("prepare", [None, peculiar])
def test_a_forked_process_is_what_its_stub_was(
    start: Callable, named: str, tmp_path: Path, prepare: Callable[[], None] | None
) -> None:
    found = {}
    for server in ("off", named):
        process = start("out.json", server=server, preexec_fn=prepare)
        out, error = process.communicate(timeout=60)
        assert process.returncode == 0, out + error
        found[server] = json.loads((tmp_path / "out.json").read_text())
        assert found[server].pop("launched") == process.pid
    plain, forked = found["off"], found[named]
    assert not plain.pop("forked")
    assert forked.pop("forked")
    assert plain["environment"].pop(stub.VARIABLE) == "off"
    assert forked["environment"].pop(stub.VARIABLE) == named
    assert forked == plain
    assert plain["arguments"] == [str(PROGRAM), "out.json"]


def test_a_program_that_has_imported_scikit_learn_has_its_runs_forked(
    start: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(os.environ)
    code = "import os; before = set(os.environ); import sklearn; print(*set(os.environ) - before)"
    bare = {name: text for name, text in os.environ.items() if not name.startswith("KMP_")}
    said = subprocess.run([sys.executable, "-c", code], env=bare, check=True, capture_output=True, text=True)
    for name in said.stdout.split():
        monkeypatch.setenv(name, "1")
    assert set(os.environ) - before <= set(said.stdout.split()) != set()
    assert start("out.json").wait(60) == 0
    assert json.loads((tmp_path / "out.json").read_text())["forked"]


def test_closed_streams_stay_closed(start: Callable, tmp_path: Path) -> None:
    process = start("out.json", preexec_fn=lambda: (os.close(0), os.close(2)))
    assert process.wait(60) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["forked"]
    assert [stream is None for stream in found["streams"]] == [True, False, True]


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [("0", 0, ""), ("7", 7, ""), ("words", 1, "words\n"), ("signal15", -15, ""), ("signal9", -9, "")],
)
def test_the_stub_ends_as_the_process_ended(start: Callable, how: str, code: int, said: str) -> None:
    process = start("out.json", how)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (code, said)


def test_a_process_of_another_session_may_end_its_group(start: Callable, tmp_path: Path) -> None:
    with running_server(sys.executable) as server:
        process = start("out.json", "group", server=server, start_new_session=True)
        assert process.wait(60) == -signal.SIGKILL
        assert start("next.json", server=server).wait(60) == 0
    assert json.loads((tmp_path / "next.json").read_text())["forked"]


def test_a_signal_reaches_the_process(start: Callable, tmp_path: Path) -> None:
    process = start("out.json", "wait")
    waiting(tmp_path / "out.json")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 5


def test_a_killed_stub_takes_the_process_along(start: Callable, tmp_path: Path) -> None:
    process = start("out.json", "wait")
    forked = waiting(tmp_path / "out.json")
    assert forked != process.pid
    process.kill()
    gone(forked)


def test_a_stopped_stub_stops_the_process_until_it_goes_on(start: Callable, tmp_path: Path) -> None:
    process = start("out.json", "wait")
    forked = waiting(tmp_path / "out.json")
    end_s = time.monotonic() + 30
    for number, states in ((signal.SIGSTOP, "T"), (signal.SIGCONT, "SR")):
        process.send_signal(number)
        while process_state(forked) not in states:
            assert time.monotonic() < end_s
            time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 5


def test_a_process_started_otherwise_is_not_forked(start: Callable, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run([*COMMAND, "out.json"], env=environment, cwd=tmp_path, timeout=60, check=True)
    assert done.returncode == 0
    assert not json.loads((tmp_path / "out.json").read_text())["forked"]


def test_without_the_server_a_process_goes_on_itself(start: Callable, tmp_path: Path) -> None:
    process = start("out.json", "3", server="fedmpi-nobody")
    assert process.wait(60) == 3
    assert not json.loads((tmp_path / "out.json").read_text())["forked"]


def test_a_server_that_is_killed_takes_its_processes_along(tmp_path: Path) -> None:
    with stub._start_server("\0fedmpi-test-killed", 0) as server:
        process = subprocess.Popen(
            [*COMMAND, "out.json", "wait"],
            env={**os.environ, "OMP_NUM_THREADS": "1", stub.VARIABLE: "fedmpi-test-killed"},
            cwd=tmp_path,
        )
        with process:
            forked = waiting(tmp_path / "out.json")
            server.kill()
            gone(forked)
            assert process.wait(30) == -signal.SIGKILL


@both_mpis
@pytest.mark.parametrize("ranks", [2, 3])
def test_the_ranks_of_a_node_are_forked_from_a_server_of_their_own(
    mpi: Mpi, tmp_path: Path, ranks: int
) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys\n"
        "from fedmpi.mpi.forkserver.process import is_forked\n"
        "from fedmpi.mpi.library import MPI\n"
        "parents = MPI.COMM_WORLD.allgather(os.getppid())\n"
        "ranks = MPI.COMM_WORLD.allgather(MPI.COMM_WORLD.rank)\n"
        "out = f'{is_forked()} {len(set(parents))} {ranks}'\n"
        "open(f'{sys.argv[1]}.{MPI.COMM_WORLD.rank}', 'w').write(out)\n"
    )
    own = {**mpi.environment(), stub.VARIABLE: ""}
    subprocess.run(
        mpi.command(ranks, program, tmp_path / "out"), env=own, check=True, timeout=120, cwd=tmp_path
    )
    for rank in range(ranks):
        assert (tmp_path / f"out.{rank}").read_text() == f"True 1 {list(range(ranks))}"
    end_s = time.monotonic() + 30
    while any(_serves_from(path, tmp_path) for path in Path("/proc").glob("[0-9]*")):
        assert time.monotonic() < end_s, "the server does not end with its processes"
        time.sleep(0.1)


def _serves_from(process: Path, folder: Path) -> bool:
    try:
        return b"forkserver.server" in (process / "cmdline").read_bytes() and Path(
            os.readlink(process / "cwd")
        ) == Path(folder)
    except OSError:
        return False


def test_what_is_imported_for_all_ranks_does_not_initialize_mpi() -> None:
    """Each process has to do that for itself; one that inherits it fails at its end or earlier."""
    program = (
        "import importlib, sys; from fedmpi.mpi.forkserver.server import _PRELOADED\n"
        "for name in _PRELOADED: importlib.import_module(name); assert 'mpi4py.MPI' not in sys.modules, name"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
