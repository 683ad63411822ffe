"""The sections of the HTML page that are about the run as a whole; each a function to escaped HTML.

`macros` are those of templates/sections.html, which escape what they are given; `contents` is split → content of its
JSON file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emojax import (
    calibration,
    config_json,
    decision_plots,
    drawing,
    environment,
    figures,
    jsonl,
    plots,
    selective,
    workdir,
)
from emojax.files import parse_json
from emojax.metrics import NUMBERS
from emojax.progress import duration
from emojax.report.decisions import DEFINITIONS
from emojax.report.markdown import percent
from emojax.report.page import MOST, PERCENT, TITLES, shown
from emojax.types import Predictions

Contents = Mapping[str, Mapping[str, Any]]

COLOURS = {
    drawing.INK: "var(--ink)", drawing.MUTED: "var(--muted)", drawing.RULE: "var(--rule)", drawing.BLUE: "var(--blue)",
    drawing.SKY: "var(--sky)", drawing.VERMILION: "var(--vermilion)", drawing.GREEN: "var(--green)",
    drawing.ORANGE: "var(--orange)", "#ffffff": "var(--paper)", "#000000": "var(--ink)",
}  # fmt: skip
"""Colours of the figures → names in the page's style sheet, which has two sets of them."""


def slices(macros: Any, contents: Contents) -> Any:
    """A table per slice column, by split, with what is significantly worse; nothing where there are none."""
    parts = []
    for name, content in contents.items():
        tests = content.get("slice_tests", {})
        tested = {(group["column"], group["value"]): group for group in tests.get("groups", ())}
        tables = []
        for column, values in content.get("slices", {}).items():
            rows = []
            for value, s in sorted(values.items(), key=lambda item: -item[1]["n"])[:MOST]:
                test = tested.get((column, value))
                limits = f"{percent(test['low'])} to {percent(test['high'])}" if test else ""
                worse = f"yes, p = {test['p']:.2g}" if test and test["worse"] else ""
                numbers = percent(s["accuracy"]), limits, percent(s["balanced_accuracy"]), f"{s['macro_f1']:.3f}"
                rows.append((value, f"{s['n']:,}", *numbers, worse))
            titles = [column, "Images", "Accuracy", "95 % interval", "Balanced accuracy", "Macro-F1", "Worse"]
            tables.append(macros.table(titles, rows, sortable=True))
        if tables:
            parts.append(
                (name, joined([*tables, macros.note(f"Worse than the rest: {tests.get('test', 'not tested')}.")]))
            )
    return macros.tabbed("slices", parts) if parts else ""


def probabilities(macros: Any, predictions: Mapping[str, Predictions]) -> Any:
    """Calibration and risk-coverage of every split, as figures, with what their numbers mean."""
    parts = []
    for name, found in predictions.items():
        sure, order = calibration.measure(found), selective.measure(found)
        drawn = [
            ("reliability", "Share right over confidence", decision_plots.reliability({"this model": sure})),
            (
                "risk",
                "Share of wrong answers over the share of images answered",
                decision_plots.risk_coverage({"this model": (selective.curve(found), order)}),
            ),
        ]
        svgs = [
            {"text": f"{text}, {name}", "svg": figures.svg(figure, f"{kind}-{name}", colours=COLOURS)}
            for kind, text, figure in drawn
        ]
        parts.append((name, macros.beside(svgs)))
    return joined([macros.tabbed("calibration", parts), macros.note(DEFINITIONS)])


def training(macros: Any, folder: Path) -> Any:
    """History and speed as figures."""
    history = jsonl.history(folder / "metrics.jsonl")
    speed = [row for row in jsonl.read(folder / "metrics.jsonl") if row.get("kind") == "speed"]
    drawn = [("history", "Loss, accuracy, learning rate and accuracy gap over the epochs", plots.history(history))]
    if speed:
        drawn.append(("speed", "Images per second and waiting for data over the epochs", plots.throughput(speed)))
    return macros.charts(
        [{"text": text, "svg": figures.svg(figure, name, colours=COLOURS)} for name, text, figure in drawn]
    )


def how(macros: Any, contents: Contents, folder: Path) -> Any:
    """Seed, time, knobs and environment."""
    content = next(iter(contents.values()))
    seconds = content.get("seconds")
    facts = [
        ("Seed", content["seed"]),
        ("Test-time views", content["views"]),
        ("Training time", "not measured" if seconds is None else duration(seconds)),
    ]
    parts = [macros.table(["What", "Value"], facts, left=2)]
    knobs = "\n".join(content["config_differences"]) or "none"
    parts.append(macros.code("Knobs that differ from the defaults", knobs))
    for row in environment.read(folder):
        title = f"Environment from update {row.get('from_step', 0):,}"
        parts.append(macros.code(title, "\n".join(_flat(row))))
    return joined(parts)


def against(macros: Any, contents: Contents, folder: Path, previous: Path | None) -> Any:
    """The numbers of another run beside those of this one, and the knobs that differ."""
    if previous is None:
        return ""
    rows = []
    for name, content in contents.items():
        other = read_json(previous / "report" / f"{name}.json")
        for key in NUMBERS:
            if content.get(key) is not None and other.get(key) is not None:
                change = content[key] - other[key]
                values = [shown(key, other[key]), shown(key, content[key])]
                points = f"{100 * change:+.1f} points" if key in PERCENT else f"{change:+.4f}"
                rows.append((f"{name}: {TITLES[key]}", *values, points))
    knobs = config_json.differences(workdir.read_config(previous), workdir.read_config(folder))
    title = f"Knobs that differ from {previous.name}"
    table = macros.table(["Number", previous.name, "this run", "Change"], rows)
    return joined([table, macros.code(title, "\n".join(knobs) or "none")])


def _flat(value: Mapping[str, Any]) -> list[str]:
    """One line per entry, those of inner objects indented."""
    lines = []
    for key, entry in value.items():
        inner = _flat(entry) if isinstance(entry, Mapping) else None
        lines += [f"{key}: {entry}"] if inner is None else [f"{key}:", *(f"  {line}" for line in inner)]
    return lines


def joined(parts: Sequence[Any]) -> Any:
    """Escaped HTML one after the other."""
    import markupsafe

    return markupsafe.Markup("").join(parts)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; {} where there is none."""
    return parse_json(path.read_text(encoding="utf-8")) if path.is_file() else {}
