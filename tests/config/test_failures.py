"""What went wrong in a user's code: one line that names the innermost place in a file of the user."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fedmpi.config.failures import described
from fedmpi.config.frozen import FrozenTable

CALLS = {
    "torch": ("Linear(2, 2)(zeros(3))", "RuntimeError: "),
    "fedmpi": ("FrozenTable({})['x']", "KeyError: 'x'"),
    "builtin": ("int('x')", "ValueError: invalid literal"),
}


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], BaseException]:
    """What a user's file raises whose fifth line, two calls deep, is an expression."""

    def make(expression: str) -> BaseException:
        (tmp_path / "my_failing_file.py").write_text(
            f"def outer(*names):\n    return inner(*names)\n\n"
            f"def inner(Linear, zeros, FrozenTable):\n    return {expression}\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "my_failing_file", raising=False)
        from my_failing_file import outer

        with pytest.raises((RuntimeError, KeyError, ValueError)) as caught:
            outer(torch.nn.Linear, torch.zeros, FrozenTable)
        return caught.value

    return make


@pytest.mark.parametrize("name", CALLS)
def test_the_place_is_the_innermost_one_of_the_user(name: str, made: Callable[[str], BaseException]) -> None:
    """Not that of torch or of fedmpi, which it called, nor where it was called from."""
    expression, beginning = CALLS[name]
    text = described(made(expression))
    assert text.startswith(beginning)
    assert text.endswith(" (my_failing_file.py, line 5)")


def test_without_a_place_of_the_user_there_is_none() -> None:
    assert described(ValueError("too\n  large")) == "ValueError: too large"
    assert described(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_long_messages_end_in_dots() -> None:
    assert described(ValueError("x" * 228)) == "ValueError: " + "x" * 228
    assert described(ValueError("x" * 229)) == "ValueError: " + "x" * 225 + "..."
