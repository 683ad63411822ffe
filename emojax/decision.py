"""What is done with a trained model's probabilities: rescaling, adjusting to a prior, abstaining, sets of classes.

All of it is fitted on predictions of a validation split; no other split is ever seen here. A `Decision` lies beside the
weights that it was fitted for, `WORKDIR/model/decision.json`, sealed like a checkpoint's description, and is read by
`predict.load`. Its rescaling is part of the one inference function.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emojax import checkpoint_meta, conformal, files, metrics, scaling, selective
from emojax.conformal import Sets
from emojax.errors import ConfigError, DataError
from emojax.scaling import Scaling
from emojax.types import Predictions

FILE = "decision.json"
TAUS = tuple(round(0.05 * i, 2) for i in range(41))
"""Strengths of the logit adjustment that are tried: 0 is none, 1 makes all classes equally probable."""
FOLDS = 5
"""Of the cross-fitted numbers."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a decision shall be like.

    Attributes:
      method: of `scaling.METHODS`, or "auto": the one of least cross-fitted cross-entropy.
      target: number of a report that the logit adjustment maximises; "" = tau is given.
      tau: strength of the adjustment where there is no target.
      risk: wanted share of wrong answers when unsure pictures are not answered; 0 = all are answered.
      coverage: of the sets of classes.
      kind: of the sets, see `conformal.SCORES`.
    """

    method: str = "auto"
    target: str = ""
    tau: float = 0.0
    risk: float = 0.0
    coverage: float = 0.9
    kind: str = "lac"

    def __post_init__(self) -> None:
        if self.method not in ("auto", *scaling.METHODS):
            raise ConfigError(f"--scaling={self.method}: expected auto, {', '.join(scaling.METHODS)}")
        if self.target and self.target not in metrics.NUMBERS:
            raise ConfigError(f"--target={self.target}: expected one of {', '.join(metrics.NUMBERS)}")
        if self.target and self.tau:
            raise ConfigError("--target chooses tau itself; give one of the two")
        if not 0 <= self.tau <= TAUS[-1]:
            raise ConfigError(f"--tau={self.tau:g}: expected 0 to {TAUS[-1]:g}")
        if not 0 <= self.risk < 1:
            raise ConfigError(f"--risk={self.risk:g}: expected a share of wrong answers, 0 (answer all) to 1")
        if not 0 < self.coverage < 1:
            raise ConfigError(f"--coverage={self.coverage:g}: expected a number between 0 and 1")
        if self.kind not in conformal.SCORES:
            raise ConfigError(f"--sets={self.kind}: expected one of {', '.join(conformal.SCORES)}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A fitted decision.

    Attributes:
      scaling: of the probabilities, the logit adjustment included.
      method, tau: how it came about.
      threshold: least confidence of an answer, after scaling; 0 = everything is answered.
      risk: that the threshold was made for; 0 = none.
      sets: of classes, on probabilities after scaling.
    """

    scaling: Scaling
    method: str
    tau: float
    threshold: float
    risk: float
    sets: Sets

    def text(self) -> str:
        """In a few words, for logs and reports."""
        parts = [{"none": "no scaling", "temperature": "temperature"}.get(self.method, f"{self.method} scaling")]
        if self.method == "temperature":
            parts[0] += f" {1 / self.scaling.scale[0]:.3f}"
        parts += [f"logit adjustment tau {self.tau:g}"] if self.tau else []
        parts += [f"no answer below a confidence of {self.threshold:.3f}"] if self.threshold else []
        return ", ".join([*parts, f"{100 * self.sets.coverage:g} % sets ({self.sets.kind})"])


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a decision makes of N predictions: rescaled, whether each is answered [N], and the sets [N, K]."""

    predictions: Predictions
    answered: np.ndarray
    inside: np.ndarray


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One strength of the logit adjustment and its numbers."""

    tau: float
    accuracy: float
    balanced_accuracy: float
    macro_f1: float


