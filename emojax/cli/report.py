"""`emojax report`: writes the HTML page of a finished run again, from the files that it left; pictures come from its
data, where they are still there."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from emojax.cli import model_options


def main(arguments: list[str]) -> int:
    """Writes WORKDIR/report/report.html and tells where it is."""
    parser = argparse.ArgumentParser(prog="emojax report", description=__doc__)
    parser.add_argument("--workdir", required=True, help="folder of a finished training run")
    parser.add_argument(
        "--previous",
        default="",
        metavar="RUN",
        help="the run to compare with; default: the one beside it that ended last",
    )
    parser.add_argument("--no-pictures", action="store_true", help="leave the images out of the page")
    options = parser.parse_args(arguments)

    from emojax import data, predict
    from emojax.errors import DataError, WorkdirError
    from emojax.report import html
    from emojax.report.pictures import Source

    model_options.refuse_bundle(options)
    folder = Path(options.workdir)
    if not any((folder / "report" / f"{name}.json").is_file() for name in ("val", "test")):
        raise WorkdirError(f"{folder}: there is no report; is it the --workdir of a finished run?")
    source = None
    if not options.no_pictures:
        classifier = predict.load(folder)
        config = classifier.config
        try:
            dataset = data.open_dataset(config.data, cache=folder / "data_check.json")
        except DataError as error:
            sys.stderr.write(f"emojax: the page has no pictures: {error}\n")
        else:
            source = Source(
                splits=dataset.splits,
                image_size=classifier.image_size,
                crop=config.eval.crop,
                fit=config.fit,
                interpolation=config.eval.interpolation,
                explain=classifier.explain,
            )
    previous = Path(options.previous) if options.previous else html.previous_run(folder)
    page = html.write(folder, source=source, previous=previous)
    sys.stdout.write(f"{page} ({page.stat().st_size / 1e6:.1f} MB)\n")
    return 0
