"""The start of a lottery ticket: the mask of a finished run, and initial weights of the right seed."""

from __future__ import annotations

from collections.abc import Mapping

from fedmpi.checkpoint.ticket import read_ticket
from fedmpi.experiment.assembly import Run
from fedmpi.learning.models import build_flat
from fedmpi.mpi.agreement import on_server
from fedmpi.pruning.lottery import weights_seed


def start_ticket(run: Run, expected: Mapping[type[Exception], int]) -> None:
    """Give a run that starts its ticket, if it has one (collective); one that is resumed has it in its checkpoint.

    The server alone reads the finished run's folder. Refused on all ranks when there is no ticket in it.
    """
    config, ranks, parameters = run.config, run.ranks, run.model.parameter_count
    if not run.parts.pruning.takes_ticket:
        return
    ticket = on_server(ranks, lambda: read_ticket(config, parameters), expected)
    seed = ranks.broadcast_json(
        None if ticket is None else weights_seed(config.pruning.method, config.experiment.seed, ticket.seed)
    )
    mask = run.masked.shared(None if ticket is None else ticket.mask)
    model = build_flat(config.model, run.facts.input_shape, run.facts.classes, seed)
    run.masked.weights.numpy()[:] = model.vector.detach().numpy()
    run.masked.use(mask, 0)
    if run.server is not None:
        run.server.pruning.start()
