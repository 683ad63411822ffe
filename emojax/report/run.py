"""What a report tells about the run besides its numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One candidate for the result: its name, its step, its numbers on val, and whether it became the result."""

    name: str
    step: int
    numbers: Mapping[str, float]
    chosen: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StageRow:
    """One stage of the run as the evaluations on val saw it.

    Attributes:
      name: of the stage.
      epochs: (first, last) epoch, counted from 1 as papers do.
      last: numbers of the evaluation at its end, {} when it never came to that.
      best: best value of `accuracy` in the stage, NaN without an evaluation.
    """

    name: str
    epochs: tuple[float, float]
    last: Mapping[str, float]
    best: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """Where a result comes from.

    Attributes:
      dataset: short name of the data.
      step: optimizer updates behind the judged weights.
      result: what those weights are, such as "best checkpoint" or "SWA of 5 snapshots".
      when: after what, in words; empty = after update `step`.
      selected_by: number of the report by which they were chosen on `val`; empty = it was not chosen.
      seed: seed of the run.
      views: test-time views whose probabilities were averaged.
      decision: what was done to the probabilities after the model, in words; empty = nothing.
      seconds: time spent training, None where it is not known.
      notes: lines about the data (how the splits were made, attribution).
      skipped: (record id, reason) of every image that could not be read.
      leaked: `Dataset.leaked`.
      command: command line that made the run.
      config_differences: one line per knob that differs from the defaults.
      candidates: what the result was chosen from.
      stages: the stretches of the run.
    """

    dataset: str
    step: int
    result: str
    selected_by: str
    seed: int
    views: str
    decision: str = ""
    when: str = ""
    seconds: float | None = None
    notes: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    leaked: Mapping[str, frozenset[str]] | None = None
    command: str = ""
    config_differences: tuple[str, ...] = ()
    candidates: tuple[Compared, ...] = ()
    stages: tuple[StageRow, ...] = ()
