"""`emojax probe`: a pretrained network with a new last layer, and nothing else trained."""

from __future__ import annotations

import argparse


def main(arguments: list[str]) -> int:
    """Solves for the last layer, judges it and writes the work directory of a run."""
    parser = argparse.ArgumentParser(
        prog="emojax probe",
        description="Logistic regression on the features of a pretrained network that stays as it is. What it leaves "
        "is a finished run, for predict, evaluate, export and compare.",
        epilog="Of the recipe, the data, the network with its weights, the image size, how pictures are evaluated and "
        "whether they are mirrored count; its stages, sampler, losses, class weights and optimizer do not. "
        "--config.KNOB=VALUE changes it, as for emojax train.",
    )
    parser.add_argument("--config", required=True, metavar="RECIPE.py[:VARIANT]", help="as for emojax train")
    parser.add_argument("--workdir", required=True, help="folder for the model and its report")
    from emojax.cli import runs

    options, overrides = runs.parse(parser, arguments)
    config = runs.knobs(options.config, overrides)

    from absl import logging

    from emojax import probe, train

    logging.set_verbosity(logging.WARNING)  # libraries narrate at INFO; emojax speaks through its monitor
    train.run(probe.config_of(config), options.workdir)
    return 0
