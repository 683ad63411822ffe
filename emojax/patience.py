"""Early stopping: how long a metric has not improved."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Patience:
    """State of a wait for the next improvement.

    Attributes:
      mark: rank (more is better) that the next improvement must beat; None before the first evaluation.
      waited: evaluations since the last improvement.
    """

    mark: float | None = None
    waited: int = 0

    def after(self, rank: float, *, min_delta: float) -> Patience:
        """The state after an evaluation; less than `min_delta` above the mark is no improvement and leaves the mark."""
        if self.mark is None or rank > self.mark + min_delta:
            return Patience(rank, 0)
        return Patience(self.mark, self.waited + 1)
