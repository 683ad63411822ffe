"""From pictures to verdicts: probabilities, post-processing, and what `emojax calibrate` has stored."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emojax.cli.predict_rows import Verdict

if TYPE_CHECKING:
    import numpy as np

    from emojax.predict import Classifier
    from emojax.types import Predictions


@dataclasses.dataclass(frozen=True)
class Judge:
    """`Judge.of(options, classifier)(images)` gives one verdict per image, None where it could not be read."""

    classifier: Classifier
    abstain: bool
    sets: bool
    _post: Callable[[Predictions], Predictions]

    @classmethod
    def of(cls, options: argparse.Namespace, classifier: Classifier) -> Judge:
        """By --post-process, --abstain and --sets. Raises `DataError` when the post-processing cannot be read."""
        from emojax import postprocess

        if not options.post_process:
            return cls(classifier, options.abstain, options.sets, lambda found: found)
        fitted = postprocess.read(Path(options.post_process), classifier.class_names)
        return cls(classifier, options.abstain, options.sets, lambda found: postprocess.apply(fitted, found))

    def __call__(self, images: Sequence[Any]) -> list[Verdict | None]:
        return self.verdicts(self.predict(images)) if images else []

    def predict(self, images: Sequence[Any]) -> Predictions:
        """Probabilities of images as `Classifier.predict` takes them."""
        return self._post(self.classifier.predict(images))

    def verdicts(self, found: Predictions) -> list[Verdict | None]:
        """What is said of probabilities."""
        from emojax import decision

        fitted = self.classifier.decision
        decided = decision.decided(fitted, found) if fitted and (self.abstain or self.sets) else None

        def one(i: int, probs: np.ndarray) -> Verdict:
            unsure = bool(self.abstain and decided and not decided.answered[i])
            return Verdict(probs, unsure, decided.inside[i] if self.sets and decided else None)

        return [one(i, probs) if found.weight[i] else None for i, probs in enumerate(found.probs)]
