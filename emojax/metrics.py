"""How good predictions are: `evaluate` turns `Predictions` into a `Report`. `TrainMetrics` sums up training steps.

The true class of an example is the argmax of its label distribution, the predicted class the argmax of its
probabilities; ties go to the class that comes first. Every count is a sum of example weights, so examples of weight 0
change nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from emojax.errors import ConfigError, DataError
from emojax.train_metrics import TrainMetrics
from emojax.types import Predictions

__all__ = [
    "LOWER_IS_BETTER",
    "NUMBERS",
    "WEAK_F1",
    "ClassNumbers",
    "Report",
    "SliceNumbers",
    "TrainMetrics",
    "check_number",
    "evaluate",
    "headline",
    "per_class",
    "per_example",
    "rank",
    "text",
]

NUMBERS = ("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "top2_accuracy", "loss")
"""Numbers of a `Report` by which checkpoints can be compared (`config.eval.metric`)."""

LOWER_IS_BETTER = frozenset({"loss"})
"""Those of `NUMBERS` of which less is better."""

WEAK_F1 = 0.6
"""A class with a smaller F1 is called weak."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClassNumbers:
    """One class: precision, recall and F1 in [0, 1] (0 where undefined), support = weight of its examples."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int | float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SliceNumbers:
    """The examples that share one value of a slice column."""

    n: int
    accuracy: float
    balanced_accuracy: float
    macro_f1: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All numbers of one split, as plain Python values.

    Attributes:
      class_names: K names; position = class id.
      n: examples with a positive weight.
      weight: sum of their weights; equals `n` when all weights are 1.
      accuracy: share of the weight whose predicted class is the true one.
      balanced_accuracy: mean recall over the classes that have examples.
      macro_f1: mean F1 over the classes that are true or predicted at least once.
      weighted_f1: mean F1 weighted by support.
      top2_accuracy: share of the weight whose true class is among the two most probable.
      loss: mean cross-entropy against the label distribution, nats.
      per_class: K rows.
      confusion: [K][K] weights; rows are true classes, columns predicted ones.
      slices: column -> value -> numbers of those examples.
    """

    class_names: tuple[str, ...]
    n: int
    weight: int | float
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    weighted_f1: float
    top2_accuracy: float
    loss: float
    per_class: tuple[ClassNumbers, ...]
    confusion: tuple[tuple[int | float, ...], ...]
    slices: Mapping[str, Mapping[str, SliceNumbers]] = dataclasses.field(default_factory=dict)

    @property
    def weak_classes(self) -> tuple[str, ...]:
        """Names of the classes that have examples and an F1 below `WEAK_F1`, weakest first."""
        weak = [row for row in self.per_class if row.support > 0 and row.f1 < WEAK_F1]
        return tuple(row.name for row in sorted(weak, key=lambda row: row.f1))

    @property
    def row_percent(self) -> tuple[tuple[float, ...], ...]:
        """[K][K] confusion as percent of each true class; a class without examples has a row of zeros."""
        totals = [sum(row) for row in self.confusion]
        return tuple(
            tuple(100 * cell / total if total else 0.0 for cell in row)
            for row, total in zip(self.confusion, totals, strict=True)
        )

    def number(self, name: str) -> float:
        """The number called `name`, one of `NUMBERS`; any other name raises `ConfigError`."""
        check_number(name)
        return float(getattr(self, name))

    def numbers(self) -> dict[str, float]:
        """{name: value} of all `NUMBERS`."""
        return {name: float(getattr(self, name)) for name in NUMBERS}

    def to_json(self) -> dict[str, Any]:
        """The report in JSON's own types; weights that are whole are written as integers."""
        return {
            "class_names": list(self.class_names),
            "n": self.n,
            "weight": self.weight,
            **self.numbers(),
            "per_class": [dataclasses.asdict(row) for row in self.per_class],
            "weak_classes": list(self.weak_classes),
            "confusion": [list(row) for row in self.confusion],
            "confusion_row_percent": [list(row) for row in self.row_percent],
            "slices": {
                column: {value: dataclasses.asdict(row) for value, row in values.items()}
                for column, values in self.slices.items()
            },
        }


def rank(report: Report, name: str) -> float:
    """What makes one report better than another: the number called `name`, negated where less is better."""
    return -report.number(name) if name in LOWER_IS_BETTER else report.number(name)


def text(number: str) -> str:
    """How a number of a report is spelled in running text: `macro_f1` is macro-F1."""
    return number.replace("_f1", "-F1").replace("_", " ")


def check_number(name: str) -> None:
    """Raises `ConfigError` when `name` is not one of `NUMBERS`."""
    if name not in NUMBERS:
        raise ConfigError(f"config.eval.metric: expected one of {', '.join(NUMBERS)}, found {name!r}")


