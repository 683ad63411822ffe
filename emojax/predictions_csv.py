"""Predictions as a CSV file: for people, and for verbs that combine runs.

Columns: id, weight, true, predicted, then `p:CLASS` for every class in class order; where a label is no single class,
also `t:CLASS`, the label distribution.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from emojax.errors import DataError
from emojax.files import csv_text, write_text
from emojax.types import Predictions


def write(path: Path, predictions: Predictions, class_names: tuple[str, ...]) -> None:
    """Writes the file in one step; probabilities keep the precision of float32."""
    soft = not bool((predictions.label.max(axis=1) == 1).all())
    shares = [f"t:{name}" for name in class_names] if soft else []
    rows: list[list[str]] = [["id", "weight", "true", "predicted", *(f"p:{name}" for name in class_names), *shares]]
    for i in range(len(predictions.weight)):
        label, probs = predictions.label[i], predictions.probs[i]
        names = (class_names[label.argmax()], class_names[probs.argmax()])
        numbers = [f"{value:.9g}" for value in (*probs, *(label if soft else ()))]
        rows.append([predictions.id[i], f"{predictions.weight[i]:.9g}", *names, *numbers])
    write_text(path, csv_text(rows))


def of_run(workdir: Path, split: str) -> tuple[Predictions, tuple[str, ...]]:
    """(predictions, class names) that a finished run has left for `split`. Raises `DataError` when it left none."""
    path = workdir / "report" / f"{split}-predictions.csv"
    if not path.is_file():
        left = [other for other in ("val", "test") if path.with_name(f"{other}-predictions.csv").is_file()]
        why = f"its data have {' and '.join(left)} only" if left else "is it the --workdir of a finished run?"
        raise DataError(f"{workdir}: there are no predictions for {split}; {why}")
    return read(path)


def read(path: Path) -> tuple[Predictions, tuple[str, ...]]:
    """(predictions, class names) of a file that `write` made. Raises `DataError` naming file and line."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; it is written when a run ends")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            titles, *rows = list(csv.reader(file)) or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8: {error}") from error
    names = tuple(title[2:] for title in titles if title.startswith("p:"))
    soft = any(title.startswith("t:") for title in titles)
    if titles[:4] != ["id", "weight", "true", "predicted"] or not names or not rows:
        raise DataError(f"{path}: is not a file of predictions with the columns id, weight, true, predicted, p:CLASS")
    k, number = len(names), {name: i for i, name in enumerate(names)}
    for line, row in enumerate(rows, start=2):
        if len(row) != len(titles) or row[2] not in number:
            raise DataError(f"{path}:{line}: expected {len(titles)} cells and a true class among {', '.join(names)}")
    try:
        values = np.array([row[4:] for row in rows], np.float32)
        weight = np.array([row[1] for row in rows], np.float32)
    except ValueError as error:
        raise DataError(f"{path}: a probability or weight is not a number: {error}") from error
    hard = np.eye(k, dtype=np.float32)[[number[row[2]] for row in rows]]
    label = values[:, k:] if soft else hard
    ids = np.array([row[0] for row in rows], dtype=np.str_)
    return Predictions(probs=values[:, :k], label=label, weight=weight, id=ids), names
