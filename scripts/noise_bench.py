"""What the kit against wrong labels and rare classes is worth where the fault is known, because it was planted.

    python scripts/noise_bench.py          # writes docs/noise.json and docs/noise.md; minutes on two cores
    python scripts/noise_bench.py search search_skewed search_mirrored   # settings that were tried, dev, other seeds
    python scripts/noise_bench.py page     # the page again, from docs/noise.json; also each section by its name
    python scripts/noise_bench.py noisy --methods=ce,elr

Settings were chosen with `search` on dev (300 digits) with the seeds of `SEARCH_SEEDS`; the tables show test (497
digits) with the seeds of `SEEDS`, which differ in the planted fault, the start of the network and the order of the
data. No run chooses a checkpoint: its last weights are judged.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from typing import Any

import jax
from noise_page import PAGE, RECORD, TABLES, page
from noise_runs import DOUBT, EPOCHS, MOST, NOISE, SKEW, VOTES, Change, Found, run

from emojax import files, parallel
from emojax.config import Config, LossConfig, StageConfig

SEEDS = (0, 1, 2)
SEARCH_SEEDS = (100, 101)


def loss(**knobs: Any) -> Change:
    """Other knobs of the loss."""

    def change(config: Config) -> None:
        config.loss = dataclasses.replace(config.loss, **knobs)

    return change


def both(*changes: Change) -> Change:
    """One change after the other."""

    def change(config: Config) -> None:
        for one in changes:
            one(config)

    return change


def knob(part: str, **knobs: Any) -> Change:
    """Other knobs of a part of the config."""

    def change(config: Config) -> None:
        setattr(config, part, dataclasses.replace(getattr(config, part), **knobs))

    return change


def deferred(margin: float) -> Change:
    """LDAM on cosines; the last fifth of the run weighs classes by their effective numbers."""

    def change(config: Config) -> None:
        config.model.head = "cosine"
        config.loss = LossConfig(name="ldam", margin=margin)
        again = LossConfig(name="ldam", margin=margin, class_weights="effective", effective_beta=0.99)
        epochs = config.stages[0].epochs
        config.stages = (StageConfig(epochs=0.8 * epochs), StageConfig(epochs=0.2 * epochs, loss=again))

    return change


def retrained(times: float) -> Change:
    """The last fifth of the run trains a new classifier alone, on classes that are drawn alike. It starts from nothing
    and has few updates, so its rate is a multiple of the network's."""

    def change(config: Config) -> None:
        epochs = config.stages[0].epochs
        own = dataclasses.replace(config.schedule, warmup_epochs=0.0)
        again = StageConfig(
            epochs=0.2 * epochs,
            frozen="^(?!head/)",
            restart="^head/",
            sampler="balanced",
            schedule=own,
            learning_rate=times * config.optim.learning_rate,
        )
        config.stages = (StageConfig(epochs=0.8 * epochs, schedule=own), again)

    return change


def plain(config: Config) -> None:
    """The base config: cross-entropy."""
    del config


def importance(**knobs: Any) -> Change:
    """SCN's layer and loss."""
    return both(knob("model", importance=1), loss(**knobs))


NOISE_METHODS: dict[str, tuple[str, Change]] = {
    "ce": ("cross-entropy", plain),
    "smoothing": ("label smoothing 0.1", loss(smoothing=0.1)),
    "gce": ("generalised cross-entropy, q 0.95", loss(name="gce", q=0.95)),
    "sce": ("symmetric cross-entropy, alpha 0.01, beta 8", loss(name="sce", alpha=0.01, reverse=8.0)),
    "bootstrap_soft": ("bootstrapping, soft, trust 0.6", loss(name="bootstrap_soft", trust=0.6)),
    "bootstrap_hard": ("bootstrapping, hard, trust 0.6", loss(name="bootstrap_hard", trust=0.6)),
    "elr": ("early-learning regularisation 6, momentum 0.7", loss(elr=6.0, elr_momentum=0.7)),
    "forget": ("small-loss selection, 0.2 of a batch from epoch 5 on", loss(forget=0.2, forget_epochs=5.0)),
    "coteaching": (
        "co-teaching, the same with twins",
        both(knob("model", twins=1), loss(forget=0.2, forget_epochs=5.0)),
    ),
    "elr_forget": (
        "early-learning regularisation 3 and small-loss selection",
        loss(elr=3.0, elr_momentum=0.7, forget=0.2, forget_epochs=5.0),
    ),
    "scn": ("SCN, gamma 0.2, relabelling by 0.2", importance(importance=0.2, relabel=0.2)),
    "sam": ("SAM, rho 0.7", knob("optim", sam=0.7)),
}
"""key -> (what the table calls it, the change)."""

