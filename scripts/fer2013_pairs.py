"""Two runs on the same pictures, with and without those of which training has a near copy."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emojax import combine, comparison, data, predictions_csv
from emojax.config import DataConfig
from emojax.metrics import evaluate
from emojax.types import Predictions

NUMBERS = ("accuracy", "macro_f1", "loss")


def near_copies(config: DataConfig, *, cache: Path) -> frozenset[str]:
    """Ids of the pictures of val that train shows too, by the leak gate; `cache` is a file beside which it keeps what
    it found."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    found = data.open_dataset(dataclasses.replace(config, leak_check=1), cache=cache).leaked
    assert found is not None
    return found["val"]


def numbers(*workdirs: Path, without: frozenset[str]) -> dict[str, Any]:
    """The numbers of a run, or of several runs' mean probabilities, on val without some pictures, and how many are
    left."""
    predictions, classes = _of(workdirs)
    report = evaluate(_left(predictions, without), classes)
    return {"n": report.n} | {name: getattr(report, name) for name in NUMBERS}


def differences(first: Path, *second: Path, without: frozenset[str] = frozenset()) -> dict[str, Any]:
    """{number: [second - first, and its 95 % interval over pictures]} on val, and McNemar's p; `second` as in
    `numbers`."""
    (a, classes), (b, _) = _of((first,)), _of(second)
    pair = comparison.compare(_left(a, without), _left(b, without), classes)
    return {x.name: [x.b - x.a, x.low, x.high] for x in pair.numbers if x.name in NUMBERS} | {"mcnemar_p": pair.p}


def _of(workdirs: Sequence[Path]) -> tuple[Predictions, tuple[str, ...]]:
    found, classes = zip(*(predictions_csv.of_run(workdir, "val") for workdir in workdirs), strict=True)
    if len(found) == 1:
        return found[0], classes[0]
    names = [str(workdir) for workdir in workdirs]
    return combine.combine(found, how="probs", class_names=classes, names=names), classes[0]


def _left(predictions: Predictions, without: frozenset[str]) -> Predictions:
    return predictions.take(np.flatnonzero([name not in without for name in predictions.id]))
