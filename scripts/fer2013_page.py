"""docs/fer2013.md, made from docs/fer2013.json, fer2013_variants.json and fer2013_search.json."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emojax.cli.runs import markdown
from emojax.shares import wilson

ROOT = Path(__file__).resolve().parents[1]
RECORD, PAGE = ROOT / "docs/fer2013.json", ROOT / "docs/fer2013.md"
VARIANTS = ROOT / "docs/fer2013_variants.json"
SEARCH = ROOT / "docs/fer2013_search.json"

BARS = {
    "fer2013_best": {
        "val_accuracy": (0.69, 0.73),
        "val_accuracy_no_duplicates": (0.68, 0.72),
        "macro_f1": (0.66, 0.71),
    },
    "fer2013_15min": {"val_accuracy": (0.65, 0.68)},
    "ferplus": {"val_accuracy": (0.80, 0.86)},
}
"""recipe -> number -> (bar, aim)."""
_ECE = (0.02, 0.01)
_NUMBERS = {
    "val_accuracy": "accuracy",
    "val_accuracy_no_duplicates": "accuracy without duplicates",
    "macro_f1": "macro-F1",
}

_INTRO = """# FER2013 and FER+

Written by `scripts/fer2013_bench.py` from [fer2013.json](fer2013.json). Faces of 48 x 48 grey pixels: 28,558 to train
on, and val, which is FER2013's "PublicTest", 3,579. Of its pictures 279 are in train, pixel for pixel: numbers without
them stand beside. Hundreds more are near copies of a picture there, mirrored, cut or brightened; see each recipe. **The
best of a run's checkpoints was chosen on the same val**, so these numbers are a little too good; nothing was trained on
val. FER+ has the crowd's labels: train, of which 27,953 pictures are left, learns the distribution of the votes, val is
the 3,199 pictures with a majority for one of 8 classes."""
_PROCESSOR = """**The minutes are of a processor with fast bfloat16 products; which one was not written down then.** On
two cores of an Intel Xeon that has AVX512_BF16 but no AMX everything takes up to four times as long, PyTorch's steps
too ([performance.md](performance.md)): `fer2013_15min` took 56 minutes with other work beside it, and `fer2013_best`
made 190 images a second at 48 px, in float32 about as many, so that it would take more than three hours; it was stopped
(2026-11-29, by hand)."""


_CALIBRATED = """![Share of right answers over confidence on val, after calibration](fer2013_calibration.png)"""
_ROAD = """## The road

The runs for FER2013's labels on val, with 95 % intervals (Wilson, of one run). What a recipe gave before it was changed
is in docs/measured.json or docs/fer2013.json of the commit that is named. **`fer2013_best` was changed after its number
on val was known**: which of the two is kept was decided on val."""
_N, _N_SINGLE = 3579, 3300
_EARLIER = (
    ("ResNet 1-2-2-1, 9 epochs at 32 px and 8 at 48 (c1845d9)", 0.6376, 0.6252, 26, "no: underfit"),
    (
        "ResNet-18 of widths 48 to 384, 25 + 25 epochs, MixUp, two views (f30d065)",
        0.6775,
        0.6660,
        72,
        "no: learned slowly",
    ),
)
"""(what, accuracy, without duplicates, minutes, kept), one seed each."""
_OTHERS = {"fer2013_best_longer": "`fer2013_best` for 15 + 120 epochs (eb316b6), other work beside most of it"}
"""Variants of a recipe that were judged on val, `VARIANTS`."""
_JUDGED = """Every row was judged on val, `{recipe}` and what led to it {count} times in all: so much was chosen there.
Nearly twice as many epochs took {minutes:.0f} minutes, more than the 100 that were allowed. Against `{recipe}`, paired:

{table}

