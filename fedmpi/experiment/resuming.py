"""What a run goes on from: a checkpoint and a trace that belong together, so that nothing recorded is lost."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedmpi.checkpoint import Checkpoint, CheckpointError, latest_good
from fedmpi.checkpoint.state_folder import folder_of, verify_stored
from fedmpi.checkpoint.store import FOLDER
from fedmpi.config import Config, ConfigError, dumps, loads, validate_resume
from fedmpi.trace import FILE_NAME
from fedmpi.trace.open_file import open_trace, read_attributes
from fedmpi.trace.schema import SCHEMA_VERSION


@dataclass(frozen=True)
class Identity:
    """By what the files of a run know each other: the run's random id, and the digest of its configuration.

    Both stand in the trace's attributes and in the values of every checkpoint, and stay when a run is resumed, also
    with other ends. Runs of fedmpi 0.1.0 have neither: "".
    """

    run_id: str
    config_digest: str

    @classmethod
    def of_new_run(cls, config: Config) -> Identity:
        """An id that no other run has, whatever its seed."""
        digest = hashlib.blake2b(dumps(config).encode(), digest_size=16).hexdigest()
        return cls(uuid.uuid4().hex, digest)

    @classmethod
    def stored_in(cls, values: dict[str, Any]) -> Identity:
        """The identity among the attributes of a trace or the values of a checkpoint."""
        return cls(str(values.get("run_id", "")), str(values.get("config_digest", "")))

    def values(self) -> dict[str, str]:
        """For the attributes of a trace and the values of a checkpoint; ``stored_in`` reads them."""
        return asdict(self)


def find_checkpoint(config: Config, output: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest intact checkpoint in a run folder, and what is wrong with newer ones; None where a run starts anew.

    ConfigError for a folder with recorded rounds and no checkpoint, and for one whose run is of another configuration
    or longer than that of ``config``, or whose trace is of an older schema version, which is not continued;
    CheckpointError for a checkpoint and a trace of two runs; TraceError for a trace that cannot be read.
    """

    def check(found: Checkpoint) -> None:
        if config.clients.state == "disk":
            run_id = Identity.stored_in(found.values).run_id
            verify_stored(folder_of(config, output, run_id), found.server())

    checkpoint, problems = latest_good(output / FOLDER, check)
    path = output / FILE_NAME
    if not path.exists():
        return checkpoint, problems
    with open_trace(path) as file:
        attributes = read_attributes(file)
        committed = attributes["committed_rounds"]
        last_round = int(file["rounds"]["round"][committed - 1]) if committed else -1
    if checkpoint is None:
        if committed:
            raise _nothing_to_go_on_from(output, committed, problems)
        return None, problems
    if (version := attributes["schema_version"]) != SCHEMA_VERSION:
        problem = f"{path} is of schema version {version}, which is read but not continued"
        allowed = "the fedmpi that began the run, --overwrite to discard it, or another --output"
        raise ConfigError("--resume", problem, allowed)
    of_trace, of_checkpoint = Identity.stored_in(attributes), Identity.stored_in(checkpoint.values)
    if of_trace != of_checkpoint:
        raise CheckpointError(
            f"{checkpoint.path}: is of run {of_checkpoint.run_id[:8] or 'without an id'}, but {path} of "
            f"{of_trace.run_id[:8] or 'one without'}: they do not belong together"
        )
    validate_resume(config, loads(attributes["config_toml"], origin=f"the configuration in {path}"))
    rounds = max(last_round + 1, checkpoint.round_index)
    if config.experiment.rounds < rounds:
        problem = f"found {config.experiment.rounds}, but the run to resume has {rounds} rounds already"
        raise ConfigError("experiment.rounds", problem, f"at least {rounds}")
    return checkpoint, problems


def _nothing_to_go_on_from(output: Path, committed: int, problems: list[str]) -> ConfigError:
    found = f"no intact checkpoint ({'; '.join(problems)})" if problems else "no checkpoint"
    return ConfigError(
        "--resume",
        f"{output} holds {committed} recorded rounds and {found} to go on from",
        "--overwrite to discard them, or another --output",
    )
