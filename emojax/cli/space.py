"""What `emojax sweep` may try: one range or list of values per knob."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from emojax.errors import ConfigError

FORMS = "KNOB=a,b,c (choices), KNOB=LOW..HIGH, KNOB=log:LOW..HIGH or KNOB=int:LOW..HIGH"


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """One of these values, as they are written on the command line."""

    knob: str
    values: tuple[str, ...]

    def draw(self, trial: Any) -> str:
        """Asks an Optuna trial."""
        return trial.suggest_categorical(self.knob, self.values)


@dataclasses.dataclass(frozen=True, slots=True)
class Range:
    """A number between `low` and `high`, ends included; `kind` is "", "log" (even in the logarithm) or "int"."""

    knob: str
    low: float
    high: float
    kind: str

    @property
    def values(self) -> tuple[str, ...]:
        """The two ends, to see whether the knob takes such values."""
        return tuple(self._text(end) for end in (self.low, self.high))

    def draw(self, trial: Any) -> str:
        """Asks an Optuna trial."""
        if self.kind == "int":
            return self._text(trial.suggest_int(self.knob, int(self.low), int(self.high)))
        return self._text(trial.suggest_float(self.knob, self.low, self.high, log=self.kind == "log"))

    def _text(self, value: float) -> str:
        # Six digits: what the table shows is what was trained.
        return f"{int(value)}" if self.kind == "int" else f"{value:.6g}"


def parse(texts: Sequence[str]) -> list[Choice | Range]:
    """The space that these arguments describe. Raises `ConfigError` naming the argument that is none."""
    found: list[Choice | Range] = []
    for text in texts:
        knob, equals, given = text.partition("=")
        if not equals or not knob or not given:
            raise ConfigError(f"{text!r} is no search space: expected {FORMS}")
        kind, colon, ends = given.rpartition(":") if given.startswith(("log:", "int:")) else ("", "", given)
        low, dots, high = ends.partition("..")
        found.append(_range(text, knob, kind, low, high) if dots or colon else _choice(text, knob, given))
    knobs = [part.knob for part in found]
    if doubled := [knob for knob in knobs if knobs.count(knob) > 1]:
        raise ConfigError(f"the search space names {doubled[0]} twice")
    return found


def _choice(text: str, knob: str, given: str) -> Choice:
    values = tuple(given.split(","))
    if "" in values or len(set(values)) < len(values):
        raise ConfigError(f"{text!r}: every choice once, and none empty")
    return Choice(knob, values)


def _range(text: str, knob: str, kind: str, low: str, high: str) -> Range:
    try:
        a, b = float(low), float(high)
    except ValueError:
        raise ConfigError(f"{text!r}: expected numbers, as in {FORMS}") from None
    if not (math.isfinite(a) and math.isfinite(b) and a < b) or (kind == "log" and a <= 0):
        raise ConfigError(f"{text!r}: the low end must be below the high end{', and above 0' if kind == 'log' else ''}")
    if kind == "int" and not (a.is_integer() and b.is_integer()):
        raise ConfigError(f"{text!r}: the ends must be whole numbers")
    return Range(knob, a, b, kind)
