"""Figures: they draw without a display or pyplot, whatever the data look like, and say what they should."""

from __future__ import annotations

import io
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from emojax import figures, metrics, plots
from emojax.types import Predictions


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few pixels: the layout is the same, and compressing them would take most of the time."""
    monkeypatch.setattr(figures, "DPI", 50)


def report_of(k: int, *, n: int = 200, class_names: tuple[str, ...] = (), weight=None, sure=0.5) -> metrics.Report:
    rng = np.random.default_rng(k)
    true = rng.integers(0, k, n)
    probs = rng.dirichlet(np.ones(k), n).astype(np.float32)
    probs[np.arange(n), true] += sure
    predictions = Predictions(
        probs=probs / probs.sum(axis=1, keepdims=True),
        label=np.eye(k, dtype=np.float32)[true],
        weight=np.ones(n, np.float32) if weight is None else weight,
        id=np.array([str(i) for i in range(n)]),
    )
    return metrics.evaluate(predictions, class_names or tuple(f"class {i}" for i in range(k)))


def rows(*, epochs: int = 3) -> list[dict]:
    train = [
        {
            "kind": "train",
            "step": s,
            "epoch": s / 10,
            "loss": 1 / s,
            "accuracy": s / 40,
            "learning_rate": (s - 5) * 1e-4,
        }
        for s in range(5, 10 * epochs + 1, 5)
    ]
    val = [
        {"kind": "eval", "split": "val", "step": 10 * e, "epoch": float(e), "loss": 1.0, "accuracy": e / 10}
        for e in range(1, epochs + 1)
    ]
    return train + val


def texts(figure) -> str:
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in figure.findobj(Text))


def size(figure) -> tuple[int, int]:
    return Image.open(io.BytesIO(figures.png(figure))).size


@pytest.mark.parametrize("k", [2, 7, 21])
def test_confusion(k: int) -> None:
    report = report_of(k)
    figure = plots.confusion(report, title="Confusion matrix, val")
    words = texts(figure)
    diagonal = report.confusion[0][0]
    assert f"{diagonal}\n{report.row_percent[0][0]:.{1 if k <= 10 else 0}f} %" in words
    assert f"{100 * report.per_class[1].recall:.0f} %" in words and "Recall (class accuracy)" in words
    assert "Confusion matrix, val" in words and "class 1" in words
    width, height = size(figure)
    assert width > 200 and height > 150


def test_confusion_without_examples_of_a_class_and_with_weights() -> None:
    report = report_of(3, n=4, weight=np.array([0.5, 0.25, 0, 0], np.float32))
    assert "–" in texts(plots.confusion(report))
    size(plots.per_class(report))


def test_per_class_marks_weak_classes() -> None:
    report = report_of(21, sure=0.1)
    figure = plots.per_class(report)
    assert report.weak_classes
    by_text = {tick.get_text(): tick for tick in figure.axes[0].get_yticklabels()}
    for row in report.per_class:
        tick = by_text[f"{row.name}  (n = {row.support})"]
        assert (tick.get_color() == plots.VERMILION) == (row.name in report.weak_classes)
    size(figure)


def test_history() -> None:
    figure = plots.history(rows())
    words = texts(figure)
    for expected in ("Training history", "Loss", "Cross-entropy, nats", "Accuracy, %", "Epoch", "best val, 30.0 %"):
        assert expected in words
    rate, gap = figure.axes[2], figure.axes[3]
    assert rate.get_yscale() == "log"
    assert np.isnan(np.asarray(rate.lines[0].get_ydata())[0])  # a rate of 0 has no place on a log axis
    # training accuracy since the evaluation before, minus validation accuracy, in percentage points
    assert gap.lines[1].get_ydata() == pytest.approx([(12.5 + 25) / 2 - 10, (37.5 + 50) / 2 - 20, (62.5 + 75) / 2 - 30])
    size(figure)


def test_history_marks_what_was_chosen_and_has_no_empty_panels() -> None:
    step = next(row["step"] for row in rows() if row["kind"] == "eval")
    words = texts(plots.history(rows(), chosen=("macro_f1", step)))
    assert "chosen by macro-F1, 10.0 %" in words and not any("best val" in word for word in words)
    assert not any("chosen" in word for word in texts(plots.history(rows(), chosen=("loss", 10**9))))
    judged = [row for row in rows() if row["kind"] == "eval"]
    assert [ax.get_title(loc="left") for ax in plots.history(judged).axes] == ["Loss", "Accuracy"]


def test_history_draws_neither_short_rows_nor_stumbles_over_skipped_updates() -> None:
    steps = [50, 100, 119, 120, 170, 220, 19_050, 19_100]  # evaluated at 119 and 120; a stage that ended early
    train = [
        {"kind": "train", "step": s, "epoch": s / 100, "loss": 1.0, "accuracy": 0.5, "learning_rate": 0.1}
        for s in steps
    ]
    figure = plots.history(train)
    drawn = np.asarray(figure.axes[0].lines[0].get_xdata()) * 100
    assert drawn.round().tolist() == [50, 100, 170, 220, 19_050, 19_100]


@pytest.mark.parametrize(
    "history",
    [
        [],
        rows(epochs=1)[:1],
        [row for row in rows() if row["kind"] == "train"],
        [row for row in rows() if row["kind"] == "eval"],
        [{"kind": "train", "step": 1, "epoch": 0.1, "loss": None, "accuracy": None, "learning_rate": 0.0}],
    ],
    ids=["empty", "one row", "train only", "eval only", "nulls"],
)
def test_history_that_has_hardly_begun(history: list[dict]) -> None:
    size(plots.history(history))


@pytest.mark.parametrize("n", [1, 5, 12])
def test_sample_grid(n: int) -> None:
    images = np.zeros((n, 8, 8, 3), np.uint8)
    figure = plots.sample_grid(images, [f"title {i}" for i in range(n)])
    assert f"title {n - 1}" in texts(figure)
    size(plots.sample_grid(images[..., :1]))


def test_label_titles() -> None:
    label = np.array([[1, 0, 0], [0.3, 0.1, 0.6], [0.02, 0.96, 0.02]], np.float32)
    assert plots.label_titles(label, ("a", "b", "c")) == ["a", "c 0.60, a 0.30", "b"]
    assert plots.label_titles(np.ones((1, 1), np.float32), ("only",)) == ["only"]


def test_learning_rate() -> None:
    steps = np.arange(0, 100, 10)
    figure = plots.learning_rate(steps, steps * 1e-5)
    assert [ax.get_yscale() for ax in figure.axes] == ["linear", "log"]
    size(figure)
    size(plots.learning_rate([0, 1], [0.0, 0.0]))


def test_names_are_drawn_literally() -> None:
    names = ("$x^{$ \\frac", "笑顔\nhappy", "a very long class name that goes on and on")
    size(plots.confusion(report_of(3, class_names=names)))
    size(plots.per_class(report_of(3, class_names=names)))


def test_pixels() -> None:
    image = figures.pixels(plots.learning_rate([0, 1], [1e-3, 1e-4]))
    assert image.dtype == np.uint8 and image.shape == (540, 900, 3) and image.min() < 50


def test_threads_and_no_pyplot() -> None:
    report, sizes = report_of(3), []
    threads = [threading.Thread(target=lambda: sizes.append(size(plots.confusion(report)))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(sizes)) == 1 and len(sizes) == 2
    assert "matplotlib.pyplot" not in sys.modules


def test_figures_come_back_in_the_order_they_were_asked_for():
    queue = figures.Figures()
    asked = threading.Event()

    def slow():
        asked.wait(10)
        return plots.learning_rate([0, 1], [1e-3, 1e-4])

    queue.add(1, "slow", slow)
    queue.add(2, "quick", lambda: plots.learning_rate([0, 1], [1e-3, 1e-4]))
    assert list(queue.ready()) == []
    asked.set()
    assert [(step, tag) for step, tag, _ in queue.ready(wait=True)] == [(1, "slow"), (2, "quick")]
    queue.add(3, "broken", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(queue.ready(wait=True))
    queue.close()
