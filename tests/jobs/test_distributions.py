"""What users install: the wheel holds the whole package, and is enough to run; the source archive gives that wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import fedmpi

PROJECT = Path(__file__).resolve().parents[2]
SOURCES = [
    "setup.py",
    "pyproject.toml",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "CITATION.cff",
    "constraints.txt",
]
NAME = f"fedmpi-{fedmpi.__version__}"
PACKAGE = {
    path.relative_to(PROJECT).as_posix()
    for path in (PROJECT / "fedmpi").rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
}


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive and the wheel that was built from it, away from the project."""
    folder = tmp_path_factory.mktemp("build")
    for name in SOURCES:
        shutil.copy(PROJECT / name, folder / name)
    shutil.copytree(PROJECT / "fedmpi", folder / "fedmpi", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-P", "-m", "build", "--no-isolation", "--outdir", folder / "dist", folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "dist"


def test_the_wheel_holds_the_whole_package(archives: Path) -> None:
    """Presets, studies, tables of devices and the mark of types too; nothing of the rest of the project."""
    with zipfile.ZipFile(archives / f"{NAME}-py3-none-any.whl") as wheel:
        found = set(wheel.namelist())
    metadata = {name for name in found if name.startswith(f"{NAME}.dist-info/")}
    assert found - metadata == PACKAGE
    assert any(name.endswith("/LICENSE") for name in metadata)


def test_the_source_archive_holds_what_the_wheel_is_made_of(archives: Path) -> None:
    with tarfile.open(archives / f"{NAME}.tar.gz") as archive:
        found = {name.removeprefix(f"{NAME}/") for name in archive.getnames()}
    assert found >= {*SOURCES, *PACKAGE}
    assert not {name.partition("/")[0] for name in found} & {"tests", "benchmarks", "runs", ".git"}


def test_the_quickstart_runs_from_the_wheel_alone(archives: Path, tmp_path: Path) -> None:
    """Installed beside nothing of the project, with what it depends on from this environment."""
    site = tmp_path / "site"
    wheel = archives / f"{NAME}-py3-none-any.whl"
    install = [sys.executable, "-P", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "--no-deps", "--no-index", "--target", site, wheel], check=True, timeout=240)
    # Without launchers, and without the fork server of these tests, which has the project's fedmpi.
    around = ("PMI", "SLURM_", "FEDMPI_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(around)}
    environment = {**kept, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}

    def python(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-P", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert python("-c", "import fedmpi; print(fedmpi.__file__)").startswith(str(site))
    assert python("-m", "fedmpi", "--version").split() == ["fedmpi", fedmpi.__version__]
    assert "quickstart" in python("-m", "fedmpi", "presets")
    assert "fab-study" in python("-m", "fedmpi", "sweep")
    assert "raspberry-pi-3" in python("-m", "fedmpi", "devices")
    command = ["run", "quickstart", "experiment.rounds=3", "--ranks", "3", "--output", "run"]
    assert "completed (all 3 rounds done)" in python("-m", "fedmpi", *command)
    assert "quickstart" in python("-m", "fedmpi", "summarize", "run")
    axes = ["--x", "time", "--y", "accuracy", "--x", "round", "--y", "k"]
    python("-m", "fedmpi", "plot", "run", *axes, "--output", "quickstart.png")
    assert (tmp_path / "quickstart.png").stat().st_size > 10_000
    code = "import fedmpi; print(fedmpi.read_trace('run').attributes['ranks'])"
    assert python("-c", code).split() == ["3"]
