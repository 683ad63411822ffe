"""The pictures of docs/fer2013.md, made from docs/fer2013.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emojax import calibration, decision_plots, figures
from emojax.drawing import BLUE, GREEN, INK, ORANGE, SMALL, VERMILION, figure, heading, style

_DOCS = Path(__file__).resolve().parents[1] / "docs"
CURVES, CALIBRATION = _DOCS / "fer2013.png", _DOCS / "fer2013_calibration.png"
_COLOURS = (VERMILION, BLUE, GREEN, ORANGE)
_THIN = {"linewidth": 1.0, "alpha": 0.45}
_LINES = ("-", "--", ":")
"""By the place of a seed among those of its recipe, again from the first after three."""


def curves(record: dict[str, Any]) -> bytes:
    """Accuracy over the epochs and, of FER2013's recipes, over the minutes on one kind of processor, as a PNG file."""
    drawn, axes = figure(11, 4.2, shape=(1, 2))
    left, right = axes.flat
    for colour, (name, found) in zip(_COLOURS, record.items(), strict=False):
        for i, run in enumerate(found["runs"]):
            epochs, accuracy, minutes = zip(*run["curve"], strict=True)
            accuracy = [100 * y for y in accuracy]
            looks = {"color": colour, "linewidth": 1.8, "marker": "o", "markersize": 3.5, "linestyle": _LINES[i % 3]}
            left.plot(*zip(*[(x, 100 * y) for x, y in run["train_curve"]], strict=True), **_THIN, color=colour)
            seeds = f", seed {run['seed']}" if len(found["runs"]) > 1 else ""
            labels = ", majority of 8 classes" if name == "ferplus" else ""
            left.plot(epochs, accuracy, **looks, label=f"{name}{seeds}{labels}")
            same = run["processor"] == found["runs"][0]["processor"]
            if same and name != "ferplus":  # other labels: its accuracy is of another question
                right.plot(minutes, accuracy, **looks, label=None if i else name)
    left.plot([], [], **_THIN, color=INK, label="thin: on train, augmented")
    style(left, xlabel="Epoch", ylabel="Accuracy, %", grid="both")
    style(
        right, xlabel="Minutes of training on two CPU cores", ylabel="Accuracy on val, FER2013's labels, %", grid="both"
    )
    for panel in (left, right):
        panel.legend(frameon=False, fontsize=SMALL, loc="lower right")
    right.set_xlim(left=0)
    heading(drawn, "FER2013 and FER+: accuracy on val")
    return figures.png(drawn)


def calibrated(record: dict[str, Any]) -> bytes:
    """Right answers over confidence after calibration, the first seed of each recipe, as a PNG file."""
    panels = {name: calibration.from_json(found["runs"][0]["calibration"]) for name, found in record.items()}
    return figures.png(decision_plots.reliability(panels, title="Calibrated, judged on parts of val not fitted on"))
