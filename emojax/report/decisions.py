"""Markdown about probabilities and decisions: calibration, abstention, sets, robustness."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from emojax.bootstrap import Interval
from emojax.calibration import BINS, PER_BIN, Calibration
from emojax.report.markdown import percent, table
from emojax.selective import Selective

DEFINITIONS = (
    f"ECE: expected calibration error of the largest probability, the mean over {BINS} bins of |share of right answers "
    f"- mean confidence|; bins of equal mass hold {PER_BIN} images or more, so there may be fewer. By chance: what a "
    "perfectly calibrated model would show on as many images, on average and in 95 of 100 cases. Brier: mean over "
    "images of the sum over classes of (probability - label)². AURC: mean share of wrong answers over all shares of "
    "images answered, surest first. Intervals are 95 %."
)


def section(split: str, found: Calibration, order: Selective) -> str:
    """Calibration and risk-coverage of one split as the report of a run shows them."""
    rows = [
        ("ECE, bins of equal mass", *_error(found, "equal_mass")),
        ("ECE, bins of equal width", *_error(found, "equal_width")),
        ("Brier", *_plain(found.brier), ""),
        ("Cross-entropy, nats", *_plain(found.nll), ""),
        ("AURC", *_plain(order.aurc), f"best order {order.best_aurc:.4f}"),
    ]
    lean = "overconfident" if found.confidence > found.accuracy else "underconfident"
    risks = ", ".join(f"{percent(risk)} at {100 * coverage:g} %" for coverage, risk in order.at.items())
    return "\n\n".join(
        [
            "## Calibration and abstention",
            table(["Number", "Value", "95 % interval", "Compare"], rows),
            f"Mean confidence {percent(found.confidence)}, accuracy {percent(found.accuracy)}: {lean} on the whole.",
            f"![Reliability]({split}-reliability.png)",
            f"Wrong answers when only the surest images are answered: {risks}.",
            f"![Risk and coverage]({split}-risk-coverage.png)",
            DEFINITIONS,
        ]
    )


def calibrate_page(content: Mapping[str, Any]) -> str:
    """The page of `emojax calibrate`; `content` is what calibration.json holds."""
    parts = [
        "# Calibration",
        f"Chosen on {content['fitted_on']}: {content['decision']}.",
        "\n".join(f"- {line}" for line in content["choices"]),
    ]
    for split, found in content["judged"].items():
        about = (
            "Cross-fitted: every image is judged by a decision that was fitted, with all its choices, on other images."
            if split == "val"
            else "Never used for any choice."
        )
        parts += [f"## On {split}", about, table(*compared(found))]
        parts += [decided_text(found["after"])]
        parts += [f"![Reliability](calibration-{split}.png)", f"![Risk and coverage](calibration-{split}-risk.png)"]
    parts += ["## The frontier on val", "![Frontier](calibration-frontier.png)", DEFINITIONS]
    return "\n\n".join(parts) + "\n"


def decided_text(after: Mapping[str, Any]) -> str:
    """Sets and abstention of one split in a sentence or two."""
    sets, answered = after["sets"], after["answered"]
    text = (
        f"Sets hold the true class for {percent(sets['coverage'])} of the images [{percent(sets['low'])}, "
        f"{percent(sets['high'])}], wanted {percent(sets['wanted'])}; {sets['size']:.2f} classes on average, "
        f"{percent(sets['single'])} of one class, {percent(sets['empty'])} empty."
    )
    if after["risk"]:
        text += (
            f" {percent(answered['coverage'])} of the images are answered, {percent(answered['risk'])} of the answers "
            f"are wrong [{percent(answered['low'])}, {percent(answered['high'])}], wanted at most "
            f"{percent(after['risk'])}."
        )
    return text


def robustness_page(content: Mapping[str, Any]) -> str:
    """The page of `emojax robustness`; `content` is what robustness.json holds."""
    severities = range(1, 6)
    rows = [
        (
            name,
            *(_bracketed({"value": v, "low": low, "high": high}, _points) for v, (low, high) in cells),
            _bracketed(content["means"][name], _points),
        )
        for name, cells in corrupted(content)
    ]
    clean, mean = (_bracketed(content["means"][name], _points) for name in ("clean", "all"))
    flip = content["flip"]
    groups: Sequence[Mapping[str, Any]] = content["slices"]["groups"]
    parts = [
        f"# Robustness on {content['split']}",
        f"{content['n']:,} images, accuracy {clean} %; mean over all corruptions {mean} %. Brackets are 95 % "
        "intervals.",
        table(["Accuracy, %", *(f"Severity {i}" for i in severities), "Mean"], rows),
        "![Accuracy under corruption](robustness.png)",
        "## Mirrored images",
        f"{percent(flip['equal'])} of the images keep their class [{percent(flip['low'])}, {percent(flip['high'])}]; "
        f"the probability of the class that was predicted moves by {flip['mean_change']:.4f} on average.",
    ]
    if groups:
        shown = [
            (
                g["column"],
                g["value"],
                f"{g['n']:,}",
                percent(g["accuracy"]),
                f"{percent(g['low'])} to {percent(g['high'])}",
                f"yes, p = {g['p']:.2g}" if g["worse"] else "",
            )
            for g in groups
        ]
        titles = ["Column", "Group", "Images", "Accuracy", "95 % interval", "Worse than the rest"]
        parts += ["## Slices", table(titles, shown, left=2), f"Worse: {content['slices']['test']}."]
    return "\n\n".join(parts) + "\n"


def corrupted(content: Mapping[str, Any]) -> list[tuple[str, list[tuple[float, Sequence[float]]]]]:
    """(corruption, [(accuracy, its interval) per severity]) of robustness.json."""
    return [
        (name, list(zip(values, content["intervals"][name], strict=True)))
        for name, values in content["corruptions"].items()
    ]


def _error(found: Calibration, binning: str) -> tuple[str, str, str]:
    error = found.ece[binning]
    low, high = percent(error.interval.low), percent(error.interval.high)
    by_chance = f"by chance {percent(error.chance)}, up to {percent(error.chance_95)}"
    return percent(error.interval.value), f"{low} to {high}", by_chance


def _plain(interval: Interval) -> tuple[str, str]:
    return f"{interval.value:.4f}", f"{interval.low:.4f} to {interval.high:.4f}"


def compared(found: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, ...]]]:
    """(titles, rows) of one split of calibration.json: number, as trained, after, change, with 95 % intervals in
    brackets; without the last two where nothing has changed."""
    titles, rows = ["Number", "As trained", "After", "Change"], []
    for title, key, read in _COMPARED:
        show = _points if read is _error_of or key in _PERCENT else _digits
        before, after = (_bracketed(read(found[when], key), show) for when in ("before", "after"))
        rows.append((title, before, after, _bracketed(found["change"][key], functools.partial(_signed, show))))
    if not any(change[end] for change in found["change"].values() for end in ("value", "low", "high")):
        return titles[:2], [row[:2] for row in rows]
    return titles, rows


def _error_of(values: Mapping[str, Any], key: str) -> Mapping[str, float]:
    return values["calibration"]["ece"][key.removeprefix("ece_")]


def _score_of(values: Mapping[str, Any], key: str) -> Mapping[str, float]:
    return values["selective"]["aurc"] if key == "aurc" else values["calibration"][key]


def _number_of(values: Mapping[str, Any], key: str) -> Mapping[str, float]:
    low, high = values["intervals"][key]
    return {"value": values[key], "low": low, "high": high}


def _bracketed(value: Mapping[str, float], show: Callable[[float], str]) -> str:
    chance = f", by chance {show(value['chance'])}" if "chance" in value else ""
    return f"{show(value['value'])} [{show(value['low'])}, {show(value['high'])}]{chance}"


def _signed(show: Callable[[float], str], value: float) -> str:
    """With its sign, unless what is shown is zero."""
    text = show(abs(value))
    return text if text == show(0.0) else f"{'+' if value > 0 else '-'}{text}"


def _points(value: float) -> str:
    return f"{100 * value:.1f}"


def _digits(value: float) -> str:
    return f"{value:.4f}"


_PERCENT = ("accuracy", "balanced_accuracy")
_COMPARED = (
    ("ECE, equal mass, %", "ece_equal_mass", _error_of),
    ("ECE, equal width, %", "ece_equal_width", _error_of),
    ("Cross-entropy, nats", "loss", _number_of),
    ("Brier", "brier", _score_of),
    ("AURC", "aurc", _score_of),
    ("Accuracy, %", "accuracy", _number_of),
    ("Mean-class accuracy, %", "balanced_accuracy", _number_of),
    ("Macro-F1", "macro_f1", _number_of),
)
