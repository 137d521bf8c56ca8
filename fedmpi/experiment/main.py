"""The entry of a run on every rank: start together, fail together, end with one exit code."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from fedmpi.checkpoint import Checkpoint, CheckpointError
from fedmpi.config import Config, ConfigError, dumps, loads
from fedmpi.config.errors import BAD_CONFIGURATION, FAILED, PREEMPTED, one_line
from fedmpi.config.guarding import PartError
from fedmpi.emulation.clock import Clock, VirtualClock, make_clock
from fedmpi.emulation.errors import EmulationError
from fedmpi.experiment import checkpointing
from fedmpi.experiment.assembly import Run, assemble
from fedmpi.experiment.description import estimated_steps, header, unknown_energy, varying
from fedmpi.experiment.first_mask import start_masked
from fedmpi.experiment.folder_lock import FolderLock
from fedmpi.experiment.progress import Progress
from fedmpi.experiment.recording import Recorder
from fedmpi.experiment.resuming import Identity
from fedmpi.experiment.streams import unfailing_streams
from fedmpi.federation.initial_pruning.local_rounds import InitialServer
from fedmpi.federation.initial_pruning.phase import InitialPhase
from fedmpi.federation.round_halves import RoundReport
from fedmpi.learning.datasets import DataError
from fedmpi.mpi import heartbeat, stop_signals
from fedmpi.mpi.agreement import Refused, any_rank, on_server
from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.guards import LaunchError, check_launch
from fedmpi.mpi.job_end import end_job
from fedmpi.mpi.library import MPI, library_name
from fedmpi.mpi.stop_signals import SignalFlag
from fedmpi.numerics.quantities import duration
from fedmpi.trace import FILE_NAME, STOP, TraceError, mark_failed

EXPECTED: dict[type[Exception], int] = {
    ConfigError: BAD_CONFIGURATION,
    DataError: BAD_CONFIGURATION,
    EmulationError: BAD_CONFIGURATION,
    TraceError: FAILED,
    CheckpointError: FAILED,
    OSError: FAILED,
    MemoryError: FAILED,
}
"""What users' input and machines can bring about, with exit codes; anything else is a bug and shows its traceback."""

_IN_A_ROUND = (ConfigError, EmulationError, CheckpointError)
"""Those that one rank alone can raise in the middle of a round, as where a disk becomes full."""
_PATIENCE_S = 0.4
_MOST_PATIENCE_S = 4.0
"""Ranks on which the same part fails at the same time print its message one after the other, so that the first ends the
rest before they repeat it. The last of hundreds, where it fails alone, must not wait for minutes."""

Prepare = Callable[[int], tuple[Config, Path, FolderLock]]


def main(prepare: Prepare, *, resume: bool, quiet: bool) -> int:
    """Run an experiment on the ranks of COMM_WORLD and return the exit code (0, 1, 2, or 75 when preempted).

    ``prepare`` is called on rank 0 alone with the number of ranks; it returns the validated configuration, the run
    folder and its lock, which is released at the end. Errors are printed once, by rank 0; an unexpected exception
    shows its traceback and ends all ranks. A run that is asked to stop before ``prepare`` was called leaves everything
    as it was.
    """
    with unfailing_streams():
        return _main(prepare, resume, quiet)


def _main(prepare: Prepare, resume: bool, quiet: bool) -> int:
    ranks = Ranks.of(MPI.COMM_WORLD)
    try:
        check_launch(ranks.size, os.environ)
        with stop_signals.installed() as signal:
            return _run(ranks, prepare, signal, resume, quiet)
    except LaunchError as error:
        if error.reporter:
            print(f"fedmpi: {error}", file=sys.stderr, flush=True)
        return 1
    except Refused as error:
        if ranks.is_server:
            print(f"fedmpi: {one_line(str(error))}", file=sys.stderr, flush=True)
        return error.code
    except PartError as error:  # of a user's part, perhaps on all ranks at once
        time.sleep(min(_PATIENCE_S * ranks.rank, _MOST_PATIENCE_S))
        return _end_of_all(ranks, str(error), BAD_CONFIGURATION)
    except _IN_A_ROUND as error:
        code = next(code for kind, code in EXPECTED.items() if isinstance(error, kind))
        where = "" if ranks.size == 1 else f"rank {ranks.rank}: "
        return _end_of_all(ranks, f"{where}{error}", code)
    except BaseException as error:
        if ranks.size == 1 and not isinstance(error, SystemExit):
            raise
        print(f"fedmpi: rank {ranks.rank} failed:", file=sys.stderr)
        traceback.print_exc()
        if ranks.size > 1:
            end_job(ranks.comm, 1)
        return 1


def _end_of_all(ranks: Ranks, message: str, code: int) -> int:
    """Print the one line of this rank, end the other ranks, and return the exit code."""
    print(f"fedmpi: {one_line(message)}", file=sys.stderr, flush=True)
    if ranks.size > 1:
        end_job(ranks.comm, code)
    return code


def _run(ranks: Ranks, prepare: Prepare, signal: SignalFlag, resume: bool, quiet: bool) -> int:
    if any_rank(ranks, signal.set):
        return PREEMPTED
    prepared = on_server(ranks, lambda: prepare(ranks.size), EXPECTED)
    text = ranks.broadcast_json(None if prepared is None else [dumps(prepared[0]), str(prepared[1])])
    config, output = loads(text[0]), Path(text[1])
    timeout_s = heartbeat.timeout_s(ranks, config.experiment.stall_timeout_s)
    with ExitStack() as at_end:
        if prepared is not None:
            lock = prepared[2]
            at_end.callback(lock.release)
            if lock.warning:
                print(f"fedmpi: warning: {lock.warning}", file=sys.stderr, flush=True)
        if timeout_s:
            at_end.enter_context(heartbeat.Heartbeat(ranks, timeout_s))
        return _run_prepared(ranks, config, output, signal, resume, quiet)


