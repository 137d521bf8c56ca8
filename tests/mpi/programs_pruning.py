"""Run under mpiexec by test_pruning: a run in which every rank checks what pruning promises.

What is pruned is zero before and after every exchange; the importance of a reconfiguration is the sum over its
participants of what all of their trainings since the last one have shown.

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
from fedmpi.mpi.collectives import Ranks
from fedmpi.pruning import Needs


def check(overrides: list[str]) -> None:
    config = loads(BASE, [*overrides, "training.batched=off"])  # clients are looked at one by one
    validate(config)
    run = assemble(Ranks.of(MPI.COMM_WORLD), config, EXPECTED)
    finish, train = run.exchange.finish, run.exchange.train
    seen = []

    def inactive_are_zero(vector: np.ndarray) -> None:
        pruned = ~run.masked.mask.flags()
        assert not vector[: pruned.size][pruned].view(np.uint32).any()

    def checked_train(client, plan):
        inactive_are_zero(run.masked.weights.numpy())
        result = train(client, plan)
        inactive_are_zero(run.host.model.vector.numpy())
        if not resolve(config).sends_all:
            inactive_are_zero(run.exchange.client_state(client)["accumulated"])
        return result

    def checked_finish(plan, roster):
        exchanged = finish(plan, roster)
        inactive_are_zero(run.masked.weights.numpy())
        seen.append(run.masked.mask.count)
        _check_bytes_by_size(run, plan.k)
        return exchanged

    run.exchange.finish, run.exchange.train = checked_finish, checked_train
    tried = _check_losses(run) if config.pruning.method == "online" else None
    sums = _check_importance(run) if run.host.importance is not None else None
    run.loop.run(VirtualClock(), lambda report: None, lambda: None)
    assert len(seen) == config.experiment.rounds
    assert tried is None or len(tried) == config.experiment.rounds // config.pruning.reconfigure_every
    assert seen[0] == run.model.parameter_count > min(seen)
    assert sums is None or len(sums) == config.experiment.rounds // config.pruning.reconfigure_every


def _check_bytes_by_size(run: Run, entries: int) -> None:
    """The time of a round is by the bytes of its messages, to which prunable parameters add their parts."""
    fixed, each = run.exchange.bytes_by_size(entries)
    prunable = [layer for layer in run.model.layers if layer.prunable]
    active = int(run.masked.mask.active_per_layer(prunable).sum())
    if run.exchange.dimension == run.model.parameter_count:  # a model that is as good as dense is sent whole
        active = sum(layer.stop - layer.start for layer in prunable)
    assert 0 <= run.exchange.message_bytes_up(entries) - (fixed + each * active) < 1


def _check_losses(run: Run) -> list[np.ndarray]:
    """Compare the losses that choose the size with plain ones; the returned list gets each."""
    loop, weights, seen_losses = run.loop, [], []
    measure, begin, finish = loop._measure, run.host.begin_round, run.exchange.finish

    def checked_begin():
        weights.append(run.masked.weights.clone())
        begin()

    def checked_finish(plan, roster):
        exchanged = finish(plan, roster)
        weights.append(run.masked.weights.clone())
        return exchanged

    def checked_measure(plan, roster, samples, before):
        losses, tried = measure(plan, roster, samples, before)
        if Needs.LOSSES not in plan.needs:
            return losses, tried
        assert tried is not None
        assert tried.count < run.masked.mask.count
        pruned = weights[-1].clone()
        tried.apply(pruned.numpy()[: tried.dimension])
        clients = roster.accepted_of(MPI.COMM_WORLD.Get_rank()).tolist()
        assert losses["client"].tolist() == clients
        columns = {"previous": weights[-2], "current": weights[-1], "pruned": pruned}
        for column, vector in columns.items():
            run.host.load(vector)
            expected = [run.host.loss_of_sample(client, samples[client]) for client in clients]
            assert losses[column].tolist() == expected
        assert all(len({row[column] for column in columns}) == 3 for row in losses)
        seen_losses.append(losses)
        return losses, tried

    run.host.begin_round, run.exchange.finish, loop._measure = checked_begin, checked_finish, checked_measure
    return seen_losses


def _check_importance(run: Run) -> list[float]:
    """Compare every sum with a plain one; the returned list gets the largest entry of each."""
    importance, since, largest = run.host.importance, {}, []
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
        assert np.count_nonzero(total.values[~run.masked.mask.flags()]) or run.masked.mask.is_full
        assert total.left_out == 0
        largest.append(expected.max())
        return total

    importance.add, importance.gather = checked_add, checked_gather
    return largest


if __name__ == "__main__":
    run_checked(check, sys.argv[1:])
