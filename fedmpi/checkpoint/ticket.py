"""The mask and the seed of a finished run, from its folder: a lottery ticket."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmpi.checkpoint.contents import stored_mask
from fedmpi.checkpoint.files import CheckpointError
from fedmpi.checkpoint.store import FOLDER, candidates, open_checkpoint
from fedmpi.config import Config, ConfigError, loads
from fedmpi.config.schema import ModelConfig
from fedmpi.pruning.mask import Mask
from fedmpi.trace import FILE_NAME, TraceError
from fedmpi.trace.open_file import open_trace, read_attributes

_ALLOWED = "the folder of a completed run of the same model that pruned it"


@dataclass(frozen=True)
class Ticket:
    """What a finished run leaves: its last mask, and the seed from which its initial weights were made."""

    mask: Mask
    seed: int


def ticket_folder(config: Config) -> Path:
    """The folder that ``pruning.ticket`` names; ``{seed}`` in it stands for ``experiment.seed``."""
    return Path(config.pruning.ticket.replace("{seed}", str(config.experiment.seed)))


def read_ticket(config: Config, parameters: int) -> Ticket:
    """The ticket in ``ticket_folder(config)``, for a model of so many parameters.

    A relative path is one to the working directory. Reads the trace for how the run ended, and the newest checkpoint,
    whose checksums must be right. Raises ConfigError that names the key and what is wrong with the folder.
    """
    folder = ticket_folder(config)
    if not folder.is_dir():
        raise _refusal(f"there is no folder {folder}")
    try:
        with open_trace(folder / FILE_NAME) as file:
            attributes = read_attributes(file)
        stored = loads(attributes["config_toml"], origin=f"the configuration in {folder / FILE_NAME}")
    except (TraceError, ConfigError) as error:
        raise _refusal(str(error)) from error
    _check(folder, attributes, stored, config, parameters)
    found = candidates(folder / FOLDER)
    if not found:
        raise _refusal(f"{folder} has no checkpoint")
    try:
        checkpoint = open_checkpoint(found[0])
        mask = stored_mask(checkpoint.path, checkpoint.server(), parameters)
    except CheckpointError as error:
        raise _refusal(str(error)) from error
    if checkpoint.values.get("run_id", "") != attributes.get("run_id", ""):
        raise _refusal(f"{checkpoint.path} is of another run than {folder / FILE_NAME}")
    if mask is None:
        raise _refusal(f"{checkpoint.path} has no mask")
    return Ticket(mask, stored.experiment.seed)


def _in_words(model: ModelConfig) -> str:
    """The keys of ``[model]`` that are set."""
    options = "".join(f", {name} {value}" for name, value in model.options.items())
    return f"{model.name}, hidden {list(model.hidden)}{options}"


def _check(folder: Path, attributes: dict[str, Any], stored: Config, config: Config, parameters: int) -> None:
    """Refuse a run that is not finished, was of another model, or found no mask of its own."""
    if attributes["status"] != "completed":
        raise _refusal(f"the run in {folder} is {attributes['status']}")
    if stored.model != config.model:
        kinds = (_in_words(model) for model in (stored.model, config.model))
        raise _refusal("the run in {} is of model {}, this one of model {}".format(folder, *kinds))
    if attributes["parameters"] != parameters:
        raise _refusal(
            f"the model of the run in {folder} has {attributes['parameters']} parameters, this one {parameters}"
        )
    if stored.pruning.method in ("none", "lottery_reinit", "lottery_random"):
        raise _refusal(f'the run in {folder} had pruning.method "{stored.pruning.method}", and found no mask')


def _refusal(problem: str) -> ConfigError:
    return ConfigError("pruning.ticket", problem, _ALLOWED)
