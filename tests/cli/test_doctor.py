import sys

import pytest

from fedmpi.cli import doctor
from fedmpi.cli import main as cli
from fedmpi.cli.doctor import Finding


def wrong(findings: list[Finding]) -> list[str]:
    return [finding.wrong for finding in findings if finding.wrong]


def test_all_is_well_exits_with_0(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "_EXAMINATIONS", (lambda: [Finding("MPI", "some library")],))
    assert cli.main(["doctor"]) == 0
    assert capsys.readouterr().out == "MPI         some library\n\nall is well\n"


def test_what_is_wrong_is_listed_with_what_to_do_and_exits_with_1(monkeypatch, capsys):
    examinations = (lambda: [Finding("MPI", "some library")], lambda: [Finding("disk", "full", "empty it")])
    monkeypatch.setattr(doctor, "_EXAMINATIONS", examinations)
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().out.endswith("\nwhat is wrong:\n- disk: empty it\n")


def test_python_and_machine_are_described():
    for examine in (doctor._python, doctor._machine):
        findings = examine()
        assert findings
        assert all(finding.text for finding in findings)


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("print('noise'); print('[1, 2]')", [1, 2]),
        ("import sys; sys.exit('it broke')", "exit code 1: it broke"),
        ("import os; os.abort()", "exit code -6: no message"),
    ],
)
def test_a_question_that_crashes_is_answered_with_the_reason(code, answer):
    assert doctor._ask_python(code) == answer


def test_a_question_that_hangs_is_answered_too(monkeypatch):
    monkeypatch.setattr(doctor, "_TIMEOUT_S", 0.5)
    assert doctor._ask_python("import time; time.sleep(600)") == "no answer in 0.5 s"


def test_a_broken_mpi_is_reported(monkeypatch):
    monkeypatch.setattr(doctor, "_ask_python", lambda code: "exit code 1: libmpi.so: cannot open")
    (finding,) = doctor._mpi()
    assert finding.wrong.startswith("exit code 1: libmpi.so: cannot open; install one that works")


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo size 2; echo size 2", ""),
        ("echo 'size size 22'; exit 0", "mpiexec -n 2 failed, exit code 0"),
        ("echo size 1; echo size 1", "it belongs to another MPI library than mpi4py uses"),
        ("echo no slots >&2; exit 5", "mpiexec -n 2 failed, exit code 5: no slots"),
        ("sleep 600", "mpiexec -n 2 failed, did not end in 1 s"),
    ],
)
def test_the_launcher_is_tried(script, told, tmp_path, monkeypatch):
    for name in ("PMI_SIZE", "PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_ID"):
        monkeypatch.delenv(name, raising=False)
    mpiexec = tmp_path / "mpiexec"
    mpiexec.write_text(f'#!/bin/bash\nif [ "$1" = --version ]; then exit 0; fi\n{script}\n')
    mpiexec.chmod(0o755)
    monkeypatch.setattr(doctor, "find_mpiexec", lambda: mpiexec)
    monkeypatch.setattr(doctor, "_TIMEOUT_S", 1.0 if script == "sleep 600" else 60.0)
    found = wrong(doctor._launcher())
    assert (told in found[0]) if told else not found


def test_no_launcher_is_told(monkeypatch):
    monkeypatch.setattr(doctor, "find_mpiexec", lambda: None)
    assert wrong(doctor._launcher()) == ["install an MPI with its mpiexec, or start runs with srun"]


@pytest.mark.parametrize(
    ("script", "job", "told"), [("echo slurm 23", "7", False), ("exit 1", "7", True), ("exit 1", "", False)]
)
def test_a_srun_that_does_not_work_is_wrong_inside_of_a_job(script, job, told, tmp_path, monkeypatch):
    srun = tmp_path / "srun"
    srun.write_text(f"#!/bin/bash\n{script}\n")
    srun.chmod(0o755)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: str(srun))
    monkeypatch.setenv("SLURM_JOB_ID", job)
    assert bool(wrong(doctor._slurm())) == told


def test_hdf5_is_tried_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (finding,) = doctor._hdf5()
    assert not finding.wrong
    assert "h5py" in finding.text
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(sys, "executable", "/no-such-python")
    (finding,) = doctor._hdf5()
    assert "cannot be started" in finding.wrong


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", "all ranks of a node share theirs (FEDMPI_SHARED_MEMORY not set)"),
        ("0", "every rank has its own (FEDMPI_SHARED_MEMORY 0)"),
        ("4", "at most 4 ranks of a node share theirs (FEDMPI_SHARED_MEMORY 4)"),
    ],
)
def test_who_shares_memory_is_told(value, text, monkeypatch):
    monkeypatch.setenv("FEDMPI_SHARED_MEMORY", value)
    assert doctor._sharing() == [Finding("memory", text)]


def test_a_wrong_switch_of_shared_memory_is_told(monkeypatch):
    monkeypatch.setenv("FEDMPI_SHARED_MEMORY", "off")
    assert wrong(doctor._sharing())[0].startswith("FEDMPI_SHARED_MEMORY: found 'off'; allowed: 0 ")