def fit(predictions: Predictions, wish: Wish, *, prior: np.ndarray) -> Decision:
    """The decision that comes nearest to a wish on the predictions of a validation split.

    Args:
      predictions: of the validation split, as the model gives them. The threshold and the sets are fitted on what
        they would be if each example had been rescaled by a map that was fitted on others: a map with two numbers per
        class makes the examples that it was fitted on look better than new ones, and sets too small.
      wish: what is wanted.
      prior: [K] how much each class counted in training, for tau; vector scaling has put its own in its place.

    Raises:
      DataError: the predictions cannot be used, or the wanted risk cannot be promised.
    """
    method = scaling.choose(predictions, folds=FOLDS)[0] if wish.method == "auto" else wish.method
    scaled, tau = scaling.fit(predictions, method=method), wish.tau
    prior = scaling.prior(predictions, method=method, trained=prior)
    if wish.target:
        names = tuple(map(str, range(predictions.probs.shape[1])))
        ranks = [
            metrics.rank(metrics.evaluate(scaling.apply(scaled.adjusted(prior, t), predictions), names), wish.target)
            for t in TAUS
        ]
        tau = TAUS[int(np.argmax(ranks))]

    def rescaled(fitted: Predictions, held: Predictions) -> Predictions:
        found = scaling.fit(fitted, method=method)
        return scaling.apply(found.adjusted(prior, tau) if tau else found, held)

    moved = method != "none" or tau
    fair = scaling.cross_fitted(predictions, rescaled, folds=FOLDS, seed=2) if moved else predictions
    return Decision(
        scaling=scaled.adjusted(prior, tau) if tau else scaled,
        method=method,
        tau=tau,
        threshold=selective.threshold(fair, risk=wish.risk) if wish.risk else 0.0,
        risk=wish.risk,
        sets=conformal.fit(fair, kind=wish.kind, coverage=wish.coverage),
    )


def outcome(decision: Decision, predictions: Predictions) -> Outcome:
    """What the decision makes of predictions as the model gives them."""
    return decided(decision, scaling.apply(decision.scaling, predictions))


def decided(decision: Decision, rescaled: Predictions) -> Outcome:
    """The same for probabilities that are rescaled already, as those of a `predict.Classifier` with a decision are."""
    return Outcome(
        predictions=rescaled,
        answered=rescaled.probs.max(axis=1) >= decision.threshold,
        inside=conformal.members(decision.sets, rescaled),
    )


def cross_fitted(predictions: Predictions, wish: Wish, *, prior: np.ndarray) -> Outcome:
    """Each example's outcome, in their order, by a decision that was fitted, with all choices, on the other folds.

    A fold on whose others the risk cannot be promised is not answered at all.
    """
    parts = []
    for fitted, held in scaling.split(predictions, folds=FOLDS, seed=1):
        try:
            found = fit(fitted, wish, prior=prior)
        except DataError:
            if not wish.risk:
                raise
            all_answered = fit(fitted, dataclasses.replace(wish, risk=0.0), prior=prior)
            found = dataclasses.replace(all_answered, threshold=math.inf)
        parts.append(outcome(found, held))
    order = scaling.order(predictions, folds=FOLDS, seed=1)
    return Outcome(
        predictions=scaling.joined([p.predictions for p in parts]).take(order),
        answered=np.concatenate([p.answered for p in parts])[order],
        inside=np.concatenate([p.inside for p in parts])[order],
    )


def frontier(predictions: Predictions, scaled: Scaling, *, prior: np.ndarray) -> tuple[Point, ...]:
    """Accuracy against mean-class accuracy over `TAUS`, from a scaling without adjustment; nothing is fitted."""
    names, points = tuple(map(str, range(predictions.probs.shape[1]))), []
    for tau in TAUS:
        found = metrics.evaluate(scaling.apply(scaled.adjusted(prior, tau), predictions), names)
        numbers = {name: getattr(found, name) for name in ("accuracy", "balanced_accuracy", "macro_f1")}
        points.append(Point(tau=tau, **numbers))
    return tuple(points)


