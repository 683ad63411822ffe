"""The part of docs/fer2013.md that tells what was tried, kept and dropped."""

from __future__ import annotations

from typing import Any

from fer2013_cells import cut, gain, with_interval

from emojax.cli.runs import markdown

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
_JUDGED = """Each of these {count} was judged on val: so much was chosen there.
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


def road(record: dict[str, Any], search: dict[str, Any], variants: dict[str, Any]) -> str:
    rows = []
    for about, whole, single, minutes, kept in _EARLIER:
        numbers = [with_interval(whole, _N), with_interval(single, _N_SINGLE)]
        rows.append([about, *numbers, f"{minutes:.0f}", "1", kept])
    rows += [_judged(_OTHERS[name], found, "no: see below") for name, found in variants.items()]
    rows += [_judged(about, record[name], f"as `{name}`") for name, about in _NOW.items() if name in record]
    titles = ["run", "accuracy", "without duplicates", "minutes", "seeds", "kept"]
    parts = [_ROAD, markdown(titles, rows)]
    for found in variants.values():
        more, left = found["more"], found["more_without_near_copies"]
        told = {
            "recipe": found["of"],
            "count": len(rows),
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
        with_interval(found["val_accuracy"], run["n"]),
        with_interval(found["val_accuracy_no_duplicates"], run["n_no_duplicates"]),
    ]
    return [about, *numbers, f"{found['minutes']:.0f}", str(len(found["seeds"])), kept]


def _arm(one: dict[str, Any]) -> list[str]:
    cells = []
    for found in (one, one["no_near_copies"]):
        more = found.get("more_than_base")
        cells += [cut(found["accuracy"]), gain(more["accuracy"]) if more else ""]
    return [*cells, cut(one["macro_f1"]), f"{one['loss']:.3f}", f"{one['minutes']:.1f}"]


def _paired(parts: dict[str, dict[str, Any]]) -> str:
    rows = [
        [about, gain(more["accuracy"]), gain(more["macro_f1"]), "{:+.3f} ({:+.3f} to {:+.3f})".format(*more["loss"])]
        for about, more in parts.items()
    ]
    return markdown(["difference on", "accuracy", "macro-F1", "loss"], rows)
