"""Running small programs under mpiexec, always with a time limit.

``mpi``, ``launch`` and ``start`` use the MPI library of this interpreter. A test that is parametrized over ``mpi``
(``@both_mpis``) runs under Open MPI too.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pytest
from libraries import Launch, Mpi, launcher, open_mpi, this_mpi

from fedmpi.mpi.forkserver.stub import running_server


@pytest.fixture(scope="session")
def open_mpi_server() -> Iterator[str]:
    """The fork server of the Python with Open MPI."""
    python = str(open_mpi().python)
    with running_server(python, ["pandas"]) as name:
        yield name


@pytest.fixture(scope="session")
def mpi(request: pytest.FixtureRequest) -> Mpi:
    """This interpreter's MPI library ("mpich", the tested one), or "openmpi"."""
    if getattr(request, "param", "mpich") == "mpich":
        return this_mpi()
    return open_mpi(request.getfixturevalue("open_mpi_server"))


@pytest.fixture(scope="session")
def launch(mpi: Mpi) -> Launch:
    """``launch(ranks, *arguments)`` runs ``python ARGUMENTS`` on so many ranks and returns the completed process."""
    return launcher(mpi)


@pytest.fixture(scope="session")
def launch_all(
    launch: Launch, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int, Iterable[Sequence[str | Path]]], None]:
    """``launch_all(ranks, commands)`` runs ``fedmpi COMMAND`` for each, all on the same ranks, which start once.

    Models of this folder are found.
    """
    folder = tmp_path_factory.mktemp("commands")
    program = Path(__file__).with_name("programs_runs.py")

    def run(ranks: int, commands: Iterable[Sequence[str | Path]]) -> None:
        path = folder / "commands.json"
        path.write_text(json.dumps([[str(word) for word in command] for command in commands]))
        launch(ranks, program, path, python_path=program.parent)

    return run


@pytest.fixture(scope="session")
def whole_run(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Callable[..., Path]:
    """``whole_run(config, *overrides)``: the folder of that run on one rank, from its start to its end.

    It is made once for all tests, which may only read it.
    """

    def folder_of(config: Path, *overrides: str) -> Path:
        key = "\n".join([config.read_text(), *overrides])

        def run(folder: Path) -> None:
            output = ["--output", folder / "run", "--quiet"]
            launcher(this_mpi())(1, "-m", "fedmpi", "run", config, *overrides, *output)

        return made_once(f"whole-{hashlib.sha256(key.encode()).hexdigest()[:16]}", run) / "run"

    return folder_of


@pytest.fixture
def start(mpi: Mpi) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """``start(ranks, *arguments)`` starts a run that is killed at the end of the test if it is still there."""
    running: list[subprocess.Popen[str]] = []

    def begin(ranks: int, *arguments: str | Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            mpi.command(ranks, "-m", "fedmpi", "run", *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=mpi.environment(),
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        with process:
            process.kill()
