"""What the training loop knows besides arrays; saved with every checkpoint."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np

from emojax.patience import Patience
from emojax.plateau import Plateau
from emojax.train_metrics import TrainMetrics


@dataclasses.dataclass(slots=True)
class Loop:
    """The loop's own variables, all of them plain JSON."""

    best: float | None = None
    """Best rank so far: the value of `eval.metric`, negated where less is better."""
    patience: dict[str, Any] = dataclasses.field(default_factory=lambda: dataclasses.asdict(Patience()))
    """What early stopping of the run waits for."""
    stage_patience: dict[str, Any] = dataclasses.field(default_factory=lambda: dataclasses.asdict(Patience()))
    """What the stage's own waits for."""
    plateau: dict[str, Any] = dataclasses.field(default_factory=lambda: dataclasses.asdict(Plateau()))
    """State of a learning rate that waits for plateaus; its scale also falls when the run goes back."""
    stopped: bool = False
    """Whether early stopping has ended the run."""
    seconds: float = 0.0
    """Training time over all resumptions."""
    unreadable: list[str] = dataclasses.field(default_factory=list)
    """Training images that could not be read when their turn came, though they could at the start."""
    data_changes: list[str] = dataclasses.field(default_factory=list)
    """When and how the data became others, by resuming with `data.allow_change`."""
    ids: str = ""
    """Digest over the records of all batches so far."""
    totals: list[str] = dataclasses.field(default_factory=list)
    """Training numbers since the last line of the record, where a signal came in between."""
    since: int = 0
    """Update after which `totals` begin."""
    skipped: int = 0
    """Updates up to here that were left out, without a gap."""
    owed: bool = False
    """Whether the evaluation after this very update is still to come: a signal interrupted it."""
    went_back: bool = False
    """Whether the run has gone back to a checkpoint once, because its updates were not finite."""

    def saw(self, records: np.ndarray) -> None:
        """Adds a batch, int32 [B] positions of its records, to `ids`."""
        self.ids = hashlib.blake2b(self.ids.encode() + records.tobytes(), digest_size=8).hexdigest()

    def keep(self, totals: TrainMetrics, since: int, step: int) -> None:
        """Keeps the numbers of the updates from `since` to `step`."""
        self.totals, self.since = (totals.to_json(), since) if since < step else ([], step)
        self.skipped = int(totals.skipped.row)

    def kept(self, step: int) -> tuple[TrainMetrics, int]:
        """(numbers, since) to go on with after `step`, and forgets them."""
        found = TrainMetrics.from_json(self.totals) if self.totals else TrainMetrics.empty().after(self.skipped)
        since = self.since if self.totals else step
        self.totals = []
        return found, since
