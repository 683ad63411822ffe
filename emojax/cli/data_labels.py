"""`emojax data labels`: ranks likely label errors by predictions of models that never trained on the images, and writes
them as a table, as a page of pictures, and as corrections that training accepts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

MOST = 200
"""Pictures on the page."""

UNUSUAL = 0.2
"""A larger share of wrong labels says more of the models than of the data."""


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
    parser.add_argument("--val", action="store_true", help="correct val too, whose numbers then are of other data")
    options = parser.parse_args(arguments)

    from emojax import label_errors, metrics, predictions_csv
    from emojax.data import corrections
    from emojax.errors import ConfigError
    from emojax.files import csv_text, write_text

    if not 0 <= options.share <= 1:
        raise ConfigError(f"--share={options.share}: expected a share between 0 and 1")
    place, folder = Path(options.folds), Path(options.out)
    predictions, names = predictions_csv.read(place / "out-of-fold.csv")
    found = label_errors.find(predictions)
    n, likely = len(found.position), int(found.likely.sum())
    ids = [str(predictions.id[i]) for i in found.position]
    table: list[list[object]] = [["rank", "id", "given", "suggested", "margin", "likely"]]
    rows = zip(ids, found.given, found.suggested, found.margin, found.likely, strict=True)
    for rank, (name, g, s, margin, sure) in enumerate(rows, 1):
        table.append([rank, name, names[g], names[s], f"{margin:.6f}", int(sure)])
    home = _homes(place)
    homes = [home[name] for name in ids]
    bad = [(homes[i], names[found.suggested[i]]) for i in range(likely) if options.val or homes[i][0] != "val"]
    bad = bad[: int(options.share * n)] if options.share else bad
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "labels.csv", csv_text(table))
    rows_of = [
        corrections.Row(
            "/".join(record), options.action, value if options.action == "label" else "", "likely label error"
        )
        for record, value in bad
    ]
    corrections.write(folder / "corrections.csv", rows_of)
    pictures = _page(place, folder / "labels.html", predictions, names, found)
    sys.stdout.write(f"{n:,} images, of which {likely:,} ({likely / n:.1%}) are likely mislabelled\n")
    of_split = {name: [split == name for split, _ in homes] for name in ("train", "val")}
    sys.stdout.writelines(
        f"  {name}: {sum(mine[:likely]):,} of {sum(mine):,}, {sum(record[0] == name for record, _ in bad):,} to "
        f"{options.action}{'' if options.val or name == 'train' else ' without --val, for it judges the runs'}\n"
        for name, mine in of_split.items()
        if any(mine)
    )
    if likely > UNUSUAL * n:
        right = metrics.evaluate(predictions, names).accuracy
        sys.stderr.write(
            f"emojax: so many wrong labels are unusual: the models are right on {right:.0%}, and their own mistakes "
            "look like wrong labels; correct nothing that you have not looked at\n"
        )
    wide = max(map(len, ids[:10]), default=0)
    for name, g, s, m in list(zip(ids, found.given, found.suggested, found.margin, strict=True))[: min(10, likely)]:
        sys.stdout.write(f"  {name:<{wide}}  {names[g]}, rather {names[s]} (margin {m:.2f})\n")
    sys.stdout.write(f"all of them: {folder / 'labels.csv'}{pictures}\n")
    sys.stdout.write(f"{len(bad):,} to {options.action}: {folder / 'corrections.csv'}\n")
    return 0


def _homes(place: Path) -> dict[str, tuple[str, str]]:
    """Record as the folds call it → (split, name) in the data as they lie, which corrections need."""
    from emojax import workdir
    from emojax.data import formats, splits

    parts = formats.read(workdir.read_config(place / "fold1").data).splits
    train, val = parts["train"], parts.get("val")
    names = (train if val is None else splits.joined(train, val)).id.tolist()
    places = [(split.name, str(name)) for split in (train, val) if split is not None for name in split.id.tolist()]
    return dict(zip(names, places, strict=True))


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
