"""docs/performance.md and its chart, made from docs/performance.json; prose below the mark stays as it is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import bench_stats
from bench_works import EQUAL, SECTIONS, WORKS

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
    "pipeline": "uint8 training batches, against torchvision's v2 transforms in a `DataLoader`. Both read JPEGs from "
    "files. Faces: emojax decodes a split of small pictures of one size once, when the data set is opened (up to "
    "512 MiB as RGB) and outside the clock, so its batches begin with pixels; the peer keeps the PNGs in memory and "
    "decodes one for every sample. Without worker processes emojax loads in two threads and the `DataLoader` in its "
    "one process; only the rows with 2 worker processes each have equal workers.",
    "run": "One epoch of the `fer2013_15min` recipe from the command to the files: start, compiling, training, "
    "evaluation, checkpoint and report, against a plain PyTorch script with the same network and transforms. bfloat16: "
    "`model.products=bfloat16` for emojax, autocast for torch.",
    "startup": "Whole processes. First start: nothing was compiled before, and the files are in the page cache; second "
    "start: the same command again. Both sides may write bytecode, as Python does by default. A ceiling is asked of "
    "our number alone, so it has no peer.",
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
        records = [r for r in found["records"] if r["section"] == section]
        parts += [f"## {TITLES[section]}", MEANING[section], *([_table(records)] if records else []), *_notes(records)]
        if missing := [name for part, name in not_measured(found) if part == section]:
            parts.append(f"Not measured: {'; '.join(missing)}.")
    parts += ["## How to measure again", HOW, MARK]
    return "\n\n".join(parts) + (old.partition(MARK)[2] or "\n")


def not_measured(found: dict[str, Any]) -> list[tuple[str, str]]:
    """(section, name) of the works that have no record."""
    there = {(r["section"], r["work"]) for r in found["records"]}
    return [(work.section, work.name) for work in WORKS if (work.section, work.name) not in there]


HOW = """    python scripts/bench.py all --peer-python=PATH                   # everything; writes this page
    python scripts/bench.py train --peer-python=PATH --json=out.json    # one section, to a file
    python scripts/bench.py infer --peer-python=PATH --only=resnet      # works whose name contains "resnet"
    python scripts/bench.py run --peer-python=PATH --fer-data=FOLDER    # on real faces instead of synthetic ones

PATH is the interpreter of an environment with torch, torchvision, timm, pyarrow, onnx, onnxscript, onnxruntime. FOLDER
holds train.parquet and val.parquet of FER2013; a record of the section run says which faces it is of, and those of real
and of synthetic faces are not mixed. `--update` puts the records of a call into this page, on the same machine with the
same versions.

Both sides run on the same machine in turns, in processes that stay alive (train, infer, pipeline) or one after the
other (run, startup), so that a drift of the machine reaches both. In train, infer, pipeline and run each side runs in
the fastest of those of its variants that its record lists as tried: float32 and bfloat16; for torch also contiguous and
channels_last, for inference weights in bfloat16 beside autocast, in train the faster of fused and foreach AdamW; for
torchvision PIL pictures and tensors; in run 0 and 2 workers. emojax has one variant in pipeline. In startup and memory
nothing is tried: the variants are fixed. Every number, with what was tried, is in [performance.json](performance.json).