Its loss is lower only where near copies count, and accuracy and macro-F1 may be a little better or not; the shorter run
was kept."""
_NOW = {
    "fer2013_15min": "ResNet 1-2-2-1, 12 + 16 epochs, bfloat16 products",
    "fer2013_best": "ResNet-18 of widths 32 to 256, 12 + 60 epochs, no MixUp, ten views",
}
_ARMS = {
    "base": "`fer2013_15min` at 7 + 9 epochs",
    "wide": "two blocks a stage, widths 48 to 384, EMA 0.999",
    "deep": "two blocks a stage",
    "convnext": "ConvNeXt-Atto with a small stem, AdamW",
    "attention": "self-attention over the last map, then a hidden layer",
    "emote_lite": "EmoteNet's small head",
    "pixels": "64 px in the second stage",
    "augment": "the augmentation of `fer2013_best`",
    "mixup": "MixUp 0.2",
    "hard": "no label smoothing",
    "votes": "half of a label from what FER+'s votes say of it, no smoothing (269fca4, taken out again)",
    "last": "last weights instead of their EMA",
    "swa": "the same, and SWA of the last five epochs, which was no better",
    "ten": "ten views instead of two",
    "sam": "SAM, rho 0.1",
    "muon": "Muon",
    "long": "14 + 18 epochs",
    "long_augment": "14 + 18 epochs and the augmentation of `fer2013_best`",
    "ensemble": "mean of three: the first row, wide, 64 px",
    "ensemble_long": "mean of two: 14 + 18 epochs with either augmentation",
    "again": "a second network that starts anew and learns from the first too, 7 + 9 epochs more",
}
_SEARCH = """This much was tried on a dev set of {n:,} pictures cut from train, with val out of sight
(`scripts/fer2013_search.py`, seed {seed}); of {left:,} of them train has no near copy. Differences are to the first
row, paired, with 95 % intervals of the pictures alone; another seed moves them too, and each arm's checkpoint is the
best of its evaluations on dev. Other work ran beside most arms, so their minutes are too many."""
_FOUND = """Only more epochs gained: networks that are larger, learn slower or get harder pictures are behind at 16
epochs, and two or three together are hardly better than the best of them; ten views and an average of the weights
neither. Where a second network learned from a first, the first stayed the best checkpoint. The stronger augmentation
of `fer2013_best` lost 2.9 points at 16 epochs and 0.7 at twice the length: it was kept for a run that is longer still.
That and the rest of what `fer2013_best` is, its 72 epochs, its depth, its dropout and its ten views, was judged on val
alone, above; at 16 epochs depth and ten views gained nothing on dev, and a network of less depth for 72 epochs was not
tried. `ferplus` had no search of its own. An arm with maps of full size after the stem was stopped for time, before it
had a number."""
_TRIED = """Dropped on the way: the last norm of each block starting at 0, which kept the first network at 25 % on
train for an epoch."""


_REBUILD = """## The bundle

