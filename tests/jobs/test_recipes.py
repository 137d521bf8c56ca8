"""The recipes in jobs/ can be parsed, and list the dependencies and the version of setup.py."""

from __future__ import annotations

import ast
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import setuptools

import fedmpi

PROJECT = Path(__file__).resolve().parents[2]
JOBS = PROJECT / "jobs"
SECTIONS = {"files", "post", "environment", "runscript", "test", "labels", "help"}
SETTINGS = """
site_configuration = {
    "systems": [{"name": "here", "hostnames": [".*"], "partitions": [
        {"name": "cores", "scheduler": "local", "launcher": "mpiexec", "environs": ["plain"]}]}],
    "environments": [{"name": "plain"}],
}
"""


@pytest.fixture(scope="module")
def setup() -> dict[str, Any]:
    """What setup.py calls ``setuptools.setup`` with."""
    given: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", lambda **arguments: given.update(arguments))
        runpy.run_path(str(PROJECT / "setup.py"))
    return given


def ranges(requirements: list[str]) -> dict[str, str]:
    """Least versions by name, of requirements as ``name>=version`` with what may follow."""
    found = (re.match(r"([\w-]+)>=([\d.]+)", text) for text in requirements)
    return {match[1]: match[2] for match in found if match}


def test_conda_has_the_dependencies_of_setup(setup: dict[str, Any]) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed; it comes with the extra docs")
    environment = yaml.safe_load((JOBS / "environment.yml").read_text())
    assert set(environment) == {"name", "channels", "dependencies"}
    listed = ranges(environment["dependencies"])
    renamed = {"torch": "pytorch-cpu", "matplotlib": "matplotlib-base"}
    wanted = ranges([*setup["install_requires"], *setup["extras_require"]["mpi"]])
    wanted |= ranges(setup["extras_require"]["analysis"]) | {"setuptools": "68"}
    wanted["python"] = setup["python_requires"].removeprefix(">=")
    assert listed == {renamed.get(name, name): version for name, version in wanted.items()}
    assert set(environment["dependencies"]) - {f"{name}>={version}" for name, version in listed.items()} == {
        "pip"
    }


def test_spack_has_the_dependencies_of_setup(setup: dict[str, Any]) -> None:
    tree = ast.parse((JOBS / "spack" / "packages" / "py-fedmpi" / "package.py").read_text())
    (package,) = (node for node in tree.body if isinstance(node, ast.ClassDef))
    assert package.name == "PyFedmpi"
    calls: dict[str, list[ast.Call]] = {}
    for node in package.body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            assert isinstance(node.value.func, ast.Name)
            calls.setdefault(node.value.func.id, []).append(node.value)
    found: dict[str, str] = {}
    for call in calls["depends_on"]:
        name, _, version = ast.literal_eval(call.args[0]).partition("@")
        when = [ast.literal_eval(word.value) for word in call.keywords if word.arg == "when"]
        assert when == (["+analysis"] if name in ("py-matplotlib", "py-plotly") else [])
        found[name] = version.removesuffix(":")
    wanted = ranges([*setup["install_requires"], *setup["extras_require"]["analysis"]])
    own = {
        "mpi": "",
        "python": setup["python_requires"].removeprefix(">="),
        "py-setuptools": "68",
    }
    assert found == {f"py-{name}": version for name, version in wanted.items()} | own
    assert [ast.literal_eval(call.args[0]) for call in calls["version"]] == [fedmpi.__version__]
    assert (JOBS / "spack" / "repo.yaml").read_text().startswith("repo:\n  namespace: ")


def test_the_apptainer_recipe_is_sound() -> None:
    header, *sections = re.split(r"^%", (JOBS / "fedmpi.def").read_text(), flags=re.MULTILINE)
    lines = [line for line in header.splitlines() if line and not line.startswith("#")]
    assert [line.split(": ")[0] for line in lines] == ["Bootstrap", "From"]
    bodies = dict(section.split("\n", 1) for section in sections)
    assert set(bodies) == SECTIONS
    for line in bodies["files"].split("\n"):
        if line.strip():
            source, target = line.split()
            assert (PROJECT / source).exists()
            assert target == f"/opt/fedmpi/{source}"
    for name in ("post", "environment", "runscript", "test"):
        done = subprocess.run(["sh", "-n", "-c", bodies[name]], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
    assert f"image.version {fedmpi.__version__}\n" in bodies["labels"]


def test_what_the_container_is_made_of_is_all_that_setup_needs(tmp_path: Path) -> None:
    """setup.py reads README.md and the version, beside what becomes of LICENSE and pyproject.toml."""
    recipe = (JOBS / "fedmpi.def").read_text()
    for source in re.findall(r"^ +(\S+) /opt/fedmpi/", recipe, re.MULTILINE):
        place = PROJECT / source
        if place.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(place, tmp_path / source, ignore=ignored)
        else:
            shutil.copy(place, tmp_path / source)
    command = [sys.executable, "setup.py", "--quiet", "--name", "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["fedmpi", fedmpi.__version__], done.stderr


def test_the_reframe_check_is_known_to_reframe(tmp_path: Path) -> None:
    """Where ReFrame is installed it lists the check on 1, 3 and 9 ranks; else the file is sound Python."""
    check = JOBS / "reframe_fedmpi.py"
    (test,) = (node for node in ast.parse(check.read_text()).body if isinstance(node, ast.ClassDef))
    assert test.name == "fedmpi_quickstart"
    reframe = shutil.which("reframe")
    if reframe is None:
        pytest.skip(
            "ReFrame is not installed (pip install reframe-hpc): its check was parsed, but not listed"
        )
    (tmp_path / "settings.py").write_text(SETTINGS)
    command = [reframe, "-C", "settings.py", "-c", str(check), "--list"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    for ranks in (1, 3, 9):
        assert f"fedmpi_quickstart %ranks={ranks}" in done.stdout


def test_what_ranks_do_in_mpi_can_be_profiled(tmp_path: Path) -> None:
    """As docs/clusters.md shows it; every rank takes part in every collective."""
    compiler = Path(sys.executable).with_name("mpicc")
    if not compiler.exists() or shutil.which("cc") is None:
        pytest.skip("no C compiler, or the MPI library of this Python brings no mpicc")
    library = tmp_path / "profile_mpi.so"
    command = [compiler, "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, JOBS / "profile_mpi.c"]
    subprocess.run(command, check=True, timeout=120)
    run = [sys.executable, "-m", "fedmpi", "run", "quickstart", "experiment.rounds=2", "--quiet"]
    done = subprocess.run(
        [*run, "--ranks", "2", "--output", tmp_path / "run"],
        env={**os.environ, "LD_PRELOAD": str(library), "FEDMPI_FORKSERVER": "off"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    for function in ("MPI_Ibcast", "MPI_Igatherv"):
        calls = re.findall(rf"rank (\d): {function}: (\d+) calls, (\d+) bytes", done.stderr)
        assert sorted(rank for rank, _, _ in calls) == ["0", "1"], done.stderr
        assert len({count for _, count, _ in calls}) == 1
        assert all(int(count) > 0 and int(size) > 0 for _, count, size in calls)


def test_one_version_everywhere() -> None:
    version = fedmpi.__version__
    assert re.search(
        rf"^version: {re.escape(version)}$", (PROJECT / "CITATION.cff").read_text(), re.MULTILINE
    )
    first = next(
        line for line in (PROJECT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")
    )
    assert re.fullmatch(rf"## {re.escape(version)}( \(.+\))?", first)