def _run_prepared(
    ranks: Ranks, config: Config, output: Path, signal: SignalFlag, resume: bool, quiet: bool
) -> int:
    run = assemble(ranks, config, EXPECTED, signal)
    progress = Progress(config.experiment.rounds, varying(run.parts), quiet, silent=not ranks.is_server)
    if run.server is not None:
        progress.header(header(run, output, library_name()))
        fleet = run.server.accountant.fleet
        for note in (estimated_steps(config, fleet, run.model.layers), unknown_energy(config, fleet)):
            if note:
                progress.message(note)
    checkpoint: Checkpoint | None = None
    keep_rounds: int | None = None
    if resume:
        checkpoint, problems = checkpointing.restore(run, output, EXPECTED)
        for problem in problems:
            progress.warn(problem)
        if checkpoint is None:
            progress.message(f"there is no checkpoint in {output}: starting anew")
    if run.initial is not None and run.initial.pending:
        if checkpoint is not None:
            progress.message("resuming initial pruning")  # the trace has nothing of it before it has finished
    elif checkpoint is None:
        start_masked(run, EXPECTED)
    else:
        keep_rounds = checkpoint.round_index
        progress.message(f"resuming before round {keep_rounds}")
    identity = Identity.of_new_run(config) if checkpoint is None else Identity.stored_in(checkpoint.values)
    identity = Identity.stored_in(ranks.broadcast_json(identity.values()))
    if checkpoint is None:
        checkpointing.start_state(run, output, EXPECTED, identity.run_id)
    recorder = on_server(
        ranks, lambda: _open_recorder(run, output, progress, keep_rounds, identity), EXPECTED
    )
    return _rounds(run, recorder, output, progress, identity)


def _open_recorder(
    run: Run, output: Path, progress: Progress, keep_rounds: int | None, identity: Identity
) -> Recorder:
    beside = output / "config.toml.partial"
    beside.write_text(dumps(run.config), encoding="utf-8")
    beside.replace(output / "config.toml")
    return Recorder(run, output, progress, keep_rounds, identity)


def _rounds(run: Run, recorder: Recorder | None, output: Path, progress: Progress, identity: Identity) -> int:
    """Run the rounds; a trace or checkpoint that cannot be written ends them on all ranks."""
    ranks, server = run.ranks, run.server
    failure: Exception | None = None

    def on_round(report: RoundReport) -> None:
        nonlocal failure
        assert recorder is not None
        assert server is not None
        try:
            recorder.round(report)
        except (TraceError, OSError) as error:
            failure = error
            server.stopping.abandoned = True

    def on_checkpoint() -> None:
        on_server(ranks, recorder.commit if recorder is not None else _nothing, EXPECTED)
        checkpointing.save(run, output, EXPECTED, identity)

    def finish() -> bool:
        if failure is not None:
            raise failure
        assert recorder is not None
        assert server is not None
        status = "preempted" if server.stopping.preempted and not server.stopping.reason else "completed"
        if server.stopping.reason:
            reason = {"reason": server.stopping.reason}
            recorder.event(server.round_index - 1, server.now_s, STOP, server.stopping.reason, reason)
        recorder.close(status)
        progress.close(*recorder.watch.summary(), _summary(run, output, status))
        return status == "preempted"

    try:
        if run.initial is not None and run.initial.pending:
            _prune_initially(run, run.initial, recorder, on_checkpoint)
        run.loop.run(_clock(run), on_round, on_checkpoint)
        preempted = ranks.broadcast_json(on_server(ranks, finish, EXPECTED))
    except BaseException as error:
        progress.close()
        _mark_failed(recorder, output, identity, agreed=isinstance(error, Refused))
        raise
    return PREEMPTED if preempted else 0


def _mark_failed(recorder: Recorder | None, output: Path, identity: Identity, agreed: bool) -> None:
    """Let the trace say that the run has failed.

    Where the ranks have not ``agreed`` on it, the one that fails may be another than the server, which it then ends.
    """
    with suppress(Exception):  # what went wrong first is what is reported
        if recorder is not None:
            recorder.close("failed")
    with suppress(Exception):
        if recorder is not None or not agreed:
            mark_failed(output / FILE_NAME, identity.run_id)


def _prune_initially(
    run: Run, initial: InitialPhase, recorder: Recorder | None, on_checkpoint: Callable[[], None]
) -> None:
    """Initial pruning up to its end, with a checkpoint after it, or until the run is to stop."""
    clock = _clock(run) if run.config.pruning.initial.charged else VirtualClock()

    def on_local_round(server: InitialServer) -> None:
        assert recorder is not None
        recorder.local_round(server)

    finished = initial.run(clock, on_local_round, EXPECTED)
    if initial.pending:
        return

    def record() -> None:
        assert recorder is not None
        assert finished is not None
        recorder.initial(finished)

    on_server(run.ranks, record, EXPECTED)
    on_checkpoint()


def _clock(run: Run) -> Clock:
    """The clock of the run on every rank, which starts now at the emulated time that has been reached."""
    start = run.ranks.broadcast_json(run.server.now_s if run.server is not None else None)
    emulation = run.config.emulation
    return make_clock(emulation.clock, emulation.time_scale, start, run.ranks.meet())


def _nothing() -> None:
    """What ranks without a trace have to commit."""


def _summary(run: Run, output: Path, status: str) -> str:
    assert run.server is not None
    reason = f" ({run.server.stopping.reason})" if run.server.stopping.reason else ""
    return f"{status}{reason}: {duration(run.server.now_s)} of emulated time; trace in {output / 'trace.h5'}"
