"""What went wrong in a user's code, on one line."""

from __future__ import annotations

import traceback
from pathlib import Path

import torch

_LONGEST = 240
_NOT_THEIRS = (Path(torch.__file__).parent, Path(__file__).parent.parent)

ANY_FAILURE = (Exception, SystemExit)
"""What code may raise without being interrupted."""


def described(error: BaseException) -> str:
    """``TypeError: make() takes 1 positional argument (my_model.py, line 7)``, the message shortened.

    The place is the innermost one in a file that is neither torch's nor fedmpi's; it is left out where there is none.
    """
    text = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 3] + "..."
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_file() and not any(path.is_relative_to(folder) for folder in _NOT_THEIRS):
            return f"{text} ({path.name}, line {frame.lineno})"
    return text
