"""Runs that start under a mask: that of a lottery ticket, or one that the pruning method makes of the first weights."""

from __future__ import annotations

from collections.abc import Mapping

from fedmpi.checkpoint.ticket import read_ticket
from fedmpi.experiment.assembly import Run
from fedmpi.learning.models import build_flat
from fedmpi.mpi.agreement import on_server
from fedmpi.pruning.lottery import weights_seed


def start_masked(run: Run, expected: Mapping[type[Exception], int]) -> None:
    """Give a run that starts its first mask, if it has one (collective); a resumed one has it in its checkpoint."""
    method = run.parts.pruning
    if method.takes_ticket:
        _take_ticket(run, expected)
    elif method.first_mask is not None:
        mask = None
        if run.server is not None:
            mask = method.first_mask(run.server.pruning.setup, run.masked.parameters)
        run.masked.change(mask, 0, [])
    else:
        return
    if run.server is not None:
        run.server.pruning.start()


def _take_ticket(run: Run, expected: Mapping[type[Exception], int]) -> None:
    """The mask of a finished run, and initial weights of the right seed.

    The server alone reads the finished run's folder. Refused on all ranks when there is no ticket in it.
    """
    config, ranks, parameters = run.config, run.ranks, run.model.parameter_count
    ticket = on_server(ranks, lambda: read_ticket(config, parameters), expected)
    seed = ranks.broadcast_json(
        None if ticket is None else weights_seed(config.pruning.method, config.experiment.seed, ticket.seed)
    )
    mask = run.masked.shared(None if ticket is None else ticket.mask)
    model = build_flat(config.model, run.facts.input_shape, run.facts.classes, seed)
    run.masked.weights.numpy()[:] = model.vector.detach().numpy()
    run.masked.use(mask, 0)
