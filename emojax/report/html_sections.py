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
    comparison,
    config_json,
    decision_plots,
    drawing,
    environment,
    figures,
    jsonl,
    plots,
    predictions_csv,
    selective,
    slices as slices_lib,
    workdir,
)
from emojax.errors import DataError, EmojaxError
from emojax.files import parse_json
from emojax.progress import duration
from emojax.report import html_split
from emojax.report.decisions import DEFINITIONS
from emojax.report.markdown import percent
from emojax.report.page import MOST, PERCENT, TITLES, shown_bounds
from emojax.types import Predictions

Contents = Mapping[str, Mapping[str, Any]]

COLOURS = {
    colour.lower(): f"var(--{name})"
    for colour, name in (
        (drawing.INK, "ink"), (drawing.MUTED, "muted"), (drawing.RULE, "rule"), (drawing.BLUE, "blue"),
        (drawing.SKY, "sky"), (drawing.VERMILION, "vermilion"), (drawing.GREEN, "green"), (drawing.ORANGE, "orange"),
        ("#ffffff", "paper"), ("#000000", "ink"),
    )
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
            if len(values) < 2:  # one group is the whole split
                continue
            rows = []
            for value, s in slices_lib.in_order(values, lambda s: s["n"], most=MOST):
                test = tested.get((column, value))
                limits = shown_bounds("accuracy", (test["low"], test["high"])) if test else ""
                worse = f"yes, p = {test['p']:.2g}" if test and test["worse"] else ""
                bounds = test.get("bounds", {}) if test else {}
                numbers = (
                    percent(s["accuracy"]),
                    limits,
                    percent(s["balanced_accuracy"]),
                    shown_bounds("balanced_accuracy", bounds["balanced_accuracy"]) if bounds else "",
                    html_split.digits(s["macro_f1"], s["n"]),
                    html_split.limits(bounds["macro_f1"], s["n"]) if bounds else "",
                )
                rows.append((value, f"{s['n']:,}", *numbers, worse))
            titles = [column, "Images", "Accuracy", "95 %", "Balanced accuracy", "95 %", "Macro-F1", "95 %", "Worse"]
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


def training(macros: Any, folder: Path, content: Mapping[str, Any]) -> Any:
    """History, with the update that was chosen, and speed as figures; `content` is that of any split's JSON file."""
    history = jsonl.history(folder / "metrics.jsonl")
    chosen = (content["selected_by"], content["step"]) if content["selected_by"] else None
    speed = [row for row in jsonl.read(folder / "metrics.jsonl") if row.get("kind") == "speed"]
    drawn = [
        (
            "history",
            "Loss, accuracy, learning rate and accuracy gap over the epochs",
            plots.history(history, chosen=chosen),
        )
    ]
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


def against(
    macros: Any, judged: Mapping[str, Predictions], content: Mapping[str, Any], folder: Path, previous: Path | None
) -> Any:
    """What lies between another run and this one on the images that both judged, and the knobs that differ.

    `judged` is split → predictions, `content` that of any split's JSON file.
    """
    if previous is None:
        return ""
    parts = []
    for name, found in judged.items():
        try:
            before, names = predictions_csv.of_run(previous, name)
            if list(names) != content["class_names"]:
                raise DataError(f"it has other classes: {', '.join(names)}")
            other = comparison.compare(before, found, names)
        except DataError as error:
            parts.append((name, macros.note(f"Cannot be compared: {error}")))
            continue
        rows = [
            _change(title, row, other.n, key)
            for key, title, row in (
                *((row.name, TITLES[row.name], row) for row in other.numbers),
                *(("f1", f"F1 {row.name}", row) for row in other.f1),
            )
        ]
        titles = ["Number", previous.name, "this run", "Change", "95 % interval", "p, all rows together", ""]
        sign = (
            f"Only {previous.name} is right on {other.only_a:,} images, only this run on {other.only_b:,}: McNemar's "
            f"exact test, p = {other.p:.2g}. Clear: told from chance with all {len(rows)} rows taken together; each "
            "interval is of its row alone."
        )
        parts.append((name, joined([macros.table(titles, rows), macros.note(sign)])))
    try:
        knobs = config_json.differences(workdir.read_config(previous), workdir.read_config(folder))
    except EmojaxError as error:  # such as a run of a version with other knobs, which must not end this one
        knobs = [f"cannot be told: {error}"]
    title = f"Knobs that differ from {previous.name}"
    return joined([macros.tabbed("previous", parts), macros.code(title, "\n".join(knobs) or "none")])


def _change(title: str, row: comparison.Difference, n: int, key: str) -> tuple[str, ...]:
    values = [html_split.number(key, value, n) for value in (row.a, row.b)]
    points, unit = (100, " points") if key in PERCENT else (1, "")
    form = ".1f" if key in PERCENT else f".{html_split.places(n)}f"
    change, low, high = (f"{points * value:+{form}}" for value in (row.b - row.a, row.low, row.high))
    return title, *values, f"{change}{unit}", f"{low} to {high}", comparison.shown(row.p), "clear" if row.clear else ""


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
