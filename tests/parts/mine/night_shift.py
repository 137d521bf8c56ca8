"""An availability model: even clients by day, odd ones by night, nobody for a while between."""

import numpy as np

from fedmpi.emulation.availability import AvailabilityModel


def shifts(period_s: float = 10.0) -> AvailabilityModel:
    def available(setup, round_index, start_s):
        phase = (start_s % period_s) / period_s
        clients = np.arange(setup.clients)
        if phase < 0.4:
            return clients % 2 == 0
        return (clients % 2 == 1) if 0.5 <= phase < 0.9 else np.zeros(setup.clients, bool)

    def next_s(setup, round_index, start_s):
        begin = start_s - start_s % period_s
        return begin + (0.5 if start_s % period_s < 0.5 * period_s else 1.0) * period_s

    return AvailabilityModel(summary="two shifts", available=available, next_s=next_s)
