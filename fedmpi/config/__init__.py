"""Typed, frozen configuration: what the keys are, how they are read, checked and written."""

from fedmpi.config.errors import ConfigError
from fedmpi.config.load import load, loads, preset_names, preset_text
from fedmpi.config.schema import Config
from fedmpi.config.validate import (
    validate,
    validate_ranks,
    validate_resume,
    validate_with_data,
    validate_with_model,
)
from fedmpi.config.write import dumps, tables

__all__ = [
    "Config",
    "ConfigError",
    "dumps",
    "load",
    "loads",
    "preset_names",
    "preset_text",
    "tables",
    "validate",
    "validate_ranks",
    "validate_resume",
    "validate_with_data",
    "validate_with_model",
]
