"""The options that name a trained model, for every verb that asks one."""

from __future__ import annotations

import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Adds --workdir, --which and --views, the arguments of `emojax.predict.load`."""
    parser.add_argument("--workdir", required=True, help="folder of a training run")
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
