"""The options by which the jobs of `emojax data` name their data: a recipe, or a path."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from emojax.cli import runs

if TYPE_CHECKING:
    from emojax.config import DataConfig

EPILOG = "--config.data.KNOB=VALUE says how the data are read, with a recipe or without one, as for emojax train."


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    """Adds --config, --data and PATH; `verb` is what the job does with them, for the help."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", metavar="RECIPE.py[:VARIANT]", help=f"{verb} this recipe's data, as it reads them")
    source.add_argument("--data", metavar="PATH", help=f"{verb} these data: a folder, .csv, .parquet or tfds:NAME")
    source.add_argument("path", nargs="?", metavar="PATH", help="the same as --data=PATH")


def parse(parser: argparse.ArgumentParser, arguments: list[str]) -> tuple[argparse.Namespace, DataConfig]:
    """(options, the data that they name). Raises `ConfigError` for knobs that no data have."""
    options, overrides = runs.parse(parser, arguments)
    from emojax.config import Config, DataConfig
    from emojax.errors import ConfigError
    from emojax.main import config_from, with_knobs

    options.data = options.data or options.path
    if options.data:
        if other := [text for text in overrides if not text.startswith("--config.data.")]:
            raise ConfigError(f"{parser.prog}: {other[0]} needs a recipe: --data takes --config.data.KNOB=VALUE only")
        if any(text.startswith("--config.data.path") for text in overrides):
            raise ConfigError(
                f"{parser.prog}: --data and config.data.path both say where the data are; give one of them"
            )
        return options, with_knobs(Config(data=DataConfig(path=options.data)), list(overrides)).data
    return options, config_from([f"--config={options.config}", *overrides]).data
