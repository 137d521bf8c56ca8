"""How long an experiment will take here: what a few of its rounds took on one rank, dealt to the ranks of the run."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from math import ceil, log2

from fedmpi.cli import estimate
from fedmpi.cli.check_report import Checked
from fedmpi.config import Config
from fedmpi.experiment.main import EXPECTED
from fedmpi.experiment.trial_rounds import TrialRounds, try_rounds
from fedmpi.mpi.agreement import Refused
from fedmpi.mpi.forkserver.stub import VARIABLE as FORKSERVER
from fedmpi.numerics.quantities import duration

BUDGET_S = 6.0
"""For so many seconds rounds are tried out."""

_LAUNCH_S = 0.3
"""A launcher with its ranks' way through MPI_Init, on one machine (measured: MPICH 4 and Open MPI 5)."""
_COLLECTIVES = 12
"""So many collective calls make a round with sparse messages, of which most are short."""
_COLLECTIVE_S = 60e-6
"""One of them among two ranks, a bit more for each doubling (measured where ranks share no core)."""
_MARGIN, _MARGIN_S, _STEP_S = 1.5, 300.0, 300.0
"""Of the limit that is suggested: so much more, in whole steps."""


@dataclass(frozen=True)
class HostTime:
    """Host seconds. ``start_s``: until the first round; ``round_s``: a round, of which ``train_s`` is training;
    ``evaluate_s``: an evaluation; ``whole_s``: all; ``limit_s``: a time limit for a scheduler."""

    start_s: float
    train_s: float
    round_s: float
    evaluate_s: float
    whole_s: float

    @property
    def limit_s(self) -> float:
        return ceil((_MARGIN * self.whole_s + _MARGIN_S) / _STEP_S) * _STEP_S


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def host_time(
    config: Config,
    trial: TrialRounds,
    participants: int,
    import_s: float,
    ranks: int,
    cores: int,
    forked: bool = True,
) -> HostTime:
    """The experiment on so many ``ranks``, which have ``cores`` together. ``forked``: a node imports once for all.

    ``participants``: those of a round; ``import_s``: seconds of one core from the start of a process to its first line.
    Ranks that share cores take turns; a round waits for the rank with the most participants. What is not training is
    the server's, done by one rank. Under a realtime clock a round takes its emulated time at least, which is not in it.
    """
    experiment, placement = config.experiment, config.placement
    at_once = max(1, cores // placement.threads_per_rank)
    training = ranks if ranks == 1 or placement.server_trains else ranks - 1
    one = trial.round_of(participants)
    busiest = ceil(participants / training) * max(1.0, min(training, participants) / at_once)
    train_s = one.train_s * min(1.0, busiest / participants)
    exchange_s = _COLLECTIVES * _COLLECTIVE_S * log2(ranks) * max(1.0, ranks / at_once)
    round_s = train_s + one.other_s + exchange_s
    evaluate_s = trial.evaluate_s / min(ranks, at_once)
    imports = 1.0 if forked else max(1.0, ranks / cores)
    start_s = imports * import_s + trial.assemble_s + (_LAUNCH_S if ranks > 1 else 0.0)
    rounds = experiment.rounds
    evaluations = -(-rounds // experiment.evaluate_every)
    checkpoints = 1 + (rounds - 1) // experiment.checkpoint_every if experiment.checkpoint_every else 1
    whole_s = start_s + rounds * round_s + evaluations * evaluate_s + checkpoints * trial.checkpoint_s
    whole_s += trial.reconfigure_s * (rounds // config.pruning.reconfigure_every)
    return HostTime(start_s, train_s, round_s, evaluate_s, whole_s)


def check_host_time(
    config: Config, checked: Checked, import_s: float, ranks: int, cores: int
) -> HostTime | str:
    """The host time of what was ``checked``, or why its rounds could not be tried here."""
    participants = max(1, len(estimate.first_participants(config, checked.fleet)))
    try:
        trial = try_rounds(config, checked.data, participants, BUDGET_S, EXPECTED)
    except Refused as error:
        return str(error)
    trial = replace(trial, assemble_s=trial.assemble_s + checked.read_s)
    forked = os.environ.get(FORKSERVER) != "off"
    return host_time(config, trial, participants, import_s, ranks, cores, forked)


def brief_host_time(config: Config, time: HostTime | str) -> str:
    """The same in one line."""
    if isinstance(time, str):
        return f"not known: {time}"
    without = ", without initial pruning" if config.pruning.initial.where != "none" else ""
    return (
        f"{duration(time.whole_s)} here{without}, of them {time.start_s:.2g} s before the first round and "
        f"{time.round_s:.2g} s for each; with a margin --time={as_limit(time.limit_s)}"
    )


def host_lines(config: Config, time: HostTime | str, ranks: int, cores: int) -> list[str]:
    """What ``fedmpi check`` prints of it."""
    if isinstance(time, str):
        return [f"host time: not known, as rounds could not be tried here: {time}"]
    lines = [
        f"host time on {ranks} {'rank' if ranks == 1 else 'ranks'} with {cores} "
        f"{'core' if cores == 1 else 'cores'} like those here, from rounds tried now:",
        f"  start-up {time.start_s:.3g} s; a round {time.round_s:.3g} s, of which training {time.train_s:.3g} s; "
        f"an evaluation {time.evaluate_s:.3g} s",
        f"  whole run {duration(time.whole_s)}; with a margin --time={as_limit(time.limit_s)}",
    ]
    if config.emulation.clock == "realtime":
        lines.append("  without the waits of the realtime clock")
    if config.pruning.initial.where != "none":
        most = config.pruning.initial.max_rounds
        lines.append(f"  without initial pruning, up to {most} local rounds")
    return lines


def as_limit(seconds: float) -> str:
    """Seconds as SLURM takes them: ``HH:MM:SS``, or ``D-HH:MM:SS``."""
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    text = f"{hours:02d}:{minutes:02d}:{left:02d}"
    return f"{days}-{text}" if days else text
