import os
import signal
from pathlib import Path

import pytest

from fedmpi.cli.process_pool import Pool, Program


def program(tmp_path, name, script):
    return Program(name, ["bash", "-c", script], tmp_path / "logs" / f"{name}.log")


def run(programs, jobs=2, on_start=lambda program: None):
    ended = {}
    with Pool(jobs, signal.SIGTERM, os.environ) as pool:
        pool.run(programs, on_start, lambda program, code: ended.__setitem__(program.name, code))
    return ended, pool.interrupted


def test_all_are_run_with_their_exit_codes_and_logs(tmp_path):
    programs = [program(tmp_path, str(code), f"echo said {code}; exit {code}") for code in (0, 1, 75)]
    assert run(programs) == ({"0": 0, "1": 1, "75": 75}, False)
    assert (tmp_path / "logs" / "75.log").read_text() == "said 75\n"
    run(programs)
    assert (tmp_path / "logs" / "75.log").read_text() == "said 75\nsaid 75\n"


def test_no_more_than_jobs_at_once(tmp_path):
    """Each program takes one of as many places as there are jobs, and says so when it finds none free."""
    script = (
        f"cd {tmp_path}; mkdir place-1 2>/dev/null && at=place-1 || {{ mkdir place-2 2>/dev/null && at=place-2; }}"
        " || exit 9; sleep 0.2; rmdir $at"
    )
    ended, _ = run([program(tmp_path, str(number), script) for number in range(5)])
    assert ended == dict.fromkeys(map(str, range(5)), 0)


def test_the_first_signal_is_passed_on_and_nothing_more_is_started(tmp_path):
    ready = tmp_path / "ready"
    patient = f"trap 'exit 75' TERM; touch {ready}; while :; do sleep 0.05; done"
    interrupter = f"while [ ! -e {ready} ]; do sleep 0.05; done; kill -USR2 {os.getpid()}; sleep 600"
    programs = [
        program(tmp_path, "patient", patient),
        program(tmp_path, "interrupter", interrupter),
        program(tmp_path, "waiting", "true"),
    ]
    before = signal.getsignal(signal.SIGTERM)
    ended, interrupted = run(programs)
    assert interrupted
    assert ended == {"patient": 75, "interrupter": -signal.SIGTERM}
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_that_insists_kills_them_with_all_that_they_started(tmp_path):
    stubborn = f"""
        trap : TERM
        sleep 600 & echo $! >{tmp_path}/child
        kill -TERM {os.getpid()}; sleep 3; kill -INT {os.getpid()}
        while :; do wait; done
    """
    ended, interrupted = run([program(tmp_path, "stubborn", stubborn)])
    assert interrupted
    assert ended == {"stubborn": -signal.SIGKILL}
    child = Path("/proc") / (tmp_path / "child").read_text().strip() / "stat"
    assert not child.exists() or child.read_text().rpartition(")")[2].split()[0] == "Z"


def test_nothing_stays_behind_after_an_error(tmp_path):
    def fail_at_second(program):
        if program.name == "second":
            raise RuntimeError("no")

    endless = [program(tmp_path, name, "exec sleep 600") for name in ("first", "second")]
    pool = Pool(2, signal.SIGTERM, os.environ)
    with pytest.raises(RuntimeError, match="no"), pool:
        pool.run(endless, fail_at_second, lambda program, code: None)
    (first,) = pool._running.values()
    assert first.returncode == -signal.SIGKILL


def test_a_program_that_does_not_exist(tmp_path):
    with pytest.raises(FileNotFoundError):
        run([Program("none", ["/no-such-program"], tmp_path / "log")])


def test_programs_are_out_of_reach_of_the_terminal(tmp_path):
    """Ctrl-C is for this process alone: every program is the leader of a session of its own."""
    run([program(tmp_path, "session", "ps -o sid= -p $$; echo $$")])
    session, own = (tmp_path / "logs" / "session.log").read_text().split()
    assert session == own
