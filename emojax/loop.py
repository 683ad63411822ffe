"""What the training loop knows besides arrays; saved with every checkpoint."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from emojax.patience import Patience
from emojax.plateau import Plateau
from emojax.train_metrics import TrainMetrics

_SPLITMIX = (
    (np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)),
    (np.uint64(27), np.uint64(0x94D049BB133111EB)),
    (np.uint64(31), np.uint64(1)),
)
"""(shift, factor) of the finaliser of SplitMix64 (Steele, Lea & Flood 2014, doi:10.1145/2714064.2660195)."""


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
    missing: list[int] = dataclasses.field(default_factory=list)
    """Positions of those that this process has met since the last checkpoint; the others do not know them yet."""
    data_changes: list[str] = dataclasses.field(default_factory=list)
    """When and how the data became others, by resuming with `data.allow_change`."""
    ids: int = 0
    """Digest over (update, record) of all images so far: a sum, to which every process adds those of its own."""
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
    solved: bool = False
    """Whether the last layer has been solved for, see `ModelConfig.head_start`."""
    recent: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Losses and gradient norms of the last updates of the stage, see `spikes.Watch`."""

    def saw(self, step: int, records: np.ndarray) -> None:
        """Adds the batch of update `step`, int32 [B] positions of its records, to `ids`."""
        with np.errstate(over="ignore"):  # arithmetic modulo 2^64 is meant
            mixed = (np.uint64(step) << np.uint64(32)) + records.astype(np.uint32)
            for shift, factor in _SPLITMIX:
                mixed = (mixed ^ (mixed >> shift)) * factor
            self.ids = int(np.uint64(self.ids) + mixed.sum(dtype=np.uint64))

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
