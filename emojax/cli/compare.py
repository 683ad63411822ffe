"""`emojax compare`: two finished runs on the same examples, with intervals of what lies between them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Prints what differs, and whether it can be told from chance."""
    parser = argparse.ArgumentParser(prog="emojax compare", description=__doc__)
    parser.add_argument("runs", nargs=2, metavar="RUN", help="work directories of two finished runs")
    parser.add_argument("--split", default="test", help="val or test (default)")
    parser.add_argument("--json", default="", metavar="FILE", help="write the numbers there too")
    options = parser.parse_args(arguments)

    from emojax import comparison, metrics, predictions_csv
    from emojax.cli import runs
    from emojax.errors import DataError
    from emojax.files import write_json

    folders = [Path(name) for name in options.runs]
    (a, names), (b, others) = (predictions_csv.of_run(folder, options.split) for folder in folders)
    if names != others:
        raise DataError(f"the runs have different classes: {', '.join(names)} and {', '.join(others)}")
    found = comparison.compare(a, b, names)
    titles = [
        f"{options.split}, {found.n:,} images",
        *_short(folders),
        "difference",
        "95 % interval",
        "p, all rows together",
        "",
    ]
    rows = [_row(metrics.text(row.name), row) for row in found.numbers] + [
        _row(f"F1 {row.name}", row) for row in found.f1
    ]
    sys.stdout.write(runs.markdown(titles, rows) + "\n\n")
    sys.stdout.write(
        f"Clear: told from chance with all {len(rows)} rows taken together; two equally good models had any clear row "
        "in 5 to 9 of 100 comparisons (docs/evaluation.md). Each interval is of its row alone.\n"
    )
    first, second = _short(folders)
    verdict = (
        "cannot be told from chance"
        if found.p >= 0.05
        else f"{second if found.only_b > found.only_a else first} is right more often"
    )
    sys.stdout.write(
        f"Only {first} is right: {found.only_a:,}; only {second}: {found.only_b:,}. "
        f"McNemar's exact test: p = {found.p:.3g}; {verdict}.\n"
    )
    if options.json:
        write_json(
            Path(options.json), {"a": str(folders[0]), "b": str(folders[1]), "split": options.split, **found.to_json()}
        )
    return 0


def _short(folders: list[Path]) -> list[str]:
    """Names of the runs, with that of the folder above where they are the same."""
    names = [folder.resolve().name for folder in folders]
    return (
        names
        if names[0] != names[1]
        else [f"{f.resolve().parent.name}/{n}" for f, n in zip(folders, names, strict=True)]
    )


def _row(name: str, row) -> list[str]:
    from emojax import comparison

    return [
        name,
        f"{row.a:.4f}",
        f"{row.b:.4f}",
        f"{row.b - row.a:+.4f}",
        f"{row.low:+.4f} to {row.high:+.4f}",
        comparison.shown(row.p),
        "clear" if row.clear else "",
    ]
