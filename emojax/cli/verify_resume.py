"""`emojax verify-resume`: proves on your own recipe that a killed run loses nothing.

Trains the recipe twice: once left alone, once killed at random moments and started again. Then compares every weight,
optimizer slot, average, metric and record that was seen, to the bit. Exit code 0: the same; 1: something differs.
"""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
import tempfile
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Prints what was done, and the verdict."""
    parser = argparse.ArgumentParser(
        prog="emojax verify-resume",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="--config.KNOB=VALUE changes the recipe, as for emojax train.",
    )
    parser.add_argument("--config", required=True, metavar="RECIPE.py[:VARIANT]", help="as for emojax train")
    parser.add_argument("--kills", type=int, default=5, help="how often to kill (default: 5)")
    parser.add_argument("--epochs", type=float, default=0.0, help="shorten the stages to so many epochs in all")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("--workdir", default="", help="keep both runs in this new folder (default: a temporary one)")
    from emojax.cli import runs

    options, overrides = runs.parse(parser, arguments)

    from emojax import resume
    from emojax.config import Config
    from emojax.errors import ConfigError, WorkdirError

    if options.kills < 1 or options.epochs < 0:
        raise ConfigError("verify-resume: expected --kills of 1 or more and --epochs of 0 or more")
    config: Config = runs.config(options.config, overrides)
    if options.epochs:
        whole = sum(stage.epochs for stage in config.stages)
        factor = min(1.0, options.epochs / whole)
        config.stages = tuple(dataclasses.replace(stage, epochs=stage.epochs * factor) for stage in config.stages)
        config.schedule.warmup_epochs *= factor
        config.eval.every_epochs = min(config.eval.every_epochs, options.epochs / 2)
    say = _say
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by an exception: what runs is killed, folders are removed
    with tempfile.TemporaryDirectory(prefix="emojax-verify-") as temporary:
        folder = Path(options.workdir or temporary)
        if options.workdir:
            runs.make_folder(folder)
        if (folder / "recipe.py").exists():
            raise WorkdirError(f"--workdir={folder} holds the runs of an earlier call; use another one")
        recipe = resume.write_recipe(config, folder)
        say("left alone: training")
        seconds = resume.finish(recipe, folder / "alone")
        say(f"left alone: {seconds:.0f} s")
        done = resume.strike(
            recipe, folder / "killed", kills=options.kills, length=seconds, seed=options.seed, told=say
        )
        seconds = resume.finish(recipe, folder / "killed")
        say(f"killed {len(done)} times, then to its end: {seconds:.0f} s")
        alone = resume.outcome(folder / "alone")
        found = resume.differences(alone, resume.outcome(folder / "killed"))
    if found:
        for line in found[:20]:
            say(f"differs: {line}")
        say(f"NOT the same: {len(found)} differences after {len(done)} kills")
        return 1
    say(
        f"the same to the bit after {len(done)} kills: {len(alone.digests)} arrays of weights, statistics, optimizer "
        f"and averages, {len(alone.rows)} rows of metrics and records, the result"
    )
    return 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
