"""``fedmpi COMMAND ...``: one parser, and one place where errors become a line and an exit code.

Exit codes: 0 done, 2 bad configuration or arguments, 75 preempted with a checkpoint, 1 anything else.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from types import ModuleType

from fedmpi import __version__
from fedmpi.cli import launch
from fedmpi.cli.configured import find_modules_of_working_directory
from fedmpi.cli.number_arguments import Parser
from fedmpi.config import ConfigError
from fedmpi.config.errors import BAD_CONFIGURATION, FAILED, one_line
from fedmpi.config.spelling import did_you_mean
from fedmpi.experiment.streams import drop_unwritten, open_closed_streams, take_any_text

_COMMANDS = (
    "run",
    "check",
    "sweep",
    "status",
    "summarize",
    "plot",
    "report",
    "tables",
    "figures",
    "convert",
    "retime",
    "map",
    "verify",
    "presets",
    "export",
    "calibrate",
    "devices",
    "doctor",
    "bench",
    "data",
)
"""Each is a module of this package: its docstring, ``add_arguments`` and ``execute``."""

_EXPECTED = {
    ("fedmpi.learning.datasets", "DataError"): BAD_CONFIGURATION,
    ("fedmpi.emulation.errors", "EmulationError"): BAD_CONFIGURATION,
    ("fedmpi.export", "ExportError"): FAILED,
    ("fedmpi.analysis.runs", "AnalysisError"): BAD_CONFIGURATION,
    ("fedmpi.trace", "TraceError"): FAILED,
    ("fedmpi.checkpoint", "CheckpointError"): FAILED,
    ("fedmpi.mpi.guards", "LaunchError"): FAILED,
    ("builtins", "OSError"): FAILED,
    ("builtins", "MemoryError"): FAILED,
}
"""Errors that are told in one line, by module and name: what was not imported cannot have been raised."""

_NO_NAMES = (errno.ENAMETOOLONG, errno.ELOOP)
"""What the system says of a path that cannot be: nobody but the caller can have named it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. ``arguments`` are those after the program's name."""
    open_closed_streams()
    take_any_text()
    code = _run_command(list(sys.argv[1:] if arguments is None else arguments))
    drop_unwritten()
    return code


def _run_command(given: list[str]) -> int:
    try:
        find_modules_of_working_directory()
        parsed = _parse(given)
        parsed.arguments = given
        code: int = _module_of(parsed.command).execute(parsed)
        return _flushed(code)
    except KeyboardInterrupt:
        return _tell("interrupted", FAILED)
    except BrokenPipeError:  # the reader of our output has gone, as in `fedmpi presets | head -1`
        return FAILED
    except Exception as error:
        code_of_expected = exit_code(error)
        if code_of_expected is None:
            traceback.print_exc()
            return FAILED
        return _tell(str(error), code_of_expected)


def _flushed(code: int) -> int:
    """The exit code once all output is written; that of a failure, with a line, where it cannot be."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        return _tell(f"standard output cannot be written: {error.strerror}", FAILED)
    return code


def exit_code(error: BaseException) -> int | None:
    """The exit code of an error that is told in one line; None for one that needs its traceback."""
    if isinstance(error, ConfigError) or (isinstance(error, OSError) and error.errno in _NO_NAMES):
        return BAD_CONFIGURATION
    for (module, name), code in _EXPECTED.items():
        kind = getattr(sys.modules.get(module), name, None)
        if kind is not None and isinstance(error, kind):
            return code
    return None


def _parse(arguments: list[str]) -> argparse.Namespace:
    """Overrides and paths may stand before, between and after options, which argparse alone does not see.

    A command that comes first is imported alone: what others need, pandas among it, takes as long as the rest of a
    start. Arguments are declared for the command that is asked for alone.
    """
    parser = Parser(prog="fedmpi", description="Federated learning on emulated edge devices, over MPI.")
    parser.add_argument("--version", action="version", version=f"fedmpi {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    options: dict[str, list[str]] = {}
    asked_for = arguments[:1] if arguments and arguments[0] in _COMMANDS else _COMMANDS
    for name in asked_for:
        command = _module_of(name)
        assert command.__doc__ is not None
        summary, *more = command.__doc__.split("\n\n")
        subparser = commands.add_parser(
            name, help=summary, description=summary, epilog=" ".join(more), allow_abbrev=False
        )
        if name in arguments:
            command.add_arguments(subparser)
        options[name] = [text for action in subparser._actions for text in action.option_strings]
    if arguments and not arguments[0].startswith("-") and arguments[0] not in _COMMANDS:
        suggestion = did_you_mean(arguments[0], _COMMANDS)
        raise ConfigError(f"fedmpi {arguments[0]}", f"unknown command{suggestion}", ", ".join(_COMMANDS))
    parsed, rest = parser.parse_known_args(arguments)
    where = f"fedmpi {parsed.command}"
    several = next((name for name in ("overrides", "paths") if hasattr(parsed, name)), None)
    for text in rest:
        if text.startswith("-") or several is None:
            known = options[parsed.command]
            problem = f"unknown argument {text}{did_you_mean(text.partition('=')[0], known)}"
            raise ConfigError(where, problem, ", ".join(known))
    if several is not None:
        setattr(parsed, several, [*getattr(parsed, several), *rest])
    return parsed


def _module_of(command: str) -> ModuleType:
    return import_module(f"fedmpi.cli.{command}")


def _tell(message: str, code: int) -> int:
    """One line on stderr, from one rank."""
    if launch.rank(os.environ) == 0:
        line = one_line(message)
        with suppress(OSError):  # nobody reads it: the exit code says as much
            print(line if line.startswith("fedmpi") else f"fedmpi: {line}", file=sys.stderr, flush=True)
    return code
