"""The sections of the HTML page about what `emojax calibrate` and `emojax robustness` have left in report/."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emojax import calibration, checkpoint, decision, decision_plots, figures
from emojax.report.decisions import compared, corrupted, decided_text
from emojax.report.html_sections import COLOURS, joined, read_json
from emojax.report.markdown import percent


def calibrated(macros: Any, report: Path) -> Any:
    """The stored decision before and after, and the frontier of the logit adjustment; nothing where none is stored."""
    content = read_json(report / "calibration.json")
    if not content or not (report.parent / checkpoint.RESULT / decision.FILE).is_file():
        return ""
    if not all("change" in found for found in content["judged"].values()):
        return macros.note("calibration.json is of an earlier emojax: run emojax calibrate again.")
    intro = (
        f"Stored with the model, and applied when it predicts: {content['decision']}; chosen on "
        f"{content['fitted_on']}. All other numbers of this page are of the probabilities as trained. Brackets are "
        "95 % intervals; those of a change are paired."
    )
    parts = []
    for name, found in sorted(content["judged"].items()):  # test first, as in the other sections
        panels = {
            title: calibration.from_json(found[key]["calibration"])
            for title, key in (("as trained", "before"), ("after", "after"))
        }
        drawn = decision_plots.reliability(panels, title=f"Reliability, {name}")
        table = macros.table(*compared(found))
        about = (
            "Cross-fitted: every image is judged by a decision that was fitted on others."
            if name == "val"
            else "Never used for any choice."
        )
        chart = _charts(
            macros, {f"calibrated-{name}": (f"Share right over confidence, before and after, {name}", drawn)}
        )
        parts.append((name, joined([macros.note(about), table, macros.note(decided_text(found["after"])), chart])))
    points = [decision.Point(**point) for point in content["frontier"]]
    text = "Accuracy and mean-class accuracy over the strength of the logit adjustment, val"
    frontier = decision_plots.frontier(points, tau=float(content.get("tau", 0.0)), title="Logit adjustment on val")
    return joined(
        [
            macros.note(intro),
            *(macros.note(line) for line in content["choices"]),
            macros.tabbed("calibrated", parts),
            _charts(macros, {"frontier": (text, frontier)}),
        ]
    )


def robustness(macros: Any, report: Path) -> Any:
    """Accuracy under corruption and flips; nothing where `emojax robustness` has not run."""
    if not (content := read_json(report / "robustness.json")):
        return ""
    if "means" not in content:
        return macros.note("robustness.json is of an earlier emojax: run emojax robustness again.")
    flip, means = content["flip"], content["means"]
    rows = [
        (name, *(f"{_points(v)} [{_points(low)}, {_points(high)}]" for v, (low, high) in cells), _mean(means[name]))
        for name, cells in corrupted(content)
    ]
    drawn = decision_plots.robustness(content["corruptions"], clean=content["clean"])
    facts = (
        f"{content['n']:,} images of {content['split']}, accuracy {_mean(means['clean'])} %; mean over all corruptions "
        f"{_mean(means['all'])} %. Mirrored, {percent(flip['equal'])} keep their class [{percent(flip['low'])}, "
        f"{percent(flip['high'])}]; the probability of the class that was predicted moves by {flip['mean_change']:.3f} "
        "on average. Brackets are 95 % intervals."
    )
    titles = ["Accuracy, %", *(f"Severity {i}" for i in range(1, 6)), "Mean"]
    chart = _charts(macros, {"corruptions": ("Accuracy by corruption and severity", drawn)})
    return joined([macros.note(facts), chart, macros.table(titles, rows, sortable=True)])


def _charts(macros: Any, drawn: Mapping[str, tuple[str, Any]]) -> Any:
    return macros.charts(
        [{"text": text, "svg": figures.svg(figure, name, colours=COLOURS)} for name, (text, figure) in drawn.items()]
    )


def _mean(interval: Mapping[str, float]) -> str:
    return f"{_points(interval['value'])} [{_points(interval['low'])}, {_points(interval['high'])}]"


def _points(value: float) -> str:
    return f"{100 * value:.1f}"
