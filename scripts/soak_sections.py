"""The sections of docs/reliability.md: what is counted, how often, and in words how."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import soak_runs
from soak_record import Unit
from soak_setting import Setting


@dataclasses.dataclass(frozen=True)
class Section:
    """Attributes:
    units: (setting, number of the first unit) -> units.
    count: how many make the bar.
    what, bar: of the table.
    how: a paragraph.
    """

    units: Callable[[Setting, int], Iterator[Unit]]
    count: int
    what: str
    bar: str
    how: str


SECTIONS = {
    "kills": Section(
        soak_runs.kills,
        300,
        "SIGKILL at random moments",
        "300 / 300 bit-identical",
        "",
    ),
    "interpreters": Section(
        soak_runs.interpreters,
        20,
        "SIGKILL of fresh interpreters",
        "20 / 20 bit-identical",
        "",
    ),
    "signals": Section(
        soak_runs.signals,
        40,
        "SIGTERM in training, evaluation, compilation, saving, and to the group with loader processes",
        "40 / 40 saved, 0 updates lost",
        "",
    ),
}
