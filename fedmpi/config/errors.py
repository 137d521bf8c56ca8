"""The one error of configurations and arguments: which key, what was found, what is allowed."""

from __future__ import annotations


class ConfigError(ValueError):
    """A configuration that cannot be run; its text is one line for a reader.

    ``key`` is a dotted path such as ``training.learning_rate`` (shown as ``[training] learning_rate``), or
    any other name of the thing at fault; ``problem`` says what was found there, ``allowed`` what may stand
    there.
    """

    def __init__(self, key: str, problem: str, allowed: str = "") -> None:
        self.key = key
        self.problem = problem
        self.allowed = allowed
        separator = " " if problem.endswith("?") else "; "
        text = f"{shown_key(key)}: {problem}" + (f"{separator}allowed: {allowed}" if allowed else "")
        super().__init__(" ".join(text.split()))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, str, str]]:
        return ConfigError, (self.key, self.problem, self.allowed)


def shown_key(path: str) -> str:
    """``training.learning_rate`` as a TOML reader knows it: ``[training] learning_rate``.

    Only dotted paths of plain words are rewritten: file names keep their dots.
    """
    table, dot, key = path.rpartition(".")
    plain = all(part.isidentifier() for part in path.split("."))
    return f"[{table}] {key}" if dot and plain else path


def shown_value(value: object) -> str:
    """A value as it would stand in TOML, short enough for one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def refusal(key: str, value: object, allowed: str) -> ConfigError:
    """The error of a key whose value is not among the ``allowed``."""
    return ConfigError(key, f"found {shown_value(value)}", allowed)
