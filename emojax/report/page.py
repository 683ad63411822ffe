"""The sections of a report, each a function to Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emojax import slices as slices_lib
from emojax.intervals import Intervals
from emojax.metrics import NUMBERS, WEAK_F1, Report
from emojax.progress import duration
from emojax.report import stages
from emojax.report.leaks import Stamp
from emojax.report.markdown import code, count, escape, percent, table
from emojax.report.run import RunInfo
from emojax.slices import LEVEL, Group
from emojax.types import Predictions

TITLES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro-F1",
    "weighted_f1": "Weighted F1",
    "top2_accuracy": "Top-2 accuracy",
    "loss": "Cross-entropy, nats",
}
PERCENT = ("accuracy", "balanced_accuracy", "top2_accuracy")
MOST = 30
"""Rows of a list in the Markdown report; the JSON file has all of them."""


def page(
    split: str,
    report: Report,
    bounds: Intervals,
    predictions: Predictions,
    run: RunInfo,
    leaks: Stamp | None,
    probabilities: str,
    groups: Sequence[Group],
) -> str:
    """The whole report of one split; `probabilities` is `decisions.section`, `groups` are tested slices."""
    sections = [
        f"# Report: {escape(run.dataset)}, {escape(split)}",
        headline(report, bounds, run),
        stamped(leaks),
        f"![Confusion matrix]({split}-confusion.png)",
        "## Classes\n\n" + classes(report, bounds),
        f"![Precision, recall and F1 per class]({split}-per-class.png)",
        probabilities,
        slices(report, groups),
        "## Confusion matrix\n\nRows are true classes, columns predicted ones.\n\n" + confusion(report),
        mistakes(report, predictions),
        "## Training\n\n![Training history](history.png)",
        stages.sections(run.candidates, run.stages),
        skipped(run),
        how(report, run),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def shown(name: str, value: float) -> str:
    """A number of a report as people read it."""
    return percent(value) if name in PERCENT else f"{value:.4f}"


def shown_bounds(name: str, bounds: Sequence[float]) -> str:
    """An interval of such a number: `81.2 to 84.0 %`; a dash where there is none."""
    if any(value is None or math.isnan(value) for value in bounds):
        return "–"
    low, high = (shown(name, value) for value in bounds)
    return f"{low.removesuffix(' %') if name in PERCENT else low} to {high}"


def headline(report: Report, bounds: Intervals, run: RunInfo) -> str:
    """The numbers with their intervals, the chosen one marked."""
    rows = [
        (
            TITLES[name] + (" (selected by)" if name == run.selected_by else ""),
            shown(name, value),
            shown_bounds(name, bounds.numbers[name]),
        )
        for name, value in report.numbers().items()
    ]
    return table(["Number", "Value", "95 % interval"], [("Images", f"{report.n:,}", ""), *rows])


def stamped(leaks: Stamp | None) -> str:
    """The stamp, and all numbers with and without the leaked images where there are some."""
    if leaks is None:
        return ""
    if not leaks.numbers_without:
        return f"**{escape(leaks.text)}**"
    rows = [("Images", f"{leaks.left:,}", "")]
    rows += [
        (TITLES[name], shown(name, value), shown_bounds(name, leaks.bounds_without[name]))
        for name, value in leaks.numbers_without.items()
    ]
    intro = "These images show a picture of an earlier split, perhaps cropped, mirrored or encoded again."
    return f"**{escape(leaks.text)}**\n\n{intro}\n\n" + table(
        ["Number", "Without leaked images", "95 % interval"], rows
    )


def classes(report: Report, bounds: Intervals) -> str:
    """Precision, recall, F1 with its interval and support, then what is weak."""
    rows = [
        (
            row.name,
            *(
                cell
                for key in ("precision", "recall", "f1")
                for cell in (fraction(getattr(row, key)), fractions(found[key]))
            ),
            count(row.support),
        )
        for row, found in zip(report.per_class, bounds.per_class, strict=True)
    ]
    weak = ", ".join(f"**{escape(name)}**" for name in report.weak_classes)
    note = f"Weak classes (F1 below {WEAK_F1}): {weak}." if weak else f"No class has an F1 below {WEAK_F1}."
    titles = ["Class", *(part for name in ("Precision", "Recall", "F1") for part in (name, "95 %")), "Support"]
    return table(titles, rows) + f"\n\n{note}"


def fraction(value: float) -> str:
    """A precision, recall or F1 as people read it: three digits."""
    return f"{value:.3f}"


def fractions(bounds: Sequence[float]) -> str:
    """An interval of such a number."""
    low, high = bounds
    missing = low is None or math.isnan(low)
    return "–" if missing else f"{fraction(low)} to {fraction(high)}"


def slices(report: Report, groups: Sequence[Group]) -> str:
    """One table per slice column, those groups marked that are worse; nothing without slice columns."""
    tested, parts = {(g.column, g.value): g for g in groups}, []
    for column, values in report.slices.items():
        if len(values) < 2:  # one group is the whole split
            continue
        rows = []
        for value, numbers in slices_lib.in_order(values, lambda numbers: numbers.n, most=MOST):
            test = tested.get((column, value))
            rows.append(
                (
                    value,
                    f"{numbers.n:,}",
                    percent(numbers.accuracy),
                    f"{percent(test.low)} to {percent(test.high)}" if test else "",
                    percent(numbers.balanced_accuracy),
                    shown_bounds("balanced_accuracy", test.bounds["balanced_accuracy"]) if test else "",
                    f"{numbers.macro_f1:.3f}",
                    fractions(test.bounds["macro_f1"]) if test else "",
                    f"yes, p = {test.p:.2g}" if test and test.worse else "",
                )
            )
        titles = [column, "Images", "Accuracy", "95 %", "Balanced accuracy", "95 %", "Macro-F1", "95 %", "Worse"]
        parts.append(f"## By {escape(column)}\n\n{table(titles, rows)}{_more(len(values))}")
    if not parts:
        return ""
    note = (
        "A group is called worse when its share of wrong answers is significantly larger than elsewhere: "
        f"Fisher's exact test, one-sided, {100 * LEVEL:g} % chance of any false alarm over all groups together (Holm)."
    )
    return "\n\n".join([*parts, note])


def confusion(report: Report) -> str:
    """Counts with percent of the true class; empty cells show a dot."""
    rows = [
        [name, *(f"{count(n)} ({p:.1f} %)" if n else "·" for n, p in zip(counts, shares, strict=True))]
        for name, counts, shares in zip(report.class_names, report.confusion, report.row_percent, strict=True)
    ]
    return table(["True \\ predicted", *report.class_names], rows)


def mistakes(report: Report, predictions: Predictions) -> str:
    """The most confident mistakes: the first place to look for wrong labels."""
    true, predicted = predictions.label.argmax(axis=1), predictions.probs.argmax(axis=1)
    wrong = np.flatnonzero((true != predicted) & (predictions.weight > 0))
    if not wrong.size:
        return "## Most confident mistakes\n\nNone: every image was classified correctly."
    confidence = predictions.probs.max(axis=1)
    chosen = wrong[np.argsort(-confidence[wrong], kind="stable")][:MOST]
    names = report.class_names
    rows = [
        (predictions.id[i], names[true[i]], names[predicted[i]], percent(float(confidence[i]))) for i in chosen.tolist()
    ]
    titles = ["Image", "True", "Predicted", "Confidence"]
    intro = "Mistakes of which the model is surest are the first place to look for wrong labels."
    return f"## Most confident mistakes\n\n{intro}\n\n{table(titles, rows, left=3)}{_more(wrong.size)}"


def skipped(run: RunInfo) -> str:
    """Images that could not be read; nothing when all could."""
    if not run.skipped:
        return ""
    total = len(run.skipped)
    images = f"{total:,} image{'s' if total != 1 else ''} could not be read and took no part."
    return f"## Skipped images\n\n{images}\n\n{table(['Image', 'Reason'], run.skipped[:MOST], left=2)}{_more(total)}"


def how(report: Report, run: RunInfo) -> str:
    """How the model was made, so that it can be made again."""
    facts = [
        ("Data", run.dataset),
        ("Classes", f"{len(report.class_names)}"),
        ("Weights", _weights(run)),
        ("Views", run.views),
        ("Probabilities", run.decision),
        ("Seed", f"{run.seed}"),
        ("Training time", duration(run.seconds) if run.seconds is not None else "not measured"),
    ]
    parts = ["## How it was made", table(["What", "Value"], [fact for fact in facts if fact[1]], left=2)]
    parts += ["\n".join(f"- {escape(note)}" for note in run.notes)] if run.notes else []
    parts += [f"Command:\n\n{code(run.command)}"] if run.command else []
    changed = "\n".join(run.config_differences) or "none"
    parts.append(f"Knobs that differ from the defaults:\n\n{code(changed)}")
    return "\n\n".join(parts)


def _weights(run: RunInfo) -> str:
    chosen = f", chosen on val by {run.selected_by}" if run.selected_by else ""
    return f"{run.result}, {run.when or f'update {run.step:,}'}{chosen}"


def _stamp_text(values: Mapping[str, Any]) -> str:
    leaks = values.get("leak_check")
    return f" ({escape(leaks['text'])})" if leaks else ""


def index(numbers: Mapping[str, Mapping[str, Any]]) -> str:
    """The first page: the headline numbers of every split that has a report; `numbers` is split -> name -> value."""
    rows = [
        [split, f"{values['n']:,}", *("-" if values.get(m) is None else shown(m, values[m]) for m in NUMBERS)]
        for split, values in numbers.items()
    ]
    links = "\n".join(
        f"- [{escape(s)}]({s}.md){_stamp_text(values)}: the full report; numbers in [{s}.json]({s}.json)"
        for s, values in numbers.items()
    )
    titles = ["Split", "Images", *(TITLES[name] for name in NUMBERS)]
    return f"# Report\n\n{table(titles, rows)}\n\n{links}\n\n![Training history](history.png)\n"


def _more(total: int) -> str:
    return f"\n\nThe first {MOST} of {total:,}." if total > MOST else ""
