"""docs/performance.md and its chart, made from docs/performance.json; prose below the mark stays as it is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import bench_stats
from bench_works import SECTIONS

MARK = "<!-- Up to here written by scripts/bench.py; what follows is kept. -->"
TITLES = {
    "train": "Training steps",
    "infer": "Inference",
    "pipeline": "Data pipeline",
    "run": "A whole run",
    "startup": "Start-up",
    "memory": "Memory",
}
MEANING = {
    "train": "The train step of a run (AdamW, cross-entropy, metrics, uint8 pictures) against a plain loop with timm.",
    "infer": "uint8 pictures to probabilities on the host, call after call, against torch eager and onnxruntime.",
    "pipeline": "Files to uint8 training batches, against torchvision's v2 transforms in a `DataLoader` with as many "
    "workers.",
    "run": "One epoch of the `fer2013` recipe from the command to the files: start, compiling, training, evaluation, "
    "checkpoint and report, against a plain PyTorch script with the same network and transforms.",
    "startup": "Whole processes. First start: nothing was compiled before; second start: the same command again.",
    "memory": "Bytes of the compiled train step as XLA plans them, against our own plain step; the most memory of a "
    "process that trains, against the peer's.",
}
WIDEST = 20.0
"""Right end of the chart's axis; what is better than that is cut off there, its number is not."""
VERDICTS = {"": "", "aim": "met, with the aim", "met": "met", "missed": "**missed**"}


def page(found: dict[str, Any], old: str = "") -> str:
    """The text of docs/performance.md; everything after `MARK` in `old` is kept."""
    parts = ["# Performance", _opening(found), "![Ratios](performance.png)"]
    for section in SECTIONS:
        if records := [r for r in found["records"] if r["section"] == section]:
            parts += [f"## {TITLES[section]}", MEANING[section], _table(records), *_notes(records)]
    parts += ["## How to measure again", HOW, MARK]
    return "\n\n".join(parts) + (old.partition(MARK)[2] or "\n")


HOW = """    python scripts/bench.py all --peer-python=PATH                   # everything; writes this page
    python scripts/bench.py train --peer-python=PATH --json=out.json    # one section, to a file
    python scripts/bench.py infer --peer-python=PATH --only=resnet      # works whose name contains "resnet"

PATH is the interpreter of an environment with torch, torchvision, timm, pyarrow, onnx, onnxscript, onnxruntime. Both
sides run on the same machine in turns, in processes that stay alive, so that a drift of the machine reaches both. Each
side runs in the fastest of its variants, which are tried first: float32 and bfloat16; for torch also contiguous and
channels_last, and the faster of fused and foreach AdamW; for torchvision PIL pictures and tensors. Every number, with
what was tried, is in [performance.json](performance.json)."""


def _opening(found: dict[str, Any]) -> str:
    machine, versions = found["machine"], found["versions"]
    lines = [
        f"Measured on {found['date']}: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"{machine['system']}. Ours: {_versions(versions['ours'])}. Peer: {_versions(versions['peer'])}."
    ]
    if found["switches"]:
        lines.append(f"Environment: {', '.join(f'`{k}={v}`' for k, v in found['switches'].items())}.")
    if found["quick"]:
        lines.append("**A quick run, to try the benchmark itself: these numbers are not to be quoted.**")
    lines.append(
        f"Medians of up to {found['rounds']} rounds with [least to most]. A ratio above 1: emojax does better, "
        "by ours / peer for images/s, peer / ours for seconds, bytes and shares; its range is over the rounds. Marks "
        "in the chart: | the least that is asked for, ◆ the aim."
    )
    return "\n".join(lines)


def _versions(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())


def _table(records: list[dict[str, Any]]) -> str:
    titles = ["work", "emojax", "peer", "ratio", "at least", "aim", "", "emojax ran", "the peer ran"]
    rows = [
        [
            r["work"],
            _sized(r, "ours"),
            _sized(r, "peer"),
            f"{_short(r['ratio'])} [{_short(r['ratio_range'][0])} to {_short(r['ratio_range'][1])}]",
            _bar(r, "at_least"),
            _bar(r, "aim"),
            VERDICTS[bench_stats.verdict(r)],
            r["ours_variant"],
            r["peer_variant"],
        ]
        for r in records
    ]
    rule = ["---", *["---:"] * 5, *["---"] * 3]
    return "\n".join(f"| {' | '.join(row)} |" for row in (titles, rule, *rows))


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _in_unit(value: float, unit: str) -> str:
    if unit == "bytes":
        return f"{value / 2**20:,.0f} MiB"
    if unit == "share":
        return f"{100 * value:.2f} %"
    return f"{value:,.{3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0}f} {unit}"


def _sized(record: dict[str, Any], side: str) -> str:
    low, high = (_in_unit(v, record["unit"]).split(" ")[0] for v in record[f"{side}_range"])
    spread = f" [{low} to {high}]" if record["rounds"] > 1 else ""
    return _in_unit(record[side], record["unit"]) + spread


def _bar(record: dict[str, Any], bar: str) -> str:
    value = record[bar]
    if value is None:
        return ""
    return f"{value:g}" if record["bar_on"] == "ratio" else f"≤ {_in_unit(value, record['unit'])}"


def _notes(records: Iterable[dict[str, Any]]) -> list[str]:
    """What the details say about whole sections: parameter counts that differ, stages of the pipeline."""
    lines = []
    for r in records:
        counts = r["detail"].get("parameters", {})
        if len(set(counts.values())) > 1:
            lines.append(f"- {r['work']}: parameters differ: {', '.join(f'{k} {v:,}' for k, v in counts.items())}.")
        if stages := r["detail"].get("stages_ms"):
            each = ", ".join(f"{name} {value:.3g}" for name, value in stages.items())
            lines.append(f"- {r['work']}: milliseconds per picture of ours: {each}.")
    return ["\n".join(lines)] if lines else []


def chart(found: dict[str, Any], file: Path) -> None:
    """Ratios per work on a logarithmic axis, with the bars that they were asked to reach."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    records = [r for section in SECTIONS for r in found["records"] if r["section"] == section]
    figure = Figure(figsize=(9, 1.2 + 0.26 * len(records)), layout="constrained")
    axes = figure.subplots()
    colours = dict(zip(SECTIONS, mpl.color_sequences["tab10"], strict=False))
    for i, r in enumerate(records):
        low, high = (min(x, WIDEST) for x in r["ratio_range"])
        axes.barh(i, min(r["ratio"], WIDEST) - 1, left=1, height=0.7, color=colours[r["section"]], alpha=0.55)
        axes.plot([low, high], [i, i], color="0.25", linewidth=1.2)
        axes.text(1.01, i, f"{_short(r['ratio'])} ×", transform=axes.get_yaxis_transform(), va="center", fontsize=8)
        if r["bar_on"] == "ratio":
            for bar, marker in (("at_least", "|"), ("aim", "D")):
                if r[bar] is not None:
                    axes.plot([r[bar]], [i], marker, color="black", markersize=10 if marker == "|" else 4, mfc="white")
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlim(right=WIDEST)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(records)), [f"{r['section']}: {r['work']}" for r in records], fontsize=8)
    axes.set_ylim(len(records) - 0.5, -0.5)
    axes.grid(axis="x", which="both", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("how many times better emojax is than its peer")
    figure.savefig(file, dpi=110, metadata={"Software": None})
