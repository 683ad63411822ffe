"""What the statistics of emojax do on data whose truth is known; each prints one line, or a table.

    python scripts/simulate.py coverage|compare|sets|prior|ece|labels [--runs=N]

Pictures are drawn from Gaussians about K centres, whose exact posterior is the model: it is calibrated by construction,
`temper` makes it over- or underconfident, and the truth comes from 300,000 pictures.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from emojax import calibration, comparison, conformal, decision, intervals, label_errors, metrics, scaling
from emojax.combine import softmax
from emojax.types import Predictions

SKEWED = (0.43, 0.22, 0.1, 0.09, 0.09, 0.05, 0.02)
"""Class shares like those of data sets of faces."""
WORLDS = (
    ("57 images, 7 skewed classes, 97.5 % right", 57, SKEWED, 3.5),
    ("71 images, 7 skewed classes, 79 % right", 71, SKEWED, 2.0),
    ("49 images, 21 classes, 22 % right", 49, (1 / 21,) * 21, 1.0),
    ("150 images, 21 classes, 55 % right", 150, (1 / 21,) * 21, 2.0),
    ("300 images, 7 skewed classes, 79 % right", 300, SKEWED, 2.0),
    ("3,000 images, 7 skewed classes, 79 % right", 3000, SKEWED, 2.0),
)
MANY = 300_000


def predictions(probs: np.ndarray, true: np.ndarray) -> Predictions:
    """One-hot labels, weights of 1."""
    n, k = probs.shape
    label = np.eye(k, dtype=np.float32)[true]
    return Predictions(probs.astype(np.float32), label, np.ones(n, np.float32), np.arange(n).astype(str))


def drawn(
    rng: np.random.Generator, n: int, shares: tuple[float, ...], sharp: float, temper: float = 1.0
) -> Predictions:
    """n pictures; `sharp` is the distance of the centres, `temper` multiplies the logits of the posterior."""
    true = rng.choice(len(shares), n, p=shares)
    seen = rng.normal(size=(n, len(shares))) + sharp * np.eye(len(shares))[true]
    return predictions(softmax(temper * (sharp * seen + np.log(shares))), true)


def names(k: int) -> tuple[str, ...]:
    """Of classes."""
    return tuple(map(str, range(k)))


def table(titles: list[str], rows: list[list[str]]) -> None:
    """Prints a Markdown table."""
    for row in (titles, ["---", *["---:"] * (len(titles) - 1)], *rows):
        sys.stdout.write(f"| {' | '.join(row)} |\n")


def coverage(runs: int) -> None:
    """Share of 95 % intervals that hold the truth, for every number of a report."""
    rows = []
    for title, n, shares, sharp in WORLDS:
        rng, k = np.random.default_rng(0), len(shares)
        truth = metrics.evaluate(drawn(rng, MANY, shares, sharp), names(k))
        held = {name: [] for name in (*metrics.NUMBERS, "precision", "recall", "f1")}
        for seed in range(runs):
            found = intervals.of(drawn(rng, n, shares, sharp), seed=seed)
            for name, (low, high) in found.numbers.items():
                held[name].append(low <= truth.number(name) <= high)
            for row, bounds in zip(truth.per_class, found.per_class, strict=True):
                for name, (low, high) in bounds.items():
                    held[name] += [low <= getattr(row, name) <= high] if np.isfinite(low) else []
        rows.append([title, *(f"{100 * np.mean(values):.0f}" for values in held.values())])
    table(
        ["95 % intervals that hold the truth, %", *(metrics.text(name) for name in metrics.NUMBERS),
         "precision of a class", "recall of a class", "F1 of a class"],
        rows,
    )  # fmt: skip


def compare(runs: int) -> None:
    """Share of comparisons of two equally good models that show any clear difference."""
    rows = []
    for n, k in ((71, 7), (500, 21), (2000, 8)):
        rng, clear, mcnemar = np.random.default_rng(0), 0, 0
        for _ in range(runs):
            true = rng.integers(0, k, n)
            one, two = (
                predictions(softmax(2 * (rng.normal(size=(n, k)) + 2 * np.eye(k)[true])), true) for _ in range(2)
            )
            found = comparison.compare(one, two, names(k), draws=200)
            clear += any(row.clear for row in (*found.numbers, *found.f1))
            mcnemar += found.p < 0.05
        rows.append([f"{n:,} images, {k} classes", f"{100 * clear / runs:.0f}", f"{100 * mcnemar / runs:.0f}"])
    table(["Two equally good models: they differ by chance in, %", "any row", "McNemar's test"], rows)


def sets(runs: int) -> None:
    """Coverage of 90 % sets on 20,000 new pictures, after each scaling."""
    rows = []
    for n, k, kind, method in (
        (3589, 7, "lac", "temperature"), (3589, 7, "aps", "none"), (3589, 7, "lac", "vector"),
        (100, 7, "lac", "none"), (100, 7, "lac", "vector"), (57, 7, "lac", "vector"), (200, 21, "lac", "vector"),
    ):  # fmt: skip
        rng, shares, found = np.random.default_rng(0), (1 / k,) * k, []
        judged = drawn(rng, 20_000, shares, 1.5, 1.8)
        for _ in range(max(20, runs // 4) if n < 1000 else max(10, runs // 20)):
            wish = decision.Wish(method=method, kind=kind)
            made = decision.fit(drawn(rng, n, shares, 1.5, 1.8), wish, prior=np.ones(k))
            found.append(conformal.covered(decision.outcome(made, judged).inside, judged).coverage)
        low, high = conformal.spread(n, 0.9)
        rows.append(
            [f"{n:,} images, {k} classes, {kind}, {method}", f"{100 * np.mean(found):.1f}",
             f"{100 * min(found):.1f} to {100 * max(found):.1f}", f"{100 * low:.1f} to {100 * high:.1f}"]
        )  # fmt: skip
    table(["Sets wanted to cover 90 %: fitted on", "mean coverage", "least to most", "95 of 100 by theory"], rows)


def prior(runs: int) -> None:
    """What the logit adjustment, chosen on val, gains on data that chose nothing; classes are skewed as in SKEWED."""
    gains, costs = [], []
    for seed in range(max(5, runs // 20)):
        rng = np.random.default_rng(seed)
        val, test = drawn(rng, 4000, SKEWED, 1.5), drawn(rng, 20_000, SKEWED, 1.5)
        made = decision.fit(val, decision.Wish(target="balanced_accuracy"), prior=np.array(SKEWED))
        before, after = (metrics.evaluate(p, names(7)) for p in (test, decision.outcome(made, test).predictions))
        gains.append(after.balanced_accuracy - before.balanced_accuracy)
        costs.append(after.accuracy - before.accuracy)
    sys.stdout.write(
        f"mean-class accuracy {100 * np.mean(gains):+.1f} points (least {100 * min(gains):+.1f}), accuracy "
        f"{100 * np.mean(costs):+.1f} points\n"
    )


def ece(runs: int) -> None:
    """ECE after scaling, and the share of 95 % intervals of the ECE that hold the truth."""
    rng = np.random.default_rng(0)
    val, test = drawn(rng, 5000, SKEWED, 1.5, 2.5), drawn(rng, 20_000, SKEWED, 1.5, 2.5)
    before = calibration.ece(test)
    for method in ("temperature", "vector"):
        after = calibration.ece(scaling.apply(scaling.fit(val, method=method), test))
        sys.stdout.write(f"{method}: ECE {100 * before:.1f} % before, {100 * after:.1f} % after\n")
    rows = []
    for n, temper in ((71, 1.0), (71, 1.5), (300, 1.3), (3000, 1.0), (3000, 1.3)):
        rng, held = np.random.default_rng(1), []
        whole = drawn(rng, MANY, SKEWED, 2.0, temper)
        bins = calibration.bin_count(n, binning="equal_mass")
        truth = calibration.ece(whole, bins=bins)
        for seed in range(max(40, runs // 3)):
            found = calibration.measure(drawn(rng, n, SKEWED, 2.0, temper), draws=300, seed=seed).ece["equal_mass"]
            held.append(found.interval.low <= truth <= found.interval.high)
        rows.append([f"{n:,} images, logits times {temper:g}", f"{100 * np.mean(held):.0f}", f"{bins}"])
    table(["Intervals of the ECE that hold the truth, %", "share", "bins"], rows)


def labels(runs: int) -> None:
    """Precision at the top 1 % of the ranking with 10 % planted noise, for models that are right on 60 to 90 %."""
    rows = []
    for sharp in (1.5, 2.0, 3.0):
        shares, found = (1 / 7,) * 7, []
        for seed in range(max(10, runs // 20)):
            rng = np.random.default_rng(seed)
            p = drawn(rng, 10_000, shares, sharp)
            true = p.label.argmax(1)
            wrong = np.zeros(10_000, bool)
            wrong[rng.choice(10_000, 1000, replace=False)] = True
            given = np.where(wrong, (true + rng.integers(1, 7, 10_000)) % 7, true)
            ranked = label_errors.find(predictions(p.probs, given)).position[:100]
            found.append(wrong[ranked].mean())
        right = 100 * calibration.hits(p).mean()
        rows.append([f"model right on {right:.0f} %", f"{100 * np.mean(found):.1f}", f"{100 * min(found):.1f}"])
    table(["Planted errors among the top 1 %, %", "mean", "least"], rows)


SIMULATIONS = {f.__name__: f for f in (coverage, compare, sets, prior, ece, labels)}


def main() -> None:
    """Runs one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=SIMULATIONS)
    parser.add_argument("--runs", type=int, default=300, help="repetitions (default: 300)")
    options = parser.parse_args()
    SIMULATIONS[options.name](options.runs)


if __name__ == "__main__":
    main()
