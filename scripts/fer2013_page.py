"""docs/fer2013.md, made from docs/fer2013.json, fer2013_variants.json and fer2013_search.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fer2013_cells import cut, cut_mean
from fer2013_road import road

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
_MINUTES = {"fer2013_best": 100, "fer2013_15min": 15}
"""recipe -> the most that a training may take on two CPU cores."""
_NUMBERS = {
    "val_accuracy": "accuracy",
    "val_accuracy_no_duplicates": "accuracy without duplicates",
    "val_accuracy_no_near_copies": "without near copies",
    "macro_f1": "macro-F1",
}
_GATE = """\\* Wholly or in part by the leak gate as it was before 9a7db39, see each seed: of FER2013's val it found 876
near copies then and finds 892 since, of FER+'s 764 and 779. What those runs answered for single pictures is not kept,
so their numbers could not be made anew."""

_INTRO = """# FER2013 and FER+

Written by `scripts/fer2013_bench.py` from [fer2013.json](fer2013.json), [fer2013_variants.json](fer2013_variants.json)
and [fer2013_search.json](fer2013_search.json). Faces of 48 x 48 grey pixels: 28,558 to train on, and val, which is
FER2013's "PublicTest", 3,579. Of its pictures 279 are in train, pixel for pixel; hundreds more are near copies of a
picture there, mirrored, cut or brightened. Numbers without the first and without both stand beside. **The best of a
run's checkpoints was chosen on the same val**, so these numbers are a little too good; nothing was trained on val. FER+
has the crowd's labels: train, of which 27,953 pictures are left, learns the distribution of the votes, val is the 3,199
pictures with a majority for one of 8 classes."""
_PROCESSOR = """**The minutes are of a processor with fast bfloat16 products; which one was not written down then.** On
two cores of an Intel Xeon that has AVX512_BF16 but no AMX single training steps take up to four times as long,
PyTorch's too ([performance.md](performance.md)). `fer2013_15min` took 56 minutes there; other work ran beside it, and
how much of them is due to that is not known. `fer2013_best` made 190 images a second at 48 px, in float32 about as
many, from which more than three hours are an estimate: it was stopped (2026-11-29, by hand)."""


_CHANCE = """Of {n:,} pictures chance alone gives a model that is right about itself an ECE of {chance:.4f} on average
and of up to {chance_95:.4f} in 95 of 100 cases: {value:.4f}, of seed {seed}, does not tell this model from such a one,
and to be below the bar takes luck too."""
_CALIBRATED = """![Share of right answers over confidence on val, after calibration](fer2013_calibration.png)

The first seed of each recipe; the others' errors stand with their recipe."""


_REBUILD = """## The bundle

The trained models are not in the repository, for the pictures may not be passed on. These commands make them again,
NAME being `fer2013_best`, `ferplus` or `fer2013_15min`. `emojax.load(...).digest()` tells a model, a SHA-256 of which
the first digits are above. **Of `fer2013_best` and `ferplus` it has not been tried whether they come out with the same
digits**: they were trained once, and not by the newest code. Seed 0 of `fer2013_15min` was trained twice, beside other
work and alone, and both weights had its digest. Another kind of machine, or other versions than in constraints.txt, may
round otherwise.

    python -m emojax.main --config=NAME.py --workdir=runs/NAME --config.data.path=FOLDER --config.seed=SEED
    emojax calibrate --workdir=runs/NAME
    emojax export --workdir=runs/NAME NAME.zip --format=bundle"""
_BUNDLES = """With its calibration, which was fitted on the same val and moves some answers: the tables above are of the
model as trained. One picture at a time, all its views, on two CPU cores of the run's processor."""


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
        road(record, search, variants),
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
    numbers = [cut(found["val_accuracy"], 2), found["views"], f"{found['milliseconds']:.1f}"]
    return [str(found["seed"]), f"{found['bytes'] / 1e6:.1f}", *numbers]


def _numbers(record: dict[str, Any]) -> str:
    titles = ["recipe", *_NUMBERS.values(), "ECE, calibrated (chance)", "minutes", "million parameters", "which seeds"]
    rows = []
    for name, found in record.items():
        runs = found["runs"]
        numbers = [cut_mean([run[key] for run in runs]) for key in _NUMBERS]
        if any("gate" in run for run in runs):
            numbers[2] += " \\*"
        before, after = (cut(found[key], up=True) for key in ("ece", "ece_calibrated"))
        error = f"{before} → {after} ({cut(found['ece_by_chance'])})"
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
    parts = [markdown(titles, rows), about]
    if any("gate" in run for found in record.values() for run in found["runs"]):
        parts.append(_GATE)
    return "\n\n".join(parts)