def evaluate(predictions: Predictions, class_names: tuple[str, ...]) -> Report:
    """Computes every number of one split, in float64.

    Args:
      predictions: probs [N, K], label [N, K], weight [N]; see `Predictions`.
      class_names: K names in label order.

    Raises:
      DataError: the class count differs, probabilities or labels are not finite, or no example has a positive weight.
    """
    kept = _kept(predictions, class_names)
    k = len(class_names)
    probs, label = predictions.probs[kept].astype(np.float64), predictions.label[kept].astype(np.float64)
    weight = predictions.weight[kept].astype(np.float64)
    true, predicted = label.argmax(axis=1), probs.argmax(axis=1)
    confusion = _confusion(true, predicted, weight, k=k)
    precision, recall, f1 = per_class(confusion)
    support = confusion.sum(axis=1)
    total = weight.sum()
    slices = {
        column: _slices(np.asarray(values)[kept], true, predicted, weight, k=k)
        for column, values in predictions.slices.items()
    }
    return Report(
        class_names=tuple(class_names),
        n=len(weight),
        weight=_whole(total),
        **{key: float(value) for key, value in headline(confusion).items()},
        **{key: float((weight * values).sum() / total) for key, values in per_example(probs, label).items()},
        per_class=tuple(
            ClassNumbers(
                name=str(name),
                precision=float(precision[i]),
                recall=float(recall[i]),
                f1=float(f1[i]),
                support=_whole(support[i]),
            )
            for i, name in enumerate(class_names)
        ),
        confusion=tuple(tuple(_whole(cell) for cell in row) for row in confusion),
        slices=slices,
    )


def per_example(probs: np.ndarray, label: np.ndarray) -> dict[str, np.ndarray]:
    """The numbers of a report that are means over examples, top2_accuracy and loss, for each one: float64 [N].

    `probs` and `label` are float64 [N, K].
    """
    true = label.argmax(axis=1)
    top2 = np.argsort(-probs, axis=1, kind="stable")[:, :2]
    # The smallest float32 keeps a probability that underflowed to 0 finite: 87 nats instead of infinity.
    cross_entropy = -(label * np.log(np.maximum(probs, np.finfo(np.float32).tiny))).sum(axis=1)
    return {"top2_accuracy": (top2 == true[:, None]).any(axis=1).astype(np.float64), "loss": cross_entropy}


def _kept(predictions: Predictions, class_names: tuple[str, ...]) -> np.ndarray:
    """Bool [N]: examples of positive weight, after checking that they can be judged."""
    k = predictions.probs.shape[1]
    if k != len(class_names):
        raise DataError(f"predictions have {k} classes, but there are {len(class_names)} class names")
    if not (np.isfinite(predictions.weight).all() and (predictions.weight >= 0).all()):
        raise DataError("example weights must be finite and at least 0")
    kept = predictions.weight > 0
    if not kept.any():
        raise DataError(f"nothing to evaluate: none of the {len(kept)} examples has a positive weight")
    diverged = "; the model has diverged: lower optim.learning_rate or set optim.clip_norm"
    for what, array, advice in (("probabilities", predictions.probs, diverged), ("labels", predictions.label, "")):
        bad = kept & ~np.isfinite(array).all(axis=1)
        if bad.any():
            first = predictions.id[int(bad.argmax())]
            raise DataError(
                f"{what} of {int(bad.sum())} of {int(kept.sum())} examples are NaN or infinite (first: {first}){advice}"
            )
    return kept


def _confusion(true: np.ndarray, predicted: np.ndarray, weight: np.ndarray, *, k: int) -> Float[np.ndarray, "K K"]:
    return np.bincount(true * k + predicted, weights=weight, minlength=k * k).reshape(k, k)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, 0 where whole is 0."""
    return np.divide(part, whole, out=np.zeros_like(part, dtype=np.float64), where=whole > 0)


def per_class(confusion: Float[np.ndarray, "*D K K"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1, float64 [*D, K] each, of confusion matrices."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    predicted, support = confusion.sum(axis=-2), confusion.sum(axis=-1)
    return _ratio(hits, predicted), _ratio(hits, support), _ratio(2 * hits, predicted + support)


def headline(confusion: Float[np.ndarray, "*D K K"]) -> dict[str, Any]:
    """accuracy, balanced_accuracy, macro_f1 and weighted_f1, [*D] each, of confusion matrices that are not all zero."""
    _, recall, f1 = per_class(confusion)
    support = confusion.sum(axis=-1)
    present = support > 0
    seen = present | (confusion.sum(axis=-2) > 0)
    total = confusion.sum(axis=(-2, -1))
    return {
        "accuracy": np.trace(confusion, axis1=-2, axis2=-1) / total,
        "balanced_accuracy": (recall * present).sum(axis=-1) / present.sum(axis=-1),
        "macro_f1": (f1 * seen).sum(axis=-1) / seen.sum(axis=-1),
        "weighted_f1": (f1 * support).sum(axis=-1) / total,
    }


def _slices(
    values: np.ndarray, true: np.ndarray, predicted: np.ndarray, weight: np.ndarray, *, k: int
) -> dict[str, SliceNumbers]:
    """value -> numbers, sorted by value."""
    names, position = np.unique(values.astype(str), return_inverse=True)
    result = {}
    for i, name in enumerate(names):
        chosen = position == i
        confusion = _confusion(true[chosen], predicted[chosen], weight[chosen], k=k)
        found = {key: float(value) for key, value in headline(confusion).items() if key != "weighted_f1"}
        result[str(name)] = SliceNumbers(n=int(chosen.sum()), **found)
    return result


def _whole(value: np.floating | float) -> int | float:
    """An int where the sum of weights is whole (all weights 0 or 1), else a float."""
    return int(value) if float(value).is_integer() else float(value)
