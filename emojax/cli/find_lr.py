"""`emojax find-lr`: a learning-rate range test for a recipe, with its plot."""

from __future__ import annotations

import argparse
import functools
import math
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Prints the suggested rate and writes the curve as a picture."""
    parser = argparse.ArgumentParser(
        prog="emojax find-lr",
        description=__doc__,
        epilog="--config.KNOB=VALUE changes the recipe, as for emojax train.",
    )
    parser.add_argument("--config", required=True, metavar="RECIPE.py[:VARIANT]", help="as for emojax train")
    parser.add_argument("--out", default="find-lr.png", help="the picture (default: find-lr.png)")
    parser.add_argument("--batches", type=int, default=100, help="updates (default: 100)")
    parser.add_argument("--low", type=float, default=1e-8, help="first rate (default: 1e-8)")
    parser.add_argument("--high", type=float, default=1.0, help="last rate (default: 1)")
    from emojax.cli import runs

    options, overrides = runs.parse(parser, arguments)

    from emojax import data, figures, lr_finder, parallel, plots, wiring
    from emojax.errors import ConfigError
    from emojax.files import write_bytes
    from emojax.main import config_from
    from emojax.models import pretrained
    from emojax.stages import check_length
    from emojax.validate import validate

    if options.batches < 10 or not 0 < options.low < options.high:
        raise ConfigError("find-lr: expected --batches of 10 or more and 0 < --low < --high")
    knobs = config_from([f"--config={options.config}", *overrides])
    if knobs.model.head_start == "solved":
        raise ConfigError(
            "find-lr: its trial starts from a last layer of noise, which this run does not (model.head_start is "
            "'solved'): the rate would be for another one; give --config.model.head_start=random to see that"
        )
    config = pretrained.resolved(validate(knobs))
    parallel.prepare()
    with parallel.mesh() as mesh:
        wiring.check(config)
        dataset = data.open_dataset(config.data, listed=functools.partial(check_length, config))
        parts = wiring.build(config, dataset, mesh)
        found = lr_finder.search(parts, batches=options.batches, low=options.low, high=options.high)
    figure = plots.rate_finder(found.rates, found.losses, found.smoothed, steepest=found.steepest, lowest=found.lowest)
    write_bytes(Path(options.out), figures.png(figure))
    sys.stdout.write(f"{len(found.rates)} updates, from {found.rates[0]:.1e} to {found.rates[-1]:.1e}\n")
    if math.isnan(found.steepest):
        sys.stdout.write("no suggestion: the loss does not clearly fall; try more --batches\n")
    else:
        sys.stdout.write(
            f"the loss falls fastest at {found.steepest:.1e} and is lowest at {found.lowest:.1e}\n"
            f"suggestion: --config.optim.learning_rate={found.steepest:.1e} (it is {config.optim.learning_rate:.1e})\n"
        )
    sys.stdout.write(f"plot: {options.out}\n")
    return 0
