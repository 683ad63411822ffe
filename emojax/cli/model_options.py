"""The options that name a trained model, for every verb that asks one."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(parser: argparse.ArgumentParser) -> None:
    """Adds --workdir, --which and --views, the arguments of `emojax.predict.load`."""
    parser.add_argument("--workdir", required=True, help="folder of a training run, or a bundle of `emojax export`")
    add_choice(parser)


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Adds --which and --views."""
    parser.add_argument(
        "--which",
        default="best",
        help="weights: best (default: the run's result or, before its end, its best checkpoint), last, or the update "
        "of a checkpoint",
    )
    parser.add_argument(
        "--views",
        default="",
        help="test-time views: center, center_crop, flip, six, eight, ten or sixteen; default: as in the run",
    )


def cache(options: argparse.Namespace) -> Path | None:
    """Where what was found about the run's data is kept; a bundle stays as it is."""
    return None if is_bundle(options) else Path(options.workdir) / "data_check.json"


def is_bundle(options: argparse.Namespace) -> bool:
    """Whether --workdir names a bundle."""
    from emojax import bundle

    return bundle.is_bundle(Path(options.workdir))


def refuse_bundle(options: argparse.Namespace, *, instead: str = "name the run's work directory") -> None:
    """Raises `ConfigError` where --workdir names a bundle: what a verb writes belongs into a work directory, and a
    bundle stays as it was signed."""
    from emojax.errors import ConfigError

    if is_bundle(options):
        raise ConfigError(f"--workdir={options.workdir} is a bundle, which stays as it is; {instead}")
