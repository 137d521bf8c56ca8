"""Devices from a table of phones: the ratio of a published benchmark stands for that of training speeds.

The table is AI-Benchmark's (Ignatov et al., "AI Benchmark: All About Deep Learning on Smartphones in 2019", ICCV
Workshops 2019) as a JSON list of rows with ``Model``, ``CPU`` and ``CPU_F_AI_Score``, the score of floating-point
inference on the CPU: the form in which FLASH (Yang et al., WWW 2021) keeps it.
"""

from __future__ import annotations

import json
from pathlib import Path

from fedmpi.config.errors import shortened
from fedmpi.emulation.errors import EmulationError
from fedmpi.emulation.profiles import MEASURED_DEVICE, Device, at_speed, built_in_devices

SCORE = "CPU_F_AI_Score"

MEDIAN_SCORES = {"phone-kirin-970": 1981.5, "phone-snapdragon-835": 1677.0}
"""Median ``CPU_F_AI_Score`` of the phones with the processors of two built-in devices, 6 and 13 rows of the table of
2020 (PKU-Chengxu/FLASH): they tie the scores to the speeds of devices.toml."""

ASSUMPTION = (
    f"assumed: a phone trains as many times faster than a raspberry-pi-4 as its {SCORE} (inference in floating point "
    "on the CPU) is larger than {score:.0f}, the score that goes with a raspberry-pi-4 by the two phones "
    "of which both are known ({low:.0f} and {high:.0f} by either); training on phones was not measured"
)


def raspberry_pi_4_scores() -> tuple[float, ...]:
    """The score of relative speed 1 by each of ``MEDIAN_SCORES``, rising."""
    devices = built_in_devices()
    return tuple(sorted(score / devices[name].relative_speed for name, score in MEDIAN_SCORES.items()))


def raspberry_pi_4_score() -> float:
    """The geometric mean of ``raspberry_pi_4_scores``."""
    low, high = raspberry_pi_4_scores()
    return float((low * high) ** 0.5)


def assumption() -> str:
    """What a table of phones is read by, in one line."""
    low, high = raspberry_pi_4_scores()
    return ASSUMPTION.format(score=raspberry_pi_4_score(), low=low, high=high)


def read_phones(path: Path) -> tuple[Device, ...]:
    """A device for each row of the table at ``path``, in its order; neither links nor powers are known.

    Raises EmulationError that names the file and the row.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise EmulationError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # neither UTF-8 nor JSON, or lists in lists without end
        raise EmulationError(f"{path}: no JSON ({error}); needed: a list of phones") from error
    if not isinstance(rows, list) or not rows:
        raise EmulationError(f"{path}: found {_shown(rows)}; needed: a list of phones")
    return tuple(_phone(row, f"{path}, row {number}") for number, row in enumerate(rows, start=1))


def _phone(row: object, where: str) -> Device:
    if not isinstance(row, dict):
        raise EmulationError(f"{where}: found {_shown(row)}; needed: an object with Model and {SCORE}")
    name = row.get("Model")
    if not isinstance(name, str) or not name.strip():
        raise EmulationError(f"{where}, Model: found {_shown(name)}; needed: the name of a phone")
    given = row.get(SCORE)
    try:
        score = float(given) if isinstance(given, str | int | float) else -1.0
    except (ValueError, OverflowError):
        score = -1.0
    if not 1.0 <= score <= 1e7:
        raise EmulationError(f"{where}, {SCORE}: found {_shown(given)}; allowed: a number from 1 to 1e+07")
    speed = score / raspberry_pi_4_score()
    figures = built_in_devices()[MEASURED_DEVICE].figures
    assert figures is not None
    return Device(name=name.strip(), source=where, relative_speed=speed, figures=at_speed(figures, speed))


def _shown(value: object) -> str:
    return shortened(repr(value))
