"""Alternating measurements and what is made of them: medians, ranges and ratios that say "above 1 is better"."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from bench_works import HIGHER_IS_BETTER, Work

Found = TypeVar("Found")


def alternate(ours: Callable[[], Found], peer: Callable[[], Found], *, rounds: int) -> list[tuple[Found, Found]]:
    """[(ours, peer)] of every round. The sides take turns, so that a drift of the machine reaches both."""
    return [(ours(), peer()) for _ in range(rounds)]


def ratio(ours: float, peer: float, unit: str) -> float:
    """How many times better ours is; > 1 is better in every unit. Two zeros are equal."""
    above, below = (ours, peer) if unit in HIGHER_IS_BETTER else (peer, ours)
    if below == 0:
        return 1.0 if above == 0 else math.inf
    return above / below


def record(
    work: Work, pairs: Sequence[tuple[float, float | None]], *, ours: str, peer: str, **detail: Any
) -> dict[str, Any]:
    """The entry of a work in the JSON.

    `ours`, `peer` and `ratio` are medians and their ratio; `..._range` are [min, max], for the ratio over the rounds.
    `ours_variant` and `peer_variant` say what ran. `detail`: further findings, JSON values. A work with a bar on
    "ours" has None for the peer and the ratio, whatever is in `pairs`.
    """
    mine, other, ratios = [a for a, _ in pairs], [], []
    if work.bar_on == "ratio":
        both = [(a, b) for a, b in pairs if b is not None]
        other, ratios = [b for _, b in both], [ratio(a, b, work.unit) for a, b in both]
    middle = statistics.median(mine), statistics.median(other) if other else None
    return {
        "section": work.section,
        "work": work.name,
        "ours": rounded(middle[0]),
        "peer": None if middle[1] is None else rounded(middle[1]),
        "ratio": None if middle[1] is None else rounded(ratio(middle[0], middle[1], work.unit)),
        "unit": work.unit,
        "ours_range": _range(mine),
        "peer_range": _range(other),
        "ratio_range": _range(ratios),
        "rounds": len(pairs),
        "ours_variant": ours,
        "peer_variant": peer if other else "",
        "at_least": work.at_least,
        "aim": work.aim,
        "bar_on": work.bar_on,
        "detail": detail,
    }


def _range(values: Sequence[float]) -> list[float] | None:
    return [rounded(min(values)), rounded(max(values))] if values else None


def rounded(value: float) -> float:
    """Four significant digits."""
    return value if value == 0 or math.isinf(value) else round(value, 3 - math.floor(math.log10(abs(value))))


def verdict(entry: dict[str, Any]) -> str:
    """ "aim", "met" or "missed", or "" where there is no bar. A bar on "ours" is a ceiling."""
    if entry["at_least"] is None:
        return ""
    sign = 1 if entry["bar_on"] == "ratio" else -1
    value = sign * entry[entry["bar_on"]]
    if entry["aim"] is not None and value >= sign * entry["aim"]:
        return "aim"
    return "met" if value >= sign * entry["at_least"] else "missed"


def line(entry: dict[str, Any]) -> str:
    """One line for people: ratio, its spread, and both sides."""
    sides = ", ".join(
        f"{side} {entry[side]:g} [{entry[f'{side}_range'][0]:g} to {entry[f'{side}_range'][1]:g}] "
        f"({entry[f'{side}_variant']})"
        for side in ("ours", "peer")
        if entry[side] is not None
    )
    compared = ""
    if entry["ratio"] is not None:
        low, high = entry["ratio_range"]
        compared = f" ratio {entry['ratio']:.2f} [{low:.2f} to {high:.2f}]"
    return f"{entry['section']}: {entry['work']}:{compared} {verdict(entry)}\n    {entry['unit']}: {sides}"
