"""Run under mpiexec by test_pruning: a run in which every rank checks what pruning promises.

What is pruned is zero before and after every exchange; the importance of a reconfiguration is the sum over its
participants of what all of their trainings since the last one told.

python programs_pruning.py OVERRIDE...
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
from fedmpi.experiment.parts import resolve
from fedmpi.federation.plan import Action
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
        if not resolve(config).sends_all:
            inactive_are_zero(run.exchange.client_state(client)["accumulated"])
        return result

    def checked_finish(plan, roster):
        exchanged = finish(plan, roster)
        inactive_are_zero(run.host.weights.numpy())
        seen.append(run.pruning.mask.count)
        _check_bytes_by_size(run, plan.k)
        return exchanged

    run.exchange.finish, run.exchange.train = checked_finish, checked_train
    tried = _check_losses(run) if config.pruning.method == "online" else None
    sums = _check_importance(run) if run.pruning.importance is not None else None
    run.loop.run(VirtualClock(), lambda report: None, lambda: None)
    assert len(seen) == config.experiment.rounds
    assert tried is None or len(tried) == config.experiment.rounds // config.pruning.reconfigure_every
    assert seen[0] == run.model.parameter_count > min(seen)
    assert sums is None or len(sums) == config.experiment.rounds // config.pruning.reconfigure_every


def _check_bytes_by_size(run: Run, entries: int) -> None:
    """The time of a round is by the bytes of its messages, to which prunable parameters add their parts."""
    fixed, each = run.exchange.bytes_by_size(entries)
    prunable = [layer for layer in run.model.layers if layer.prunable]
    active = int(run.pruning.mask.active_per_layer(prunable).sum())
    if run.exchange.dimension == run.model.parameter_count:  # a model that is as good as dense is sent whole
        active = sum(layer.stop - layer.start for layer in prunable)
    assert 0 <= run.exchange.message_bytes_up(entries) - (fixed + each * active) < 1


def _check_losses(run: Run) -> list[np.ndarray]:
    """Compare the losses that choose the size with plain ones; the returned list gets each."""
    loop, weights, told = run.loop, [], []
    measure, begin, finish = loop._measure, run.host.begin_round, run.exchange.finish

    def checked_begin():
        weights.append(run.host.weights.clone())
        begin()

    def checked_finish(plan, roster):
        exchanged = finish(plan, roster)
        weights.append(run.host.weights.clone())
        return exchanged

    def checked_measure(plan, roster, samples, before):
        measured = measure(plan, roster, samples, before)
        if Action.TRY_MASK not in plan.action:
            return measured
        pruned = weights[-1].clone()
        mask = run.pruning.share(None if measured is None else measured.tried)
        assert mask.count < run.pruning.mask.count
        mask.apply(pruned.numpy()[: mask.dimension])
        expected = np.zeros(3)
        clients = roster.accepted_of(MPI.COMM_WORLD.Get_rank()).tolist()
        for column, vector in enumerate((weights[-2], weights[-1], pruned)):
            run.host.load(vector)
            for client in clients:
                size = roster.sizes[list(roster.clients).index(client)]
                expected[column] += size * run.host.loss_of_sample(client, samples[client])
        MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, expected)
        expected /= roster.sizes[roster.accepted].sum()
        if measured is not None:
            by_client = np.sort(measured.records, order="client")
            sizes = roster.sizes[roster.accepted]
            found = [np.average(by_client[name], weights=sizes) for name in ("previous", "current", "pruned")]
            np.testing.assert_allclose(found, expected, rtol=1e-12)
            assert len(set(found)) == 3
        told.append(expected)
        return measured

    run.host.begin_round, run.exchange.finish, loop._measure = checked_begin, checked_finish, checked_measure
    return told


def _check_importance(run: Run) -> list[float]:
    """Compare every sum with a plain one; the returned list gets the largest entry of each."""
    importance, since, largest = run.pruning.importance, {}, []
    add, gather = importance.add, importance.gather

    def checked_add(client, direction_sum, samples):
        squares = direction_sum.numpy().astype(np.float64) ** 2 * samples
        since[client] = since.get(client, 0.0) + squares
        add(client, direction_sum, samples)

    def checked_gather(roster):
        total = gather(roster)
        expected = np.zeros(run.model.parameter_count)
        for client in roster.accepted_clients.tolist():
            expected += since.get(client, 0.0)
        since.clear()
        MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, expected)
        np.testing.assert_allclose(total.values, expected, rtol=1e-5, atol=1e-9 * expected.max())
        assert np.count_nonzero(total.values[~run.pruning.mask.flags()]) or run.pruning.mask.is_full
        assert total.left_out == 0
        largest.append(expected.max())
        return total

    importance.add, importance.gather = checked_add, checked_gather
    return largest


if __name__ == "__main__":
    run_checked(check, sys.argv[1:])
