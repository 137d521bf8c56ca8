"""The one error of configurations and arguments: which key, what was found, what is allowed."""

from __future__ import annotations

from collections.abc import Mapping

DONE, FAILED, BAD_CONFIGURATION, PREEMPTED = 0, 1, 2, 75
"""Exit codes of all commands; 75: a run was stopped, with a checkpoint."""

_MOST_CHARACTERS = 60
_MOST_OF_KEY = 200


class ConfigError(ValueError):
    """A configuration that cannot be run; its text is one line for a reader.

    ``key`` is a dotted path such as ``training.learning_rate`` (shown as ``[training] learning_rate``), or
    any other name of the thing at fault but that of a file; ``problem`` says what was found there, ``allowed``
    what may stand there. ``within`` names the file, sweep or run that it stands in, and is shown as it is; where
    the whole file is at fault, ``key`` is empty.
    """

    def __init__(self, key: str, problem: str, allowed: str = "", *, within: str = "") -> None:
        self.key = key
        self.problem = problem
        self.allowed = allowed
        self.within = within
        place = ": ".join(part for part in (within, shortened(shown_key(key), _MOST_OF_KEY)) if part)
        separator = " " if problem.endswith("?") else "; "
        super().__init__(
            one_line(f"{place}: {problem}" + (f"{separator}allowed: {allowed}" if allowed else ""))
        )

    def inside(self, place: str) -> ConfigError:
        """The same error, with the ``place`` (a file, a sweep, a run) in which it was found before it."""
        within = f"{place}: {self.within}" if self.within else place
        return ConfigError(self.key, self.problem, self.allowed, within=within)

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (self.key, self.problem, self.allowed, self.within)


def _restored(key: str, problem: str, allowed: str, within: str) -> ConfigError:
    return ConfigError(key, problem, allowed, within=within)


def one_line(text: str) -> str:
    """``text`` on one line that any terminal can show: other characters as ``\\x1b``, ``\\udcff``, ..."""
    line = " ".join(text.split())
    return line if line.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def shown_key(path: str) -> str:
    """``training.learning_rate`` as a TOML reader knows it: ``[training] learning_rate``.

    Only dotted paths of plain words are rewritten.
    """
    table, dot, key = path.rpartition(".")
    plain = all(part.isidentifier() for part in path.split("."))
    return f"[{table}] {key}" if dot and plain else path


def shown_value(value: object) -> str:
    """A value as it would stand in TOML, short enough for one line."""
    try:
        return shortened(_toml(value))
    except ValueError:  # Python writes no integers of more than 4300 digits
        return "a number of thousands of digits"


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key} = {_toml(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def shortened(text: str, most: int = _MOST_CHARACTERS) -> str:
    """``text``, its end left out where it has more than ``most`` characters."""
    return text if len(text) <= most else text[: most - 3] + "..."


def refusal(key: str, value: object, allowed: str) -> ConfigError:
    """The error of a key whose value is not among the ``allowed``."""
    return ConfigError(key, f"found {shown_value(value)}", allowed)