def _bars(record: dict[str, Any]) -> str:
    rows = []
    for recipe, bars in BARS.items():
        found = record.get(recipe, {})
        for key, (bar, aim) in bars.items():
            about = [_spread(found["runs"], key), str(len(found["runs"]))] if found else ["", "0"]
            rows.append([f"`{recipe}`, {_NUMBERS[key]}", *_bar(found.get(key), bar, aim), *about])
        if found and recipe in _MINUTES:
            rows.append([f"`{recipe}`, minutes", *_time(found["runs"], _MINUTES[recipe])])
    parts = []
    if best := record.get("fer2013_best"):
        found = _bar(best["ece_calibrated"], *_ECE, less=True)
        rows.append(["`fer2013_best`, ECE after calibration", *found, "", str(len(best["runs"]))])
        first = best["runs"][0]
        error = first["calibration"]["ece"]["equal_mass"]
        if error["value"] <= error["chance_95"]:
            parts.append(_CHANCE.format(n=first["n"], seed=first["seed"], **error))
    titles = ["", "measured", "at least", "aim", "reached", "95 % interval", "seeds"]
    return "\n\n".join([markdown(titles, rows), *parts])


def _spread(runs: list[dict[str, Any]], key: str) -> str:
    """The interval of an accuracy by the pictures, of the first seed."""
    counted = {"val_accuracy": "n", "val_accuracy_no_duplicates": "n_no_duplicates"}
    if key not in counted:
        return ""
    low, high = wilson(runs[0][key], runs[0][counted[key]])
    return f"{low:.3f} to {high:.3f}"


def _time(runs: list[dict[str, Any]], most: float) -> list[str]:
    """A row's cells about the minutes of all runs, which are of different processors."""
    within = [run["minutes"] <= most for run in runs]
    reached = "yes" if all(within) else "no" if not any(within) else f"by {sum(within)} of {len(within)}"
    return [", ".join(f"{run['minutes']:.1f}" for run in runs), f"<= {most:g}", "", reached, "", str(len(runs))]


def _bar(found: float | None, bar: float, aim: float, *, less: bool = False) -> list[str]:
    if found is None:
        return ["not measured", f"{bar:g}", f"{aim:g}", "no"]
    shown = f"{float(cut(found, 2, up=less)) / 100:.4f}"
    sign = "< " if less else ""
    return [shown, f"{sign}{bar:g}", f"{sign}{aim:g}", "yes" if (found < bar if less else found >= bar) else "no"]


def _recipe(name: str, found: dict[str, Any]) -> str:
    parts = [f"## `{name}`"]
    if found["note"]:
        parts.append(found["note"])
    for run in found["runs"]:
        low, high = (100 * x for x in run["interval"])
        parts.append(
            f"Seed {run['seed']}: {cut(run['val_accuracy'], 2)} % of {run['n']:,} (95 % interval {low:.1f} to "
            f"{high:.1f}), {cut(run['val_accuracy_no_duplicates'], 2)} % of the {run['n_no_duplicates']:,} that are "
            f"not in train, {cut(run['val_accuracy_no_near_copies'], 2)} % without the {run['near_copies']:,} of "
            f"which the leak gate {'of then found' if 'gate' in run else 'finds'} a near copy there; "
            f"{run['minutes']:.1f} minutes ({run['processor']}). Calibration: {run['decision']}; {_errors(run)}. "
            f"SHA-256 of the weights {run['digest'][:16]}..."
        )
    first = found["runs"][0]
    names = first["class_names"]
    rows = [
        [true, *(f"{count:g}" for count in row), cut(recall)]
        for true, row, recall in zip(names, first["confusion"], first["recall"], strict=True)
    ]
    parts += [f"Confusion, seed {first['seed']}:", markdown(["true \\ predicted", *names, "recall, %"], rows)]
    return "\n\n".join(parts)


def _errors(run: dict[str, Any]) -> str:
    """The calibration error of one run, before and after, and how well its bins fit."""
    by_chance = run["calibration"]["ece"]["equal_mass"]["chance_95"]
    bins = run["calibration"]["bins"]
    inside = sum(x["low"] <= x["confidence"] <= x["high"] for x in bins)
    return (
        f"ECE {cut(run['ece'], 2, up=True)} → {cut(run['ece_calibrated'], 2, up=True)} % (by chance up to "
        f"{cut(by_chance, 2)}), the mean confidence within the interval in {inside} of {len(bins)} bins"
    )
