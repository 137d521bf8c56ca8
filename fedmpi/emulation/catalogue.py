"""Devices by name: those of fedmpi, and the user's own."""

from __future__ import annotations

from fedmpi.emulation.errors import unknown_name
from fedmpi.emulation.profiles import Device, built_in_devices
from fedmpi.emulation.user_devices import user_devices


def device_names() -> tuple[str, ...]:
    """The names that ``device`` knows."""
    return (*built_in_devices(), *user_devices())


def device(name: str) -> Device:
    """The device of that name. Raises EmulationError with the nearest spelling for any other name.

    The user's file is read only for names that fedmpi does not have: what is wrong with it is then reported.
    """
    found = built_in_devices().get(name) or user_devices().get(name)
    if found is None:
        allowed = (*device_names(), "a mix of them", "a path/to/devices.csv")
        raise unknown_name("emulation.compute.profile", name, allowed)
    return found
