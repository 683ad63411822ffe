"""What the HTML page shows of one split, as plain values for the templates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emojax.metrics import NUMBERS, WEAK_F1
from emojax.report import pictures as pictures_lib
from emojax.report.markdown import count, percent
from emojax.report.page import PERCENT, TITLES, shown_bounds
from emojax.report.pictures import Pictures
from emojax.types import Predictions


def split_view(
    name: str,
    content: Mapping[str, Any],
    predictions: Predictions,
    seen: Pictures,
    rows: Sequence[Mapping[str, Any]],
    *,
    judged: int,
) -> dict[str, Any]:
    """What the templates show of one split: `content` of its JSON file, `rows` of metrics.jsonl, and how often the
    run's weights were judged on it, where that is counted."""
    names, confusion = content["class_names"], np.asarray(content["confusion"], np.float64)
    support, chosen = confusion.sum(axis=1), confusion.sum(axis=0)
    matrix = [
        {
            "name": names[i],
            "recall": _share(confusion[i, i], support[i]),
            "first": i == 0,
            "cells": [
                {
                    "key": f"{i},{j}",
                    "predicted": names[j],
                    "n": confusion[i, j],
                    "count": count(confusion[i, j]),
                    "percent": 100 * confusion[i, j] / support[i] if support[i] else 0.0,
                    "right": i == j,
                }
                for j in range(len(names))
            ],
        }
        for i in range(len(names))
    ]
    intervals, classes = content.get("intervals", {}), content.get("class_intervals", ())
    return {
        "name": name,
        "n": content["n"],
        "class_names": names,
        "numbers": [
            {
                "title": TITLES[key],
                "value": number(key, content[key], content["n"]),
                "interval": bounds(key, intervals[key], content["n"]) if key in intervals else "",
                "chosen": key == (content.get("selected_by") or NUMBERS[0]),
            }
            for key in NUMBERS
            if content.get(key) is not None
        ],
        "stamps": _stamps(content, judged, seen.lost),
        "matrix": matrix,
        "precisions": [_share(confusion[j, j], chosen[j]) for j in range(len(names))],
        "has_pictures": bool(seen.small),
        "has_maps": bool(seen.maps),
        "classes": [
            {
                **{key: digits(row[key], content["n"]) for key in ("precision", "recall", "f1")},
                **{
                    f"{key}_interval": limits(classes[i][key], content["n"]) if classes else ""
                    for key in ("precision", "recall", "f1")
                },
                "name": row["name"],
                "support": count(row["support"]),
                "weak": row["support"] > 0 and row["f1"] < WEAK_F1,
                "trend": _trend(rows, i),
            }
            for i, row in enumerate(content["per_class"])
        ],
        "mistakes": [
            {
                "image": seen.small.get(i),
                "map": seen.maps.get(i),
                "predicted": names[predictions.probs[i].argmax()],
                "confidence": percent(float(predictions.probs[i].max())),
                "true": names[predictions.label[i].argmax()],
                "given": percent(float(predictions.probs[i, predictions.label[i].argmax()])),
                "id": predictions.id[i],
            }
            for i in pictures_lib.mistakes(predictions)[: pictures_lib.MISTAKES]
        ],
    }


def places(n: int) -> int:
    """Digits after the point of a number from n images: no more than they can tell."""
    return 2 if n < 1000 else 3


def digits(value: float, n: int) -> str:
    """A score from 0 to 1."""
    return f"{value:.{places(n)}f}"


def limits(pair: Sequence[float | None], n: int) -> str:
    """The interval of such a score; a dash where there is none."""
    known = [digits(value, n) for value in pair if value is not None and math.isfinite(value)]
    return " to ".join(known) if len(known) == 2 else "–"


def number(key: str, value: float, n: int) -> str:
    """A number of the report: percent with one digit, others as scores."""
    return percent(value) if key in PERCENT else digits(value, n)


def bounds(key: str, pair: Sequence[float], n: int) -> str:
    """The interval of such a number."""
    return shown_bounds(key, pair) if key in PERCENT else limits(pair, n)


def _stamps(content: Mapping[str, Any], judged: int, lost: int) -> list[dict[str, str]]:
    """Short marks beside a split's title."""
    stamps = []
    if judged:
        stamps.append(
            {"kind": "good", "text": "judged once"}
            if judged == 1
            else {"kind": "warn", "text": f"judged {judged} times"}
        )
    if leaks := content.get("leak_check"):
        clean = leaks["checked"] and not leaks["leaked"]
        stamps.append({"kind": "good" if clean else "warn", "text": leaks["text"]})
    if lost:
        stamps.append({"kind": "warn", "text": f"{lost:,} image{'s are' if lost > 1 else ' is'} no longer in the data"})
    if skipped := content.get("skipped_count", 0):
        stamps.append({"kind": "warn", "text": f"{skipped:,} unreadable"})
    return stamps


def _trend(rows: Sequence[Mapping[str, Any]], i: int) -> dict[str, str]:
    """F1 of class i at every evaluation on val."""
    values = [
        float(row["class_f1"][i])
        for row in rows
        if row.get("kind") == "eval" and row.get("split") == "val" and len(row.get("class_f1", ())) > i
    ]
    if len(values) < 2:
        return {"points": "", "text": ""}
    at = [(2 + 76 * k / (len(values) - 1), 18 - 16 * value) for k, value in enumerate(values)]
    text = f"from {values[0]:.2f} to {values[-1]:.2f} over {len(values)} evaluations"
    return {"points": " ".join(f"{x:.1f},{y:.1f}" for x, y in at), "text": text}


def cell_pictures(found: Predictions, seen: Pictures) -> dict[str, Any]:
    """Cell of the confusion matrix → its pictures, for the page's script."""
    return {
        f"{i},{j}": {
            "total": len(positions),
            "shown": [
                [str(found.id[p]), percent(float(found.probs[p].max())), seen.small[p]]
                for p in positions
                if p in seen.small
            ],
        }
        for (i, j), positions in pictures_lib.cells(found).items()
    }


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole and math.isfinite(part) else "–"