The trained models are not in the repository, for the pictures may not be passed on. These commands make them again,
NAME being `fer2013_best`, `ferplus` or `fer2013_15min`. `emojax.load(...).digest()` tells a model, a SHA-256 of which
the first digits are above; `fer2013_15min` was trained twice, beside other work and alone, and both weights had that
digest. `fer2013_best` and `ferplus` were trained once, and not by the newest code, so whether they come out with the
same digits has not been tried. Another kind of machine, or other versions than in constraints.txt, may round otherwise.

    python -m emojax.main --config=NAME.py --workdir=runs/NAME --config.data.path=FOLDER
    emojax calibrate --workdir=runs/NAME
    emojax export --workdir=runs/NAME NAME.zip --format=bundle"""
_BUNDLES = """With its calibration, which was fitted on the same val and moves some answers: the tables above are of the
model as trained. One picture at a time, all its views, on two CPU cores."""


def page(record: dict[str, Any], search: dict[str, Any], variants: dict[str, Any]) -> str:
    """The page of what was measured so far."""
    parts = [
        _INTRO,
        _numbers(record),
        _PROCESSOR,
        "![Accuracy on val over the epochs, and over minutes of training](fer2013.png)",
    ]
    parts += [
        "## What was asked",
        _bars(record),
        _CALIBRATED,
        _within(record),
        _road(record, search, variants),
        *(_recipe(name, record[name]) for name in record),
    ]
    parts.append(_REBUILD)
    rows = [[f"`{name}`", *_bundle(found["bundle"])] for name, found in record.items() if "bundle" in found]
    left = [f"`{name}`" for name, found in record.items() if "bundle" not in found]
    if rows:
        titles = ["bundle", "seed", "MB", "accuracy on val, opened again", "views", "ms a picture"]
        parts += [markdown(titles, rows), _BUNDLES]
    if left:
        parts.append(f"Not measured: {', '.join(left)}, whose runs are of a time before these figures were.")
    return "\n\n".join(parts) + "\n"


def _bundle(found: dict[str, Any]) -> list[str]:
    numbers = [_cut(found["val_accuracy"], 2), found["views"], f"{found['milliseconds']:.1f}"]
    return [str(found["seed"]), f"{found['bytes'] / 1e6:.1f}", *numbers]


def _numbers(record: dict[str, Any]) -> str:
    titles = ["recipe", *_NUMBERS.values(), "ECE, calibrated (chance)", "minutes", "million parameters", "which seeds"]
    rows = []
    for name, found in record.items():
        runs = found["runs"]
        numbers = [_cut_mean([run[key] for run in runs]) for key in _NUMBERS]
        before, after = (_cut(found[key], up=True) for key in ("ece", "ece_calibrated"))
        error = f"{before} → {after} ({_cut(found['ece_by_chance'])})"
        size = f"{runs[0]['parameters'] / 1e6:.1f}"
        rows.append(
            [f"`{name}`", *numbers, error, f"{found['minutes']:.0f}", size, ", ".join(map(str, found["seeds"]))]
        )
    about = (
        "Percent; of several seeds mean ± standard deviation. ECE: expected calibration error, 15 bins of equal mass, "
        "as trained → after `emojax calibrate`, fitted and judged on different parts of val; in brackets what chance "
        "alone gives a model that is right about itself, on so many pictures. Minutes of training and its evaluations "
        "on two CPU cores, of the first seed's kind of processor; on others, see below."
    )
    return f"{markdown(titles, rows)}\n\n{about}"


def _cut(share: float, digits: int = 1, *, up: bool = False) -> str:
    """Percent, cut off instead of rounded; with `up`, where less is better, the other way: nothing is flattered."""
    steps = share * 10 ** (digits + 2)
    steps = math.ceil(steps - 1e-9) if up else math.floor(steps + 1e-9)
    return f"{steps / 10**digits:.{digits}f}"


def _cut_mean(values: Sequence[float]) -> str:
    """The same of several seeds, with their standard deviation."""
    mean = _cut(statistics.mean(values))
    return f"{mean} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else mean


def _bars(record: dict[str, Any]) -> str:
    rows = []
    for recipe, bars in BARS.items():
        for key, (bar, aim) in bars.items():
            rows.append([f"`{recipe}`, {_NUMBERS[key]}", *_bar(record.get(recipe, {}).get(key), bar, aim)])
    if best := record.get("fer2013_best"):
        rows.append(["`fer2013_best`, ECE after calibration", *_bar(best["ece_calibrated"], *_ECE, less=True)])
    return markdown(["", "measured", "at least", "aim", "reached"], rows)


def _bar(found: float | None, bar: float, aim: float, *, less: bool = False) -> list[str]:
    if found is None:
        return ["not measured", f"{bar:g}", f"{aim:g}", "no"]
    shown = f"{float(_cut(found, 2, up=less)) / 100:.4f}"
    sign = "< " if less else ""
    return [shown, f"{sign}{bar:g}", f"{sign}{aim:g}", "yes" if (found < bar if less else found >= bar) else "no"]


def _road(record: dict[str, Any], search: dict[str, Any], variants: dict[str, Any]) -> str:
    rows = []
    for about, whole, single, minutes, kept in _EARLIER:
        numbers = [_with_interval(whole, _N), _with_interval(single, _N_SINGLE)]
        rows.append([about, *numbers, f"{minutes:.0f}", "1", kept])
    rows += [_judged(_OTHERS[name], found, "no: see below") for name, found in variants.items()]
    rows += [_judged(about, record[name], f"as `{name}`") for name, about in _NOW.items() if name in record]
    titles = ["run", "accuracy", "without duplicates", "minutes", "seeds", "kept"]
    parts = [_ROAD, markdown(titles, rows)]
    for found in variants.values():
        more, left = found["more"], found["more_without_near_copies"]
        told = {
            "recipe": found["of"],
            "count": len(rows) - 1,
            "minutes": found["minutes"],
            "table": _paired({"all of val": more, f"the {left['n']:,} without a near copy in train": left}),
        }
        parts.append(_JUDGED.format(**told))
    if search:
        rows = [[_ARMS[name], *_arm(one)] for name, one in search.items()]
        titles = [
            "on dev",
            "accuracy",
            "difference",
            "without near copies",
            "difference",
            "macro-F1",
            "loss",
            "minutes",
        ]
        base = search["base"]
        told = {"n": base["n"], "left": base["no_near_copies"]["n"], "seed": base["seed"]}
        parts += [_SEARCH.format(**told), markdown(titles, rows), _FOUND]
    return "\n\n".join([*parts, _TRIED])


def _judged(about: str, found: dict[str, Any], kept: str) -> list[str]:
    run = found["runs"][0]
    numbers = [
        _with_interval(found["val_accuracy"], run["n"]),
        _with_interval(found["val_accuracy_no_duplicates"], run["n_no_duplicates"]),
    ]
    return [about, *numbers, f"{found['minutes']:.0f}", str(len(found["seeds"])), kept]


def _arm(one: dict[str, Any]) -> list[str]:
    cells = []
    for found in (one, one["no_near_copies"]):
        more = found.get("more_than_base")
        cells += [_cut(found["accuracy"]), _more(more["accuracy"]) if more else ""]
    return [*cells, _cut(one["macro_f1"]), f"{one['loss']:.3f}", f"{one['minutes']:.1f}"]


def _more(value: list[float]) -> str:
    middle, low, high = (f"{100 * x:+.1f}" for x in value)
    return f"{middle} ({low} to {high})"


def _paired(parts: dict[str, dict[str, Any]]) -> str:
    rows = [
        [about, _more(more["accuracy"]), _more(more["macro_f1"]), "{:+.3f} ({:+.3f} to {:+.3f})".format(*more["loss"])]
        for about, more in parts.items()
    ]
    return markdown(["difference on", "accuracy", "macro-F1", "loss"], rows)


def _with_interval(share: float, n: float) -> str:
    low, high = (100 * x for x in wilson(share, n))
    return f"{_cut(share)} ({low:.1f} to {high:.1f})"


def _recipe(name: str, found: dict[str, Any]) -> str:
    parts = [f"## `{name}`"]
    if found["note"]:
        parts.append(found["note"])
    for run in found["runs"]:
        low, high = (100 * x for x in run["interval"])
        parts.append(
            f"Seed {run['seed']}: {_cut(run['val_accuracy'], 2)} % of {run['n']:,} (95 % interval {low:.1f} to "
            f"{high:.1f}), {_cut(run['val_accuracy_no_duplicates'], 2)} % of the {run['n_no_duplicates']:,} that are "
            f"not in train, {_cut(run['val_accuracy_no_near_copies'], 2)} % without the {run['near_copies']:,} of "
            f"which the leak gate finds a near copy there; {run['minutes']:.1f} minutes ({run['processor']}). "
            f"Calibration: {run['decision']}. SHA-256 of the weights {run['digest'][:16]}..."
        )
    first = found["runs"][0]
    names = first["class_names"]
    rows = [
        [true, *(f"{count:g}" for count in row), f"{100 * recall:.1f}"]
        for true, row, recall in zip(names, first["confusion"], first["recall"], strict=True)
    ]
    parts += [f"Confusion, seed {first['seed']}:", markdown(["true \\ predicted", *names, "recall, %"], rows)]
    return "\n\n".join(parts)


def _within(record: dict[str, Any]) -> str:
    first = {name: found["runs"][0]["calibration"]["bins"] for name, found in record.items()}
    counts = {name: [x["low"] <= x["confidence"] <= x["high"] for x in bins] for name, bins in first.items()}
    told = ", ".join(f"{sum(inside)} of {len(inside)} (`{name}`)" for name, inside in counts.items())
    return f"The first seed of each recipe. The mean confidence lies within the interval of the bin in {told}."