SKEW_METHODS: dict[str, tuple[str, Change]] = {
    "ce": ("cross-entropy", plain),
    "balanced": ("class weights balanced", loss(class_weights="balanced")),
    "effective": ("class weights effective, beta 0.99", loss(class_weights="effective", effective_beta=0.99)),
    "sampler": ("balanced sampler", knob("data", sampler="balanced")),
    "logit_adjust": ("logit-adjusted loss, tau 1 (= balanced softmax)", loss(logit_adjust=1.0)),
    "ldam_drw": ("LDAM, margin 15, with deferred re-weighting", deferred(15.0)),
    "crt": ("classifier re-training, rate times 30", retrained(30.0)),
}

FLIPS = knob("augment", flip=0.5)
MIRRORED_METHODS: dict[str, tuple[str, Change]] = {
    "ce": ("cross-entropy, mirrored at random", FLIPS),
    "consistency": ("the same and flip-consistency 100", both(FLIPS, loss(flip_consistency=100.0))),
}

VOTE_METHODS: dict[str, tuple[str, Change]] = {
    "one": ("one vote is the label", knob("data", label_column="one")),
    "majority": ("majority (`data.vote_rule`)", knob("data", vote_rule="majority")),
    "cross_entropy": ("cross-entropy against the votes", knob("data", vote_rule="cross_entropy")),
    "multi_target": (
        "multi-target (`loss.name` too)",
        both(knob("data", vote_rule="multi_target"), loss(name="multi_target")),
    ),
    "draw": (
        "a label drawn every time (`augment.draw_labels`)",
        both(knob("data", vote_rule="cross_entropy"), knob("augment", draw_labels=1)),
    ),
}

