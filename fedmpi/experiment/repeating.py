"""Repeating some rounds of a recorded run: the same learning must come out, bit for bit.

The first rounds are repeated from the configuration, those after the last checkpoint from that; a checkpoint at the end
of a run is evaluated instead. What is compared are all columns but those of the host. Bits are the same where versions
of the libraries and the kind of processor are.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import numpy as np

from fedmpi.checkpoint.store import FOLDER
from fedmpi.config import Config, loads, parts
from fedmpi.emulation.clock import VirtualClock
from fedmpi.experiment import checkpointing
from fedmpi.experiment.assembly import Run, assemble
from fedmpi.experiment.differences import Difference
from fedmpi.experiment.first_mask import start_masked
from fedmpi.experiment.main import EXPECTED
from fedmpi.experiment.progress import Progress
from fedmpi.experiment.recorded_work import TRUSTED, refuse_foreign
from fedmpi.experiment.recording import Recorder
from fedmpi.experiment.resuming import Identity
from fedmpi.experiment.retiming import compute_needs_host_time
from fedmpi.federation.round_halves import RoundReport
from fedmpi.mpi.agreement import Refused
from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.library import MPI
from fedmpi.trace import FILE_NAME, Trace, TraceError, read

_OF_THE_HOST = {"host_s", "rank", "overrun_s", "released_s", "mpi_bytes"}
_BY_MEASUREMENT = {"start_s", "end_s", "download_s", "compute_s", "upload_s", "wait_s", "energy_j", "idle_s"}
_KEYS = {"rounds": ["round"], "clients": ["round", "client"], "layers": ["round", "layer"]}


@dataclass(frozen=True)
class Repetition:
    """``differences`` between what was recorded and what came out again; ``rounds`` that were repeated, rising;
    ``evaluated``: whether the model of the checkpoint was; ``notes``: what could not be repeated."""

    differences: tuple[Difference, ...]
    rounds: tuple[int, ...]
    evaluated: bool
    notes: tuple[str, ...]


def repeat(folder: Path, rounds: int, trust: tuple[str, ...] = ()) -> Repetition:
    """Repeat up to so many ``rounds`` of the run in ``folder`` from its start, and after its last checkpoint.

    ``trust``: keys whose part, code of one's own, may be imported by its name in the trace. The folder stays as it is.
    Raises TraceError where nothing can be read, and Refused for what cannot be run any more.
    """
    recorded = read(folder)
    if not len(recorded.rounds):
        raise TraceError(f"{folder / FILE_NAME}: has no rounds to repeat")
    config = loads(
        str(recorded.attributes["config_toml"]),
        ["emulation.clock=virtual", "clients.state=memory"],
        origin=f"the configuration in {folder / FILE_NAME}",
    )
    refuse_foreign(config, list(parts.FAMILIES), trust, TRUSTED)
    left_out = _OF_THE_HOST | (_BY_MEASUREMENT if compute_needs_host_time(config) else set())
    differences: list[Difference] = []
    repeated: set[int] = set()
    notes: list[str] = []
    evaluated = False
    if config.pruning.initial.where != "none":
        notes.append("the first rounds, which begin with initial pruning")
    else:
        with tempfile.TemporaryDirectory(prefix="fedmpi-verify-") as temporary:
            again = _from_the_start(config, Path(temporary), min(rounds, len(recorded.rounds)))
        repeated |= set(again.rounds["round"].tolist())
        differences += _compared(recorded, again, left_out)
    with tempfile.TemporaryDirectory(prefix="fedmpi-verify-") as temporary:
        found = _from_the_checkpoint(config, folder, Path(temporary), rounds, recorded)
    if isinstance(found, str):
        notes.append(found)
    elif isinstance(found, Trace):
        repeated |= set(found.rounds["round"].tolist())
        differences += [each for each in _compared(recorded, found, left_out) if each not in differences]
    else:
        evaluated = True
        differences += found
    return Repetition(tuple(differences), tuple(sorted(repeated)), evaluated, tuple(notes))


def _from_the_start(config: Config, output: Path, rounds: int) -> Trace:
    run = assemble(Ranks.of(MPI.COMM_SELF), config, EXPECTED)
    start_masked(run, EXPECTED)
    _go_on(run, output, None, Identity.of_new_run(config), rounds)
    return read(output)


def _from_the_checkpoint(
    config: Config, folder: Path, output: Path, rounds: int, recorded: Trace
) -> Trace | list[Difference] | str:
    """What comes after the checkpoint, or differences of its evaluation; a text says why there is neither."""
    if recorded.config["clients"].get("state") == "disk":
        return "rounds after the checkpoint, whose clients have their state in a folder of the run"
    if not (folder / FOLDER).is_dir():
        return "rounds after a checkpoint, of which the folder has none"
    shutil.copytree(folder / FOLDER, output / FOLDER)
    shutil.copy(folder / FILE_NAME, output / FILE_NAME)
    run = assemble(Ranks.of(MPI.COMM_SELF), config, EXPECTED)
    try:
        checkpoint, problems = checkpointing.restore(run, output, EXPECTED)
    except Refused as error:
        return f"rounds after a checkpoint, of which none can be read: {error}"
    if checkpoint is None:
        return (
            f"rounds after a checkpoint, of which none can be read: {'; '.join(problems) or 'there is none'}"
        )
    first, last = checkpoint.round_index, int(recorded.rounds["round"].iloc[-1])
    if first <= last:
        _go_on(run, output, first, Identity.stored_in(checkpoint.values), min(rounds, last + 1 - first))
        again = read(output)
        later = {name: getattr(again, name) for name in _KEYS}
        return replace(again, **{name: table[table["round"] >= first] for name, table in later.items()})
    row = recorded.rounds.iloc[-1]
    if np.isnan(row["test_accuracy"]):
        return "the model of the checkpoint, as the round before it was not evaluated"
    if (recorded.events.loc[recorded.events["kind"] == "pruning", "round"] == last).any():
        return "the model of the checkpoint, whose mask is another than that with which it was evaluated"
    measured = dict(zip(("test_loss", "test_accuracy"), run.loop.evaluator.evaluate(run.host), strict=True))
    where = f"round {last}, by the checkpoint"
    return [
        Difference("rounds", where, name, row[name], value)
        for name, value in measured.items()
        if row[name] != value
    ]


def _go_on(run: Run, output: Path, keep_rounds: int | None, identity: Identity, rounds: int) -> None:
    """Run so many rounds into the trace in ``output``, whatever would end the experiment."""
    server = run.server
    assert server is not None
    progress = Progress(rounds, quiet=True, silent=True, stream=StringIO(), warnings=StringIO())
    recorder = Recorder(run, output, progress, keep_rounds, identity)
    done = 0

    def on_round(report: RoundReport) -> None:
        nonlocal done
        recorder.round(report)
        done += 1
        if done == rounds:
            server.stopping.abandoned = True

    try:
        run.loop.run(VirtualClock(), on_round, lambda: None)
    finally:
        recorder.close("completed")


def _compared(recorded: Trace, again: Trace, left_out: set[str]) -> Iterator[Difference]:
    """Rows that both have, by their keys; and rows of repeated rounds that one of them lacks."""
    rounds = again.rounds["round"]
    for name, keys in _KEYS.items():
        before, after = (getattr(trace, name) for trace in (recorded, again))
        before, after = (table[table["round"].isin(rounds)].set_index(keys) for table in (before, after))
        for key in before.index.symmetric_difference(after.index):
            yield Difference(name, _words(keys, key), "row", key in before.index, key in after.index)
        both = before.index.intersection(after.index)
        for column in before.columns.difference(left_out):
            one, other = (table.loc[both, column].astype(object) for table in (before, after))
            differs = ~((one == other) | (one.isna() & other.isna()))
            for key in both[differs.to_numpy(dtype=bool)]:
                yield Difference(name, _words(keys, key), column, one[key], other[key])


def _words(keys: list[str], key: object) -> str:
    values = key if isinstance(key, tuple) else (key,)
    return " ".join(f"{name} {value}" for name, value in zip(keys, values, strict=True))
