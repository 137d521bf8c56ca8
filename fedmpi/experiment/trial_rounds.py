"""What a round of an experiment takes on this machine: a few of its own rounds, on one rank, whose results are lost.

They are rounds of the experiment from its first one on, traced into a folder that is removed, with fewer participants
where all of them would take too long. What a round takes for each participant and what it takes anyway then follow
from two numbers of participants.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import torch

from fedmpi.config import Config
from fedmpi.emulation.clock import VirtualClock
from fedmpi.experiment import checkpointing
from fedmpi.experiment.assembly import Expected, Run, assemble
from fedmpi.experiment.first_mask import start_masked
from fedmpi.experiment.progress import Progress
from fedmpi.experiment.recording import Recorder
from fedmpi.experiment.resuming import Identity
from fedmpi.federation.distribution import ServerData
from fedmpi.federation.round_halves import RoundReport
from fedmpi.learning.datasets.dataset import as_float32
from fedmpi.learning.evaluation import evaluate_blocks
from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.library import MPI

_ENDLESS = 2**31 - 1
_FEW = 2
"""So many participants at first, by which it is seen how many more there is time for."""
_ROUNDS = 7
_SHARE_OF_ONE = 0.6
"""A round with more participants may take this share of the time that is given."""


@dataclass(frozen=True)
class RoundTime:
    """Host seconds of a round with so many ``participants``: on one rank, one participant after the other.

    Of a rank with one thread they are those of a core that does nothing else, however busy the machine is.
    """

    participants: int
    train_s: float
    other_s: float


@dataclass(frozen=True)
class TrialRounds:
    """Host seconds on one rank. ``few`` and ``many`` are two measured rounds, the same one where there is but one.

    ``assemble_s``: from the data set to the first round; ``evaluate_s``: the model on all test samples;
    ``reconfigure_s``: by how much a round is longer after which the mask changes (0: it never does); ``checkpoint_s``:
    writing one.
    """

    assemble_s: float
    few: RoundTime
    many: RoundTime
    evaluate_s: float
    reconfigure_s: float
    checkpoint_s: float

    def round_of(self, participants: int) -> RoundTime:
        """A round with any number of participants, on the line through the two that were measured."""
        few, many = self.few, self.many
        if many.participants == few.participants:
            share = participants / few.participants
            return RoundTime(participants, few.train_s * share, few.other_s)
        at = (participants - few.participants) / (many.participants - few.participants)
        train_s = few.train_s + at * (many.train_s - few.train_s)
        other_s = few.other_s + at * (many.other_s - few.other_s)
        return RoundTime(participants, max(train_s, 0.0), max(other_s, 0.0))


def try_rounds(
    config: Config, data: ServerData, participants: int, budget_s: float, expected: Expected
) -> TrialRounds:
    """Run a few rounds of up to so many ``participants``, for about ``budget_s`` host seconds and one round at least.

    Raises Refused for what could not run. Nothing is left behind but what torch and MPI keep in memory.
    """
    ranks = Ranks.of(MPI.COMM_SELF)
    began_s = process_time()
    run = assemble(ranks, config, expected, data=data)
    assembled_s = process_time() - began_s
    assert run.server is not None
    start_masked(run, expected)
    with tempfile.TemporaryDirectory(prefix="fedmpi-check-") as folder:
        output, identity = Path(folder), Identity.of_new_run(config)
        checkpointing.start_state(run, output, expected, identity.run_id)
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            progress = Progress(_ENDLESS, quiet=True, silent=True, stream=nowhere, warnings=nowhere)
            recorder = Recorder(run, output, progress, None, identity)
            try:
                few, many = _two_sizes(run, recorder, participants, budget_s)
                evaluate_s = _evaluation_s(run, data)
                checkpoint_s = _seconds(lambda: checkpointing.save(run, output, expected, identity))
                reconfigure_s = _reconfiguration_s(run, recorder, few)
            finally:
                recorder.close("failed")
    return TrialRounds(assembled_s, few, many, evaluate_s, reconfigure_s, checkpoint_s)


def _two_sizes(
    run: Run, recorder: Recorder, participants: int, budget_s: float
) -> tuple[RoundTime, RoundTime]:
    few = min(participants, _FEW)
    first = _measured(run, recorder, few, 1, 0.0)
    if (first.train_s + first.other_s) * run.exchange.period > _SHARE_OF_ONE * budget_s:
        return first, first
    of_few = _measured(run, recorder, few, 3, 0.2 * budget_s)  # the first round of a process takes longer
    each_s = (of_few.train_s + of_few.other_s) / of_few.participants
    affordable = int(_SHARE_OF_ONE * budget_s / max(each_s, 1e-9) / run.exchange.period)
    many = min(participants, affordable)
    if many <= of_few.participants:
        return of_few, of_few
    return of_few, _measured(run, recorder, many, _ROUNDS, budget_s)


def _measured(run: Run, recorder: Recorder, participants: int, most: int, budget_s: float) -> RoundTime:
    """Medians over up to ``most`` times as many rounds as make a period, of their means over it.

    ``participants`` are asked for; where fewer are available, so many have taken part.
    """
    began_s = perf_counter()
    train_s: list[float] = []
    other_s: list[float] = []
    there: list[float] = []
    while not train_s or (len(train_s) < most and perf_counter() - began_s < budget_s):
        start_s, start_cpu_s, trained_s = perf_counter(), process_time(), run.loop.training_host_s
        there.append(_run_rounds(run, recorder, participants, run.exchange.period))
        whole_s, trained_s = perf_counter() - start_s, run.loop.training_host_s - trained_s
        alone = (process_time() - start_cpu_s) / whole_s if _one_core(run) else 1.0
        train_s.append(alone * trained_s / run.exchange.period)
        other_s.append(alone * (whole_s - trained_s) / run.exchange.period)
    return RoundTime(max(1, round(median(there))), median(train_s), median(other_s))


def _one_core(run: Run) -> bool:
    """Whether seconds of the CPU are those of a machine that has nothing else to do."""
    return run.config.placement.threads_per_rank == 1 and run.config.placement.device == "cpu"


def _run_rounds(run: Run, recorder: Recorder, participants: int, rounds: int) -> float:
    """Go on for some rounds, without evaluations and whatever would end the experiment; the mean of participants."""
    server = run.server
    assert server is not None
    config = run.config
    experiment = replace(
        config.experiment,
        rounds=_ENDLESS,
        evaluate_every=_ENDLESS,
        checkpoint_every=0,
        stop_at_accuracy=None,
        stop_at_emulated_s=None,
        stop_at_host_s=None,
    )
    clients = replace(config.clients, per_round=participants)
    federation = replace(config.federation, over_selection=0.0, min_updates=1)
    server.config = replace(config, experiment=experiment, clients=clients, federation=federation)
    server.stopping.reason = ""
    took_part: list[int] = []

    def on_round(report: RoundReport) -> None:
        recorder.round(report)
        took_part.append(len(report.closed.plan.participants))
        if len(took_part) == rounds:
            server.stopping.reason = "measured"

    run.loop.run(VirtualClock(), on_round, lambda: None)
    return sum(took_part) / rounds


def _evaluation_s(run: Run, data: ServerData) -> float:
    """All test samples, and those of clients' own, as one block of them takes."""
    training, tests = run.config.training, data.dataset
    x = as_float32(torch.from_numpy(tests.test_x[: training.evaluation_batch_size]))
    block = [
        (x.to(run.model.vector.device), torch.from_numpy(tests.test_y[: len(x)]).to(run.model.vector.device))
    ]

    def evaluate() -> None:
        evaluate_blocks(run.model, block, training.loss, seeds=[0])

    block_s = min(_seconds(evaluate), _seconds(evaluate))
    samples = run.facts.test_samples
    if run.loop.client_tests is not None:
        samples += int(run.facts.own_test_sizes.sum())
    return block_s * samples / len(x)


def _reconfiguration_s(run: Run, recorder: Recorder, usual: RoundTime) -> float:
    server, every = run.server, run.config.pruning.reconfigure_every
    assert server is not None
    due = next((index for index in range(every - 1, every + 2) if server.pruning.needs(index)), None)
    if due is None:
        return 0.0
    server.round_index = due
    whole_s = _seconds(lambda: _run_rounds(run, recorder, usual.participants, 1))
    return max(0.0, whole_s - usual.train_s - usual.other_s)


def _seconds(work: Callable[[], object]) -> float:
    began_s = perf_counter()
    work()
    return perf_counter() - began_s
