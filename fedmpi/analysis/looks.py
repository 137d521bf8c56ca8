"""How methods and parts of a round look in every figure, and what bands around lines mean."""

from __future__ import annotations

from collections.abc import Iterable

# Okabe and Ito's palette: distinct for colour-blind readers too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 3)))
"""Lines differ by dashes too: colours alone do not carry everywhere."""
HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo")
"""Of areas, for the same reason."""

PARTS = {"download_s": "download", "compute_s": "compute", "upload_s": "upload", "wait_s": "wait"}
"""What a participant does in a round, in this order: columns of the table ``clients``."""

WAIT = "#D9D9D9"
"""The colour of waiting; the other parts have the first ones of COLOURS."""

BANDS = {
    "ci": "bootstrap 95 % interval of the mean",
    "range": "lowest to highest",
    "std": "mean plus and minus the standard deviation (n - 1)",
    "none": "",
}
"""What a band around the mean over seeds shows, and how it is named."""


class Styles:
    """Colour and dashes for each label: those of ``names`` in every figure the same, others what is left."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._places = {name: place for place, name in enumerate(names)}

    def __call__(self, label: str) -> tuple[str, object]:
        place = self._places.setdefault(label, len(self._places))
        turn = place // len(COLOURS)
        return COLOURS[place % len(COLOURS)], LINES[(place + turn) % len(LINES)]
