"""Learning rate that drops when a metric stops improving: the one schedule that is no function of the step."""

from __future__ import annotations

import dataclasses

THRESHOLD = 1e-4
"""Relative gain that counts as an improvement, as in torch's ReduceLROnPlateau."""


@dataclasses.dataclass(frozen=True, slots=True)
class Plateau:
    """What is remembered between evaluations; saved with every checkpoint.

    Attributes:
      best: best value so far, None before the first.
      waited: evaluations since then, or since the last drop.
      scale: factor on the learning rate, 1 at the start.
    """

    best: float | None = None
    waited: int = 0
    scale: float = 1.0

    def after(self, value: float, *, lower_is_better: bool, factor: float, patience: int, lowest: float) -> Plateau:
        """The state after one more evaluation: `scale` is multiplied by `factor`, but never below `lowest`, once more
        than `patience` evaluations in a row have brought no improvement."""
        sign = 1.0 if lower_is_better else -1.0
        if self.best is None or sign * value < sign * self.best - THRESHOLD * abs(self.best):
            return Plateau(value, 0, self.scale)
        if self.waited < patience:
            return Plateau(self.best, self.waited + 1, self.scale)
        return Plateau(self.best, 0, max(self.scale * factor, min(lowest, self.scale)))
