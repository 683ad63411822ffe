"""`emojax ensemble`: averages the predictions of several trained models and judges the result."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Prints the numbers of every member and of the ensemble, on the split they share."""
    parser = argparse.ArgumentParser(prog="emojax ensemble", description=__doc__)
    parser.add_argument("workdirs", nargs="+", metavar="WORKDIR", help="folders of finished runs, two or more")
    parser.add_argument("--split", default="val", choices=("val", "test"), help="what is judged (default: val)")
    parser.add_argument("--average", default="probs", choices=("probs", "logits"), help="default: probs")
    parser.add_argument("--out", default="", help="CSV file for the ensemble's predictions; default: only print")
    options = parser.parse_args(arguments)

    from emojax import combine, metrics, predictions_csv
    from emojax.cli import runs
    from emojax.errors import ConfigError

    if len(options.workdirs) < 2:
        raise ConfigError("an ensemble needs two or more runs")
    if len(set(options.workdirs)) < len(options.workdirs):
        raise ConfigError("an ensemble needs different runs; one is named twice")
    places = [Path(name) for name in options.workdirs]
    found = [predictions_csv.read(place / "report" / f"{options.split}-predictions.csv") for place in places]
    predictions, names = [item[0] for item in found], [item[1] for item in found]
    together = combine.combine(predictions, how=options.average, class_names=names, names=options.workdirs)
    judged = [metrics.evaluate(item, names[0]) for item in (*predictions, together)]
    rows = [
        [name, *(f"{100 * report.number(key):.1f}" for key in runs.NUMBERS), f"{report.loss:.4f}", f"{report.n:,}"]
        for name, report in zip([*options.workdirs, "ensemble"], judged, strict=True)
    ]
    titles = [f"on {options.split}", *(f"{key.replace('_', ' ')} %" for key in runs.NUMBERS), "loss", "images"]
    sys.stdout.write(runs.markdown(titles, rows) + "\n")
    if options.out:
        predictions_csv.write(Path(options.out), together, names[0])
    return 0
