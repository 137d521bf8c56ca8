"""The aggregator of a run with its state, which the server alone has."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedmpi.aggregation.interface import Aggregator, State, drop
from fedmpi.pruning.mask import Mask

_PREFIX = "aggregator."
"""What the names of the state's entries begin with in a checkpoint."""


class ServerAggregation:
    """What becomes of the mean of the updates on the server, in coordinates of the whole model.

    ``parameters`` is D. Other ranks than the server know the ``aggregator``, and keep no state.
    """

    def __init__(self, aggregator: Aggregator, parameters: int, is_server: bool) -> None:
        self.aggregator = aggregator
        self.parameters = parameters
        self.state: State = aggregator.init(parameters) if is_server else {}

    def combined(self, updates: NDArray[np.float32], samples: NDArray[np.int64]) -> NDArray[np.float32]:
        """What stands for the ``updates`` (n, d) of accepted clients, in rising order, with their numbers of samples.

        Raises ValueError for an aggregator that makes something of another shape.
        """
        assert self.aggregator.combine is not None
        return self._checked(self.aggregator.combine(updates, samples), updates.shape[1])

    def change(self, mean: NDArray[np.float32], indices: NDArray[np.int32] | None) -> NDArray[np.float32]:
        """One server step: what is subtracted at the coordinates ``indices`` (None: all), of which ``mean`` is given.

        ``mean`` may be overwritten. Raises ValueError for an aggregator that makes a change of another shape.
        """
        if self.aggregator.step is None:
            return mean
        length = len(mean)
        self.state, change = self.aggregator.step(self.state, mean, indices)
        return self._checked(change, length)

    def moving(
        self, values: NDArray[np.float32], indices: NDArray[np.int32], active: NDArray[np.int32] | None
    ) -> tuple[NDArray[np.int32] | None, NDArray[np.float32]]:
        """The coordinates that move where a mean of ``values`` arrived at ``indices`` alone, and the mean of each.

        The same, or all that are ``active`` (int32 rising; None: all there are) where the aggregator is ``dense``.
        """
        if not self.aggregator.dense:
            return indices, values
        whole = np.zeros(self.parameters, np.float32)
        whole[indices] = values
        return active, whole if active is None else whole[active]

    def tried(self, mean: NDArray[np.float32], indices: NDArray[np.int32] | None) -> NDArray[np.float32]:
        """What ``change`` would give, without a step: the state stays, and so does ``mean``."""
        if self.aggregator.step is None:
            return mean
        where = slice(None) if indices is None else indices
        copies = {
            name: np.array(value[where]) if isinstance(value, np.ndarray) else value
            for name, value in self.state.items()
        }
        return self._checked(self.aggregator.step(copies, mean.copy(), None)[1], len(mean))

    def drop(self, mask: Mask) -> None:
        """Go on under ``mask``: the state of what it prunes becomes zero."""
        if not mask.is_full:
            drop(self.state, mask.flags())

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The state for a checkpoint; numbers are arrays without dimensions."""
        return {f"{_PREFIX}{name}": np.asarray(value) for name, value in self.state.items()}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Continue from what ``to_arrays`` gave. Raises ValueError when it is the state of another aggregator."""
        expected = {name: array.shape for name, array in self.to_arrays().items()}
        found = {name: array.shape for name, array in arrays.items()}
        if found != expected:
            raise ValueError(
                f"the checkpoint has {found}, which the aggregator does not keep; it keeps {expected}"
            )
        for name, array in arrays.items():
            self.state[name.removeprefix(_PREFIX)] = array.copy() if array.ndim else array.item()

    def _checked(self, made: NDArray[np.floating], length: int) -> NDArray[np.float32]:
        if np.shape(made) != (length,):
            raise ValueError(f"the aggregator made values of shape {np.shape(made)}, expected is ({length},)")
        return np.asarray(made, dtype=np.float32)
