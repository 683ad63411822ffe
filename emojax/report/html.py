"""The report as one HTML page that needs nothing else: no network, no other file."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from emojax import __version__, config_json, environment, figures, jsonl, plots, predictions_csv, workdir
from emojax.files import write_text
from emojax.metrics import NUMBERS, WEAK_F1
from emojax.progress import duration
from emojax.report import pictures as pictures_lib
from emojax.report.markdown import count, percent
from emojax.report.page import MOST, PERCENT, TITLES, shown
from emojax.report.pictures import Pictures
from emojax.types import Predictions

COLOURS = {
    plots.INK: "var(--ink)", plots.MUTED: "var(--muted)", plots.RULE: "var(--rule)", plots.BLUE: "var(--blue)",
    plots.SKY: "var(--sky)", plots.VERMILION: "var(--vermilion)", plots.GREEN: "var(--green)",
    plots.ORANGE: "var(--orange)", "#ffffff": "var(--paper)", "#000000": "var(--ink)",
}  # fmt: skip
"""Colours of the figures → names in the page's style sheet, which has two sets of them."""

PAGE = "report.html"


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: anchor, title, and HTML that is already escaped."""

    id: str
    title: str
    html: str


def write(folder: Path, *, source: pictures_lib.Source | None, previous: Path | None = None) -> Path:
    """Writes FOLDER/report/report.html from the files that the run has left there; returns its path.

    Args:
      folder: work directory of a run whose report/ has been written.
      source: where pictures come from; None = a page without pictures.
      previous: work directory of another run, to tell what is different.
    """
    report = folder / "report"
    splits = {}
    for name in ("test", "val"):
        if content := _json(report / f"{name}.json"):
            predictions, _ = predictions_csv.read(report / f"{name}-predictions.csv")
            seen = source.of(predictions, name) if source and name in source.splits else Pictures({})
            splits[name] = (content, predictions, seen)
    rows = jsonl.read(folder / "metrics.jsonl")
    write_text(report / PAGE, _Page(folder, splits, rows, previous).html())
    return report / PAGE


def previous_run(folder: Path) -> Path | None:
    """The run beside this one that ended last, on data of the same name; None where there is none."""
    beside = [path for path in folder.resolve().parent.glob(f"*/{workdir.FINISHED}") if path.parent != folder.resolve()]
    for path in sorted(beside, key=lambda path: path.stat().st_mtime, reverse=True):
        if _dataset(path.parent) == _dataset(folder):
            return path.parent
    return None


def _dataset(folder: Path) -> str:
    contents = [_json(folder / "report" / f"{name}.json") for name in ("test", "val")]
    return next((content["dataset"] for content in contents if content), "")


def _json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; {} where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


class _Page:
    """The page of one run, section by section."""

    def __init__(
        self,
        folder: Path,
        splits: Mapping[str, tuple[dict[str, Any], Predictions, Pictures]],
        rows: Sequence[Mapping[str, Any]],
        previous: Path | None,
    ) -> None:
        import jinja2

        # Every value is escaped unless a template says otherwise; templates say so for style, script and figures only.
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("emojax.report"), autoescape=True, undefined=jinja2.StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        self._macros: Any = self._templates.get_template("sections.html").module
        self._folder, self._rows, self._previous = folder, rows, previous
        self._contents = {name: content for name, (content, _, _) in splits.items()}
        self._splits = {name: self._split(name, *parts) for name, parts in splits.items()}
        self._predictions = {name: found for name, (_, found, _) in splits.items()}
        self._pictures = {name: seen for name, (_, _, seen) in splits.items()}

    def html(self) -> str:
        """The whole page."""
        made = [
            ("numbers", "Numbers", self._macros.headline(list(self._splits.values()), self._notes())),
            ("confusion", "Confusion matrix", self._tabbed("confusion", self._macros.matrix)),
            ("classes", "Classes", self._tabbed("classes", self._macros.classes)),
            ("mistakes", "Surest mistakes", self._tabbed("mistakes", self._macros.mistakes)),
            ("slices", "Slices", self._slices()),
            ("training", "Training", self._training()),
            ("data", "Data", self._data()),
            ("how", "How it was made", self._how()),
            ("previous", "Against the run before", self._against()),
        ]
        sections = [Section(*part) for part in made if str(part[2]).strip()]
        first = next(iter(self._contents.values()))
        config = _json(self._folder / workdir.CONFIG)
        run = {
            **{key: first[key] for key in ("dataset", "result", "step", "selected_by", "command")},
            "model": config.get("model", {}).get("name", "model"),
            "image_size": first.get("image_size") or config.get("image_size", "?"),
            "version": __version__,
        }
        return self._templates.get_template("page.html").render(
            title=f"{run['dataset']}: report",
            run=run,
            sections=sections,
            cells={name: self._cells(name) for name in self._splits},
            style=_file("style.css"),
            script=_file("page.js"),
        )

    def _tabbed(self, name: str, macro: Callable[..., Any]) -> Any:
        return self._macros.tabbed(name, [(split["name"], macro(split)) for split in self._splits.values()])

    def _split(self, name: str, content: dict[str, Any], predictions: Predictions, seen: Pictures) -> dict[str, Any]:
        """What the templates show of one split."""
        names, confusion = content["class_names"], np.asarray(content["confusion"], np.float64)
        rows, columns = confusion.sum(axis=1), confusion.sum(axis=0)
        matrix = [
            {
                "name": names[i],
                "recall": _share(confusion[i, i], rows[i]),
                "first": i == 0,
                "cells": [
                    {
                        "key": f"{i},{j}",
                        "predicted": names[j],
                        "n": confusion[i, j],
                        "count": count(confusion[i, j]),
                        "percent": 100 * confusion[i, j] / rows[i] if rows[i] else 0.0,
                        "right": i == j,
                    }
                    for j in range(len(names))
                ],
            }
            for i in range(len(names))
        ]
        intervals = content.get("intervals", {})
        return {
            "name": name,
            "n": content["n"],
            "class_names": names,
            "numbers": [
                {
                    "title": TITLES[key],
                    "value": shown(key, content[key]),
                    "interval": " to ".join(shown(key, x) for x in intervals[key]) if key in intervals else "",
                }
                for key in NUMBERS
                if content.get(key) is not None
            ],
            "stamps": self._stamps(content),
            "matrix": matrix,
            "precisions": [_share(confusion[j, j], columns[j]) for j in range(len(names))],
            "has_pictures": bool(seen.small),
            "has_maps": bool(seen.maps),
            "classes": [
                {
                    **{key: f"{row[key]:.3f}" for key in ("precision", "recall", "f1")},
                    "name": row["name"],
                    "support": count(row["support"]),
                    "weak": row["support"] > 0 and row["f1"] < WEAK_F1,
                    "trend": self._trend(i),
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

    def _stamps(self, content: Mapping[str, Any]) -> list[dict[str, str]]:
        """Short marks beside a split's title."""
        skipped = content.get("skipped_count", 0)
        return [{"kind": "warn", "text": f"{skipped:,} unreadable"}] if skipped else []

    def _trend(self, i: int) -> dict[str, str]:
        """F1 of class i at every evaluation on val."""
        values = [
            float(row["class_f1"][i])
            for row in self._rows
            if row.get("kind") == "eval" and row.get("split") == "val" and len(row.get("class_f1", ())) > i
        ]
        if len(values) < 2:
            return {"points": "", "text": ""}
        at = [(2 + 76 * k / (len(values) - 1), 18 - 16 * value) for k, value in enumerate(values)]
        text = f"from {values[0]:.2f} to {values[-1]:.2f} over {len(values)} evaluations"
        return {"points": " ".join(f"{x:.1f},{y:.1f}" for x, y in at), "text": text}

    def _cells(self, name: str) -> dict[str, Any]:
        """Cell → its pictures, for the page's script."""
        found, seen = self._predictions[name], self._pictures[name]
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

    def _slices(self) -> Any:
        parts = []
        for name, content in self._contents.items():
            tables = []
            for column, values in content.get("slices", {}).items():
                largest = sorted(values.items(), key=lambda item: -item[1]["n"])[:MOST]
                rows = [
                    (
                        value,
                        f"{s['n']:,}",
                        percent(s["accuracy"]),
                        percent(s["balanced_accuracy"]),
                        f"{s['macro_f1']:.3f}",
                    )
                    for value, s in largest
                ]
                titles = [column, "Images", "Accuracy", "Balanced accuracy", "Macro-F1"]
                tables.append(self._macros.table(titles, rows, sortable=True))
            if tables:
                parts.append((name, _joined(tables)))
        return self._macros.tabbed("slices", parts) if parts else ""

    def _training(self) -> Any:
        history = jsonl.history(self._folder / "metrics.jsonl")
        speed = [row for row in self._rows if row.get("kind") == "speed"]
        drawn = [("history", "Loss, accuracy, learning rate and accuracy gap over the epochs", plots.history(history))]
        if speed:
            drawn.append(("speed", "Images per second and waiting for data over the epochs", plots.throughput(speed)))
        return self._macros.charts(
            [{"text": text, "svg": figures.svg(figure, name, colours=COLOURS)} for name, text, figure in drawn]
        )

    def _notes(self) -> list[str]:
        return list(next(iter(self._contents.values())).get("notes", ()))

    def _data(self) -> Any:
        content = next(iter(self._contents.values()))
        if not content.get("skipped"):
            return ""
        rows = [(row["id"], row["reason"]) for row in content["skipped"][:MOST]]
        return self._macros.table(["Image that could not be read", "Reason"], rows, left=2)

    def _how(self) -> Any:
        content = next(iter(self._contents.values()))
        seconds = content.get("seconds")
        facts = [
            ("Seed", content["seed"]),
            ("Test-time views", content["views"]),
            ("Training time", "not measured" if seconds is None else duration(seconds)),
        ]
        parts = [self._macros.table(["What", "Value"], facts, left=2)]
        knobs = "\n".join(content["config_differences"]) or "none"
        parts.append(self._macros.code("Knobs that differ from the defaults", knobs))
        for row in environment.read(self._folder):
            title = f"Environment from update {row.get('from_step', 0):,}"
            parts.append(self._macros.code(title, "\n".join(_flat(row))))
        return _joined(parts)

    def _against(self) -> Any:
        """The numbers of another run beside those of this one, and the knobs that differ."""
        if self._previous is None:
            return ""
        rows = []
        for name, content in self._contents.items():
            other = _json(self._previous / "report" / f"{name}.json")
            for key in NUMBERS:
                if content.get(key) is not None and other.get(key) is not None:
                    change = content[key] - other[key]
                    values = [shown(key, other[key]), shown(key, content[key])]
                    points = f"{100 * change:+.1f} points" if key in PERCENT else f"{change:+.4f}"
                    rows.append((f"{name}: {TITLES[key]}", *values, points))
        knobs = config_json.differences(workdir.read_config(self._previous), workdir.read_config(self._folder))
        title = f"Knobs that differ from {self._previous.name}"
        table = self._macros.table(["Number", self._previous.name, "this run", "Change"], rows)
        return _joined([table, self._macros.code(title, "\n".join(knobs) or "none")])


def _flat(value: Mapping[str, Any]) -> list[str]:
    """One line per entry, those of inner objects indented."""
    lines = []
    for key, entry in value.items():
        inner = _flat(entry) if isinstance(entry, Mapping) else None
        lines += [f"{key}: {entry}"] if inner is None else [f"{key}:", *(f"  {line}" for line in inner)]
    return lines


def _joined(parts: Sequence[Any]) -> Any:
    import markupsafe

    return markupsafe.Markup("").join(parts)


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole and math.isfinite(part) else "–"


def _file(name: str) -> str:
    return (files("emojax.report") / "templates" / name).read_text(encoding="utf-8")
