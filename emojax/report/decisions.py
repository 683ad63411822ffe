"""Markdown about probabilities and decisions: calibration, abstention, sets, robustness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from emojax.bootstrap import Interval
from emojax.calibration import BINS, PER_BIN, Calibration
from emojax.report.markdown import percent, table
from emojax.selective import Selective

DEFINITIONS = (
    f"ECE: expected calibration error of the largest probability, the mean over {BINS} bins of |share of right answers "
    f"- mean confidence|; bins of equal mass hold {PER_BIN} images or more, so there may be fewer. By chance: what a perfectly calibrated model would show on as many images, on average and in "
    "95 of 100 cases. Brier: mean over images of the sum over classes of (probability - label)². AURC: mean share of "
    "wrong answers over all shares of images answered, surest first. Intervals are 95 %."
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
        before, after = found["before"], found["after"]
        rows = [(title, read(before), read(after)) for title, read in _COMPARED]
        parts += [f"## On {split}", about, table(["Number", "As trained", "After"], rows)]
        parts += [decided_text(after)]
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
        (name, *(percent(value) for value in values), percent(sum(values) / len(values)))
        for name, values in content["corruptions"].items()
    ]
    flip = content["flip"]
    groups: Sequence[Mapping[str, Any]] = content["slices"]["groups"]
    parts = [
        f"# Robustness on {content['split']}",
        f"{content['n']:,} images, accuracy {percent(content['clean'])}; mean over all corruptions "
        f"{percent(content['mean_corruption_accuracy'])}.",
        table(["Corruption", *(f"Severity {i}" for i in severities), "Mean"], rows),
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


def _error(found: Calibration, binning: str) -> tuple[str, str, str]:
    error = found.ece[binning]
    low, high = percent(error.interval.low), percent(error.interval.high)
    by_chance = f"by chance {percent(error.chance)}, up to {percent(error.chance_95)}"
    return percent(error.interval.value), f"{low} to {high}", by_chance


def _plain(interval: Interval) -> tuple[str, str]:
    return f"{interval.value:.4f}", f"{interval.low:.4f} to {interval.high:.4f}"


def _ece_text(found: Mapping[str, Any], binning: str) -> str:
    error = found["calibration"]["ece"][binning]
    return (
        f"{percent(error['value'])} [{percent(error['low'])}, {percent(error['high'])}], "
        f"by chance {percent(error['chance'])}"
    )


def _interval_text(value: Mapping[str, float]) -> str:
    return f"{value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"


_COMPARED = (
    ("ECE, equal mass", lambda found: _ece_text(found, "equal_mass")),
    ("ECE, equal width", lambda found: _ece_text(found, "equal_width")),
    ("Cross-entropy, nats", lambda found: _interval_text(found["calibration"]["nll"])),
    ("Brier", lambda found: _interval_text(found["calibration"]["brier"])),
    ("AURC", lambda found: _interval_text(found["selective"]["aurc"])),
    ("Accuracy", lambda found: percent(found["accuracy"])),
    ("Mean-class accuracy", lambda found: percent(found["balanced_accuracy"])),
    ("Macro-F1", lambda found: f"{found['macro_f1']:.4f}"),
)
