"""The options by which the jobs of `emojax data` name their data: a recipe, or a path."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from emojax.cli import runs

if TYPE_CHECKING:
    from emojax.config import DataConfig

EPILOG = "With --config, --config.KNOB=VALUE changes the recipe, as for emojax train."


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    """Adds --config, --data and PATH; `verb` is what the job does with them, for the help."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", metavar="RECIPE.py[:VARIANT]", help=f"{verb} this recipe's data, as it reads them")
    source.add_argument("--data", metavar="PATH", help=f"{verb} these data: a folder, .csv, .parquet or tfds:NAME")
    source.add_argument("path", nargs="?", metavar="PATH", help="the same as --data=PATH")


def parse(parser: argparse.ArgumentParser, arguments: list[str]) -> tuple[argparse.Namespace, DataConfig]:
    """(options, the data that they name). Raises `ConfigError` for overrides without a recipe."""
    options, overrides = runs.parse(parser, arguments)
    from emojax.config import DataConfig
    from emojax.errors import ConfigError
    from emojax.main import config_from

    options.data = options.data or options.path
    if overrides and options.data:
        raise ConfigError(f"{parser.prog}: {overrides[0]} needs a recipe: give --config instead of --data")
    if options.data:
        return options, DataConfig(path=options.data)
    return options, config_from([f"--config={options.config}", *overrides]).data
