"""Run under mpiexec by test_initial_pruning: a run in which every rank checks what initial pruning promises.

What is pruned is zero after every step and on every rank in the first round; the weights of that round are those with
which initial pruning ended.

python programs_initial_pruning.py OVERRIDE...
"""

import sys

import numpy as np
from experiments import BASE
from failing_together import run_checked
from mpi4py import MPI

from fedmpi.config import loads, validate
from fedmpi.emulation.clock import VirtualClock
from fedmpi.experiment.assembly import Run, assemble
from fedmpi.experiment.main import EXPECTED
from fedmpi.federation.initial_pruning.schedule import BATCH_SIZE
from fedmpi.learning import training
from fedmpi.mpi.collectives import Ranks


def check(overrides: list[str]) -> None:
    config = loads(BASE, [*overrides, "training.batched=off"])  # clients are looked at one by one
    validate(config)
    run = assemble(Ranks.of(MPI.COMM_WORLD), config, EXPECTED)
    initial = run.initial
    assert initial is not None
    initially = run.masked.weights.numpy().copy()
    steps = _check_steps(run)
    account = initial.run(VirtualClock(), lambda server: None, EXPECTED)
    assert not initial.pending
    assert (account is not None) == run.ranks.is_server == (steps[0] > 0)
    if account is not None:
        assert steps[0] == len(account.rows) * -(-account.training.samples // BATCH_SIZE)
        np.testing.assert_array_equal(run.masked.weights.numpy(), run.model.vector.numpy())
        assert run.masked.mask.count == account.schedule.mask.count < run.model.parameter_count
    weights, pruned = run.masked.weights.numpy(), ~run.masked.mask.flags()
    assert (weights != initially).any()
    assert not weights[: pruned.size][pruned].view(np.uint32).any()
    of_server, mask_of_server = weights.copy(), run.masked.mask.to_bits()
    MPI.COMM_WORLD.Bcast(of_server, root=0)
    MPI.COMM_WORLD.Bcast(mask_of_server, root=0)
    np.testing.assert_array_equal(weights, of_server)
    np.testing.assert_array_equal(run.masked.mask.to_bits(), mask_of_server)
    train = run.exchange.train

    def checked_train(client, plan):
        if plan.round_index == 0:
            np.testing.assert_array_equal(run.masked.weights.numpy(), of_server)
        result = train(client, plan)
        assert not run.host.model.vector.numpy()[: pruned.size][pruned].any() or plan.round_index
        return result

    run.exchange.train = checked_train
    run.loop.run(VirtualClock(), lambda report: None, lambda: None)


def _check_steps(run: Run) -> list[int]:
    """Look at the weights after every step of initial pruning; the returned list counts the steps."""
    take, counted = training.SgdStep.take, [0]

    def checked_take(self, directions, write):
        take(self, directions, write)
        if run.initial is not None and run.initial.pending:
            counted[0] += 1
            pruned = ~run.masked.mask.flags()
            assert not run.model.vector.numpy()[: pruned.size][pruned].view(np.uint32).any()

    training.SgdStep.take = checked_take
    return counted


if __name__ == "__main__":
    run_checked(check, sys.argv[1:])