SEARCH: dict[str, tuple[str, Change]] = {
    "ce": ("cross-entropy", plain),
    "gce 0.7": ("generalised cross-entropy, q 0.7", loss(name="gce", q=0.7)),
    "gce 0.95": ("generalised cross-entropy, q 0.95", loss(name="gce", q=0.95)),
    "sce 0.1": ("symmetric cross-entropy, alpha 0.1, beta 1", loss(name="sce", alpha=0.1)),
    "sce 0.1 4": ("symmetric cross-entropy, alpha 0.1, beta 4", loss(name="sce", alpha=0.1, reverse=4.0)),
    "sce 0.01": ("symmetric cross-entropy, alpha 0.01, beta 1", loss(name="sce", alpha=0.01)),
    "sce 0.01 8": NOISE_METHODS["sce"],
    "soft 0.2": ("bootstrapping, soft, trust 0.2", loss(name="bootstrap_soft", trust=0.2)),
    "soft 0.6": NOISE_METHODS["bootstrap_soft"],
    "hard 0.3": ("bootstrapping, hard, trust 0.3", loss(name="bootstrap_hard", trust=0.3)),
    "hard 0.6": NOISE_METHODS["bootstrap_hard"],
    "elr 3 0.9": ("early-learning regularisation 3, momentum 0.9", loss(elr=3.0, elr_momentum=0.9)),
    "elr 3 0.7": ("early-learning regularisation 3, momentum 0.7", loss(elr=3.0, elr_momentum=0.7)),
    "elr 6 0.7": NOISE_METHODS["elr"],
    "elr_forget": NOISE_METHODS["elr_forget"],
    "forget": NOISE_METHODS["forget"],
    "coteaching": NOISE_METHODS["coteaching"],
    "scn 0.5": ("SCN, gamma 0.5, relabelling by 0.2", importance(importance=0.5, relabel=0.2)),
    "scn 0.2": NOISE_METHODS["scn"],
    "scn 0.1": ("SCN, gamma 0.1, relabelling by 0.2", importance(importance=0.1, relabel=0.2)),
    "sam 0.1": ("SAM, rho 0.1", knob("optim", sam=0.1)),
    "sam 0.7": NOISE_METHODS["sam"],
    "sam 1": ("SAM, rho 1", knob("optim", sam=1.0)),
    "sam 2": ("SAM, rho 2", knob("optim", sam=2.0)),
}
"""What was tried, with planted noise."""
SEARCH_SKEWED: dict[str, tuple[str, Change]] = {
    **{f"ldam {m:g}": (f"LDAM, margin {m:g}, with deferred re-weighting", deferred(m)) for m in (5.0, 15.0, 30.0)},
    **{f"crt {t:g}": (f"classifier re-training, rate times {t:g}", retrained(t)) for t in (1, 3, 10, 30, 100)},
}
SEARCH_MIRRORED: dict[str, tuple[str, Change]] = {
    "ce": MIRRORED_METHODS["ce"],
    **{
        f"consistency {w:g}": (f"the same and flip-consistency {w:g}", both(FLIPS, loss(flip_consistency=w)))
        for w in (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
    },
}


def measure(fault: str, methods: dict[str, tuple[str, Change]], seeds: tuple[int, ...], split: str) -> dict[str, Any]:
    """{method: {"title", "runs": what every seed came to}}."""
    table: dict[str, Any] = {}
    for key, (title, change) in methods.items():
        found: list[Found] = []
        for seed in seeds:
            found.append(run(fault, change, seed=seed, split=split))
            told = f"{fault or 'clean':5} {key:15} seed {seed}: {found[-1].accuracy:.3f} {found[-1].mean_class:.3f}"
            sys.stderr.write(f"{told} ({found[-1].seconds:.0f} s)\n")
        table[key] = {"title": title, "runs": [dataclasses.asdict(one) for one in found]}
    return table


SECTIONS: dict[str, tuple[str, dict[str, tuple[str, Change]], tuple[int, ...], str]] = {
    "clean": ("", {"ce": NOISE_METHODS["ce"]}, SEEDS, "test"),
    "noisy": ("noise", NOISE_METHODS, SEEDS, "test"),
    "skewed": ("skew", SKEW_METHODS, SEEDS, "test"),
    "mirrored": ("mirror", MIRRORED_METHODS, SEEDS, "test"),
    "votes": ("votes", VOTE_METHODS, SEEDS, "test"),
    "search": ("noise", SEARCH, SEARCH_SEEDS, "val"),
    "search_skewed": ("skew", SEARCH_SKEWED, SEARCH_SEEDS, "val"),
    "search_mirrored": ("mirror", SEARCH_MIRRORED, SEARCH_SEEDS, "val"),
}
"""section -> (fault, methods, seeds, split)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", nargs="*", choices=[*SECTIONS, "page"], default=list(TABLES))
    parser.add_argument("--methods", default="", help="only these of the sections, with commas; the others stay")
    options = parser.parse_args()
    only = options.methods.split(",") if options.methods else None
    known = {key for section in options.section if section != "page" for key in SECTIONS[section][1]}
    if unknown := set(only or ()) - known:
        parser.error(f"--methods: no {', '.join(sorted(unknown))} there; known are {', '.join(sorted(known))}")
    parallel.prepare()
    for section in options.section:
        if section != "page":
            fault, methods, seeds, split = SECTIONS[section]
            chosen = {key: method for key, method in methods.items() if only is None or key in only}
            found = measure(fault, chosen, seeds, split)
            record: dict[str, Any] = files.parse_json(RECORD.read_bytes()) if RECORD.exists() else {}
            rows = record.get(section, {}) | found
            record[section] = {key: rows[key] for key in methods if key in rows}
            record["about"] = {
                "seeds": SEEDS,
                "search_seeds": SEARCH_SEEDS,
                "noise": NOISE,
                "most": MOST,
                "ratio": SKEW,
                "epochs": EPOCHS,
                "votes": VOTES,
                "doubt": DOUBT,
                "machine": f"jax {jax.__version__}, {os.cpu_count()} cores",
            }
            files.write_json(RECORD, record)
    files.write_text(PAGE, page(files.parse_json(RECORD.read_bytes())))


if __name__ == "__main__":
    main()