**Nothing here was measured on a GPU or TPU**, and these scripts do not: the peer's run on the CPU, so bench.py refuses
another device for emojax. On an accelerator a run itself says how fast it is: rows of kind `speed` in
`WORKDIR/metrics.jsonl` hold images per second and the share of time that waited for data, as in

    python -m emojax.main --config=configs/convnext_tiny.py --workdir=runs/speed --config.model.compute=bfloat16"""


def _opening(found: dict[str, Any]) -> str:
    machine, versions = found["machine"], found["versions"]
    lines = [
        f"{_when(found)} On {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"{machine['system']}. Ours: {_versions(versions['ours'])}. Peer: {_versions(versions['peer'])}."
    ]
    if found["switches"]:
        lines.append(f"Environment: {', '.join(f'`{k}={v}`' for k, v in found['switches'].items())}.")
    lines.append(
        "Medians with [least to most] over the rounds in the table. A ratio above 1: emojax does better, "
        "by ours / peer for images/s, peer / ours for seconds, bytes and shares; its range is over the rounds. Marks "
        "in the chart: | the least that is asked for, ◆ the aim."
    )
    return "\n".join(lines)


def _when(found: dict[str, Any]) -> str:
    """In how many calls, when, and with how many rounds the records were measured, as far as they say it."""
    records = found["records"]
    dates = sorted({r["date"] for r in records if r["date"]})
    rounds = sorted({r["rounds"] for r in records})
    spread = " to ".join(map(str, sorted({rounds[0], rounds[-1]})))
    if len({_measured(r) for r in records}) == 1 and dates:
        return f"Measured at {_measured(records[0])}, rounds: {spread}."
    text = f"**Put together from several calls of scripts/bench.py**, rounds: {spread}"
    if dates:
        text += f", on {' and '.join(dates) if len(dates) < 3 else f'{len(dates)} days from {dates[0]} to {dates[-1]}'}"
    if not all(r["date"] for r in records):
        text += f"; rows without a date come from {found['undated']}, with code up to the commit that the row names"
    return text + "."


def _measured(record: dict[str, Any]) -> str:
    """The date and commit of a record; of older ones, the commit that brought it into the repository."""
    if record["date"]:
        return " ".join(filter(None, (record["date"], record["commit"])))
    return f"up to {record['before']}"


def _versions(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())


def _table(records: list[dict[str, Any]]) -> str:
    titles = [
        "work",
        "emojax",
        "peer",
        "ratio",
        "at least",
        "aim",
        "",
        "rounds",
        "emojax ran",
        "the peer ran",
        "measured",
    ]
    rows = [
        [
            r["work"],
            _sized(r, "ours"),
            _sized(r, "peer"),
            _compared(r),
            _bar(r, "at_least"),
            _bar(r, "aim"),
            VERDICTS[bench_stats.verdict(r)],
            str(r["rounds"]),
            r["ours_variant"],
            r["peer_variant"],
            _measured(r),
        ]
        for r in records
    ]
    rule = ["---", *["---:"] * 5, "---", "---:", *["---"] * 3]
    return "\n".join(f"| {' | '.join(row)} |" for row in (titles, rule, *rows))


def _compared(record: dict[str, Any]) -> str:
    if record["ratio"] is None:
        return ""
    low, high = map(_short, record["ratio_range"])
    return _short(record["ratio"]) + (f" [{low} to {high}]" if record["rounds"] > 1 else "")


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _in_unit(value: float, unit: str) -> str:
    if unit == "bytes":
        return f"{value / 2**20:,.0f} MiB"
    if unit == "share":
        return f"{100 * value:.2f} %"
    return f"{value:,.{3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0}f} {unit}"


def _sized(record: dict[str, Any], side: str) -> str:
    if record[side] is None:
        return ""
    low, high = (_in_unit(v, record["unit"]).split(" ")[0] for v in record[f"{side}_range"])
    spread = f" [{low} to {high}]" if record["rounds"] > 1 else ""
    return _in_unit(record[side], record["unit"]) + spread


def _bar(record: dict[str, Any], bar: str) -> str:
    value = record[bar]
    if value is None:
        return ""
    return f"{value:g}" if record["bar_on"] == "ratio" else f"≤ {_in_unit(value, record['unit'])}"


def _notes(records: Iterable[dict[str, Any]]) -> list[str]:
    """What the details say: data, parameter counts that differ, sides that did not settle, stages of the pipeline."""
    lines = sorted({f"- Data: {_data(r['data'])}." for r in records if "data" in r})
    for r in records:
        if note := r["detail"].get("note"):
            lines.append(f"- {r['work']}: {note}")
        for side, settled in r["detail"].get("settled", {}).items():
            if not settled:
                lines.append(f"- {r['work']}: {side} never took the same time twice before the rounds began.")
        if r["section"] == "pipeline" and EQUAL in r["work"] and bench_stats.verdict(r) == "missed":
            lines.append(f"- With equal workers the bar is missed: {r['work']}.")
        counts = r["detail"].get("parameters", {})
        if len(set(counts.values())) > 1:
            lines.append(f"- {r['work']}: parameters differ: {', '.join(f'{k} {v:,}' for k, v in counts.items())}.")
        if stages := r["detail"].get("stages_ms"):
            each = ", ".join(f"{name} {value:.3g}" for name, value in stages.items())
            lines.append(f"- {r['work']}: milliseconds per picture of ours: {each}.")
    return ["\n".join(lines)] if lines else []


def _data(data: dict[str, Any]) -> str:
    if data["train"] is None:
        return f"{data['kind']}; how many was not kept"
    return f"{data['kind']}, {data['train']:,} to train on and {data['val']:,} in val"


def chart(found: dict[str, Any], file: Path) -> None:
    """Ratios per work on a logarithmic axis, with the bars that they were asked to reach."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    compared = [r for r in found["records"] if r["ratio"] is not None]
    records = [r for section in SECTIONS for r in compared if r["section"] == section]
    figure = Figure(figsize=(9, 1.2 + 0.26 * len(records)), layout="constrained")
    axes = figure.subplots()
    colours = dict(zip(SECTIONS, mpl.color_sequences["tab10"], strict=False))
    for i, r in enumerate(records):
        low, high = (min(x, WIDEST) for x in r["ratio_range"])
        axes.barh(i, min(r["ratio"], WIDEST) - 1, left=1, height=0.7, color=colours[r["section"]], alpha=0.55)
        axes.plot([low, high], [i, i], color="0.25", linewidth=1.2)
        axes.text(1.01, i, f"{_short(r['ratio'])} ×", transform=axes.get_yaxis_transform(), va="center", fontsize=8)
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
