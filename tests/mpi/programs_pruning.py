"""Run under mpiexec by test_pruning: what is pruned is zero before and after every exchange, on every rank.

python programs_pruning.py OVERRIDE...
"""

import sys

import numpy as np
from experiments import BASE
from mpi4py import MPI

from fedmpi.config import loads, validate
from fedmpi.emulation.clock import VirtualClock
from fedmpi.experiment.assembly import assemble
from fedmpi.experiment.main import EXPECTED
from fedmpi.mpi.collectives import Ranks


def check(overrides: list[str]) -> None:
    config = loads(BASE, overrides)
    validate(config)
    run = assemble(Ranks(MPI.COMM_WORLD), config, EXPECTED)
    finish, train = run.exchange.finish, run.exchange.train
    seen = []

    def inactive_are_zero(vector: np.ndarray) -> None:
        pruned = ~run.pruning.mask.flags()
        assert not vector[: pruned.size][pruned].view(np.uint32).any()

    def checked_train(client, plan):
        inactive_are_zero(run.host.weights.numpy())
        result = train(client, plan)
        inactive_are_zero(run.host.model.vector.numpy())
        if config.sparsification.method != "dense":
            inactive_are_zero(run.exchange.client_state(client)["accumulated"])
        return result

    def checked_finish(plan, roster):
        exchanged = finish(plan, roster)
        inactive_are_zero(run.host.weights.numpy())
        seen.append(run.pruning.mask.count)
        return exchanged

    run.exchange.finish, run.exchange.train = checked_finish, checked_train
    run.loop.run(VirtualClock(), lambda report: None, lambda: None)
    assert len(seen) == config.experiment.rounds
    assert seen[0] == run.model.parameter_count > min(seen)


if __name__ == "__main__":
    try:
        check(sys.argv[1:])
    except BaseException:
        if MPI.COMM_WORLD.Get_size() > 1:
            import traceback

            traceback.print_exc()
            MPI.COMM_WORLD.Abort(1)
        raise