def write(
    workdir: Path, decision: Decision, *, class_names: Sequence[str], weights: str, views: str, fitted_on: str
) -> Path:
    """Stores the decision with the run's result; returns the file.

    Args:
      workdir: of a finished run.
      decision: what is stored.
      class_names: in the order of its numbers.
      weights: digest of the weights that it is for, `weights_digest`.
      views: test-time views that it is for.
      fitted_on: the examples it was fitted on, in words.
    """
    limit = decision.sets.limit
    values = {
        "class_names": list(class_names),
        "weights": weights,
        "views": views,
        "fitted_on": fitted_on,
        **dataclasses.asdict(decision),
        "sets": {**dataclasses.asdict(decision.sets), "limit": "inf" if math.isinf(limit) else limit},
    }
    values = files.parse_json(json.dumps(values))
    files.write_json(path := file(workdir), {**values, "seal": checkpoint_meta.seal(values)})
    return path


def file(workdir: Path) -> Path:
    """Where a decision lies in a work directory: with the run's result."""
    from emojax import checkpoint  # brings Orbax, which who opens a bundle does not wait for

    return workdir / checkpoint.RESULT / FILE


def stored(workdir: Path) -> Any:
    """What lies stored with a run's result, for `parse`; None = nothing.

    Raises `DataError` when the file is not JSON."""
    if not (path := file(workdir)).is_file():
        return None
    try:
        return files.parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: is not a calibration of this emojax ({error!r}); {_redo(workdir)}") from error


def parse(
    values: Any, workdir: Path, *, class_names: Sequence[str], weights: str, views: str
) -> tuple[Decision | None, str]:
    """(the decision stored for these weights and views, why there is none although one is stored).

    Args:
      values: what `stored` gave.
      workdir: where it came from, for messages.
      class_names: of the model.
      weights: digest of its weights, `weights_digest`.
      views: its test-time views.

    Raises:
      DataError: it is not what was written, or is for other classes.
    """
    if values is None:
        return None, ""
    path, redo = f"{workdir}: {FILE}", _redo(workdir)
    try:
        values = dict(values)
        seal = values.pop("seal")
        if seal != checkpoint_meta.seal(values):
            raise DataError(f"{path} has been changed since it was written; {redo}")
        if values["class_names"] != list(class_names):
            raise DataError(f"{path} is for the classes {', '.join(values['class_names'])}; {redo}")
        if values["weights"] != weights:
            return None, "the stored calibration is for other weights and is left out"
        if values["views"] != views:
            return None, f"the stored calibration is for the views {values['views']} and is left out"
        return _decision(values), ""
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path}: is not a calibration of this emojax ({error!r}); {redo}") from error


def read(workdir: Path, *, class_names: Sequence[str], weights: str, views: str) -> tuple[Decision | None, str]:
    """`parse` of what is `stored`."""
    return parse(stored(workdir), workdir, class_names=class_names, weights=weights, views=views)


def for_weights(values: Mapping[str, Any], weights: str) -> dict[str, Any]:
    """What `stored` gave, sealed for the same weights under another digest: those of a bundle."""
    values = {key: value for key, value in values.items() if key != "seal"} | {"weights": weights}
    return values | {"seal": checkpoint_meta.seal(values)}


def _redo(workdir: Path) -> str:
    return f"run `emojax calibrate --workdir={workdir}` again"


def remove(workdir: Path) -> bool:
    """Removes the stored decision; whether there was one."""
    found = (path := file(workdir)).is_file()
    path.unlink(missing_ok=True)
    return found


def weights_digest(digests: Mapping[str, str]) -> str:
    """One digest for the weights of a model out of those of its arrays, `checkpoint_meta.Meta.digests`."""
    return checkpoint_meta.seal({p: d for p, d in digests.items() if p.startswith(("params/", "model_state/"))})


def _decision(values: Mapping[str, Any]) -> Decision:
    scaled, sets = values["scaling"], values["sets"]
    return Decision(
        scaling=Scaling(tuple(map(float, scaled["scale"])), tuple(map(float, scaled["bias"]))),
        method=str(values["method"]),
        tau=float(values["tau"]),
        threshold=float(values["threshold"]),
        risk=float(values["risk"]),
        sets=Sets(str(sets["kind"]), float(sets["coverage"]), float(sets["limit"])),
    )
