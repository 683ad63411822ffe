"""`emojax data labels`: ranks likely label errors by predictions of models that never trained on the images, and writes
them as a table, as a page of pictures, and as corrections that training accepts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

MOST = 200
"""Pictures on the page."""


def main(arguments: list[str]) -> int:
    """Writes the files into OUT and prints the likeliest errors."""
    parser = argparse.ArgumentParser(
        prog="emojax data labels",
        description=__doc__,
        epilog="Train again with --config.data.corrections=OUT/corrections.csv after you have looked at it: a model "
        "that disagrees with a label can be wrong too.",
    )
    parser.add_argument("--folds", required=True, metavar="WORKDIR", help="of a finished emojax kfold")
    parser.add_argument("--out", required=True, help="folder for labels.csv, labels.html and corrections.csv")
    parser.add_argument("--action", default="drop", choices=("drop", "label"), help="what to do (default: drop)")
    parser.add_argument("--share", type=float, default=0.0, help="largest share to correct, 0 = all likely ones")
    options = parser.parse_args(arguments)

    from emojax import label_errors, predictions_csv
    from emojax.data import corrections
    from emojax.errors import ConfigError
    from emojax.files import csv_text, write_text

    if not 0 <= options.share <= 1:
        raise ConfigError(f"--share={options.share}: expected a share between 0 and 1")
    place, folder = Path(options.folds), Path(options.out)
    predictions, names = predictions_csv.read(place / "out-of-fold.csv")
    found = label_errors.find(predictions)
    n, likely = len(found.position), int(found.likely.sum())
    count = min(likely, int(options.share * n)) if options.share else likely
    ids = [str(predictions.id[i]) for i in found.position]
    table: list[list[object]] = [["rank", "id", "given", "suggested", "margin", "likely"]]
    rows = zip(ids, found.given, found.suggested, found.margin, found.likely, strict=True)
    for rank, (name, g, s, margin, sure) in enumerate(rows, 1):
        table.append([rank, name, names[g], names[s], f"{margin:.6f}", int(sure)])
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "labels.csv", csv_text(table))
    values = [names[k] if options.action == "label" else "" for k in found.suggested[:count]]
    chosen = zip(ids, values, strict=False)
    rows_of = [corrections.Row(name, options.action, value, "likely label error") for name, value in chosen]
    corrections.write(folder / "corrections.csv", rows_of)
    pictures = _page(place, folder / "labels.html", predictions, names, found)
    sys.stdout.write(f"{n:,} images, of which {likely:,} ({likely / n:.1%}) are likely mislabelled\n")
    wide = max(map(len, ids[:10]), default=0)
    for name, g, s, m in list(zip(ids, found.given, found.suggested, found.margin, strict=True))[: min(10, likely)]:
        sys.stdout.write(f"  {name:<{wide}}  {names[g]}, rather {names[s]} (margin {m:.2f})\n")
    sys.stdout.write(f"all of them: {folder / 'labels.csv'}{pictures}\n")
    sys.stdout.write(f"{count:,} to {options.action}: {folder / 'corrections.csv'}\n")
    return 0


def _page(place: Path, page: Path, predictions, names, found) -> str:
    """Writes the page of pictures where the data can be opened; returns what to tell about it."""
    from emojax import data, workdir
    from emojax.errors import DataError
    from emojax.report import gallery

    config = workdir.read_config(place / "fold1")
    try:
        dataset = data.open_dataset(config.data, cache=place / "fold1" / "data_check.json")
    except DataError as error:
        sys.stderr.write(f"emojax: no pictures: {error}\n")
        return ""
    where = {str(name): (split, i) for split in dataset.splits.values() for i, name in enumerate(split.id.tolist())}
    cards = [
        gallery.Card(
            record=where[str(predictions.id[i])],
            title=f"{names[s]} ({predictions.probs[i, s]:.0%})",
            text=f"label: {names[g]} ({predictions.probs[i, g]:.0%})",
            id=str(predictions.id[i]),
        )
        for i, g, s in list(zip(found.position, found.given, found.suggested, strict=True))[:MOST]
        if str(predictions.id[i]) in where
    ]
    intro = (
        f"Of {len(found.position):,} images, {int(found.likely.sum()):,} are likely mislabelled; the likeliest first."
    )
    gallery.write(page, title="Likely label errors", intro=intro, groups=[cards])
    return f", {page}"
