"""Measures emojax against timm and torch, in turns on the same work, and prints ratios with min, median and max.

    python scripts/bench.py train --peer-python=PATH --json=out.json    # one section, as a list of records
    python scripts/bench.py all --peer-python=PATH                      # everything; writes docs/performance.*
    python scripts/bench.py infer --peer-python=PATH --only=resnet --quick
    python scripts/bench.py page                                        # docs/performance.md anew from its JSON

Sections: train, infer, pipeline, run, startup, memory. PATH is the interpreter of an environment with torch,
torchvision, timm, pyarrow and, for infer, onnx, onnxscript and onnxruntime. A ratio above 1: emojax does better.
CPUs only: the peer's scripts run on the CPU.

Rounds: 5; at most 3 in run, always 1 in memory; 2 with --quick. In startup a first start is one with nothing compiled
before, and its files in the page cache. docs/performance.* are written by `all` without --only and --quick, and by
--update, which replaces the measured works alone and needs the machine, the devices, the switches in the environment
and the versions that are in docs/performance.json; rounds may differ, as every record has its own.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bench_page
import bench_processes
import bench_rates
import bench_stats
import bench_stored
from bench_protocol import BenchError
from bench_setting import ROOT, Setting
from bench_works import SECTIONS, Work, selected

DOCS = ROOT / "docs"
MEASURE = {
    "train": bench_rates.rates,
    "infer": bench_rates.rates,
    "pipeline": bench_rates.rates,
    "run": bench_processes.run,
    "startup": bench_processes.startup,
    "memory": bench_rates.memory,
}
"""section -> (works, setting) -> records."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", choices=(*SECTIONS, "all", "page"))
    parser.add_argument("--peer-python", default="", help="interpreter of the peer's environment")
    parser.add_argument("--json", type=Path, help="file for the list of records; written after each of them")
    parser.add_argument("--only", default="", help="only works whose name contains this")
    parser.add_argument("--rounds", type=int, help="alternations instead of those above, at least 1")
    parser.add_argument("--quick", action="store_true", help="short measurements and little data, to try things out")
    parser.add_argument("--update", action="store_true", help="also put the records into docs/performance.*, see above")
    parser.add_argument(
        "--fer-data",
        type=Path,
        help="run: a folder with train.parquet and val.parquet of FER2013, instead of synthetic faces; records that "
        "were measured on the one are not updated with the other",
    )
    return parser.parse_args()


def check(options: argparse.Namespace) -> list[Work]:
    """The chosen works. Raises `BenchError` for options that cannot be meant, before anything is measured."""
    if options.section == "page":
        unset = {"section": "page", "peer_python": "", "only": "", "quick": False, "update": False}
        if given := [name for name, value in vars(options).items() if value != unset.get(name)]:
            raise BenchError(f"page measures nothing: leave out --{given[0].replace('_', '-')}")
        return []
    if not options.peer_python:
        raise BenchError("--peer-python is missing: the interpreter of an environment with torch and timm")
    if options.rounds is not None and options.rounds < 1:
        raise BenchError(f"--rounds: expected 1 or more, found {options.rounds}")
    if options.json and not options.json.absolute().parent.is_dir():
        raise BenchError(f"--json: there is no folder {options.json.parent}")
    if options.update and options.quick:
        raise BenchError("--update: what --quick measures is not for docs/performance.json")
    if folder := options.fer_data:
        if options.section not in ("run", "all"):
            raise BenchError("--fer-data is for the section run")
        if missing := [name for name in ("train.parquet", "val.parquet") if not (folder / name).is_file()]:
            raise BenchError(f"--fer-data: {folder} has no {missing[0]}")
    if works := selected(options.section, options.only):
        return works
    raise BenchError(f"no work of section {options.section} has {options.only!r} in its name")


def interpreter(given: str) -> str:
    """A path as it is from every folder; not resolved, as links lead out of virtual environments."""
    return str(Path(given).absolute()) if os.sep in given else given


def measured(works: Sequence[Work], setting: Setting, file: Path | None) -> list[dict[str, Any]]:
    """The records of the works; every one is printed, and all so far written to `file`, as soon as it is there."""
    records, stamp = [], bench_stored.stamp()
    for section, measure in MEASURE.items():
        for record in measure([work for work in works if work.section == section], setting):
            records.append({**record, **stamp})
            print(bench_stats.line(record), flush=True)
            if file:
                file.write_text(json.dumps(records, indent=1) + "\n")
    return records


def write_page(found: dict[str, Any]) -> None:
    """docs/performance.json, .md and .png."""
    (DOCS / "performance.json").write_text(json.dumps(found, indent=1) + "\n")
    text = DOCS / "performance.md"
    text.write_text(bench_page.page(found, text.read_text() if text.exists() else ""))
    bench_page.chart(found, DOCS / "performance.png")


def main() -> None:
    options = arguments()
    try:
        works = check(options)
        stored = bench_stored.read(DOCS / "performance.json") if options.update or options.section == "page" else {}
        if not works:
            write_page(stored)
            return
        with tempfile.TemporaryDirectory() as folder:
            setting = Setting(
                peer_python=interpreter(options.peer_python),
                rounds=options.rounds or (2 if options.quick else 5),
                seconds=0.3 if options.quick else 2.0,
                folder=Path(folder),
                jpegs=64 if options.quick else 384,
                faces=1024 if options.quick else 28_672,
                fer_data=options.fer_data and options.fer_data.resolve(),
            )
            header = bench_stored.header(setting, options.section)
            if options.update:
                bench_stored.check_update(stored, header, works, setting)
            records = measured(works, setting, options.json)
        if options.update:
            write_page(bench_stored.updated(stored, records))
        elif options.section == "all" and not options.only and not options.quick:
            write_page({**header, "records": records})
    except BenchError as error:
        sys.exit(f"bench: {error}")


if __name__ == "__main__":
    main()
