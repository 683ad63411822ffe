"""Measures emojax against timm and torch, in turns on the same work, and prints ratios with min, median and max.

    python scripts/bench.py train --peer-python=PATH --json=out.json    # one section, as a list of records
    python scripts/bench.py all --peer-python=PATH                      # everything; writes docs/performance.*
    python scripts/bench.py infer --peer-python=PATH --only=resnet --quick
    python scripts/bench.py page                                        # docs/performance.md anew from its JSON

Sections: train, infer, pipeline, run, startup, memory. PATH is the interpreter of an environment with torch,
torchvision, timm, pyarrow and, for infer, onnx, onnxscript and onnxruntime. A ratio above 1: emojax does better.
--update replaces the measured works in docs/performance.json, on the machine and with the versions that are in it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import bench_page
import bench_processes
import bench_rates
import bench_setting
import bench_stats
from bench_protocol import BenchError
from bench_setting import ROOT, Setting
from bench_works import SECTIONS, selected

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
    parser.add_argument("--rounds", type=int, default=0, help="alternations; default 5, with --quick 2")
    parser.add_argument("--quick", action="store_true", help="short measurements and little data, to try things out")
    parser.add_argument("--update", action="store_true", help="also put the records into docs/performance.json")
    parser.add_argument("--fer-data", type=Path, help="run: a folder with train.parquet and val.parquet of real faces")
    return parser.parse_args()


def interpreter(given: str) -> str:
    """A path as it is from every folder; not resolved, as links lead out of virtual environments."""
    return str(Path(given).absolute()) if os.sep in given else given


def measured(options: argparse.Namespace, setting: Setting) -> dict[str, Any]:
    """What docs/performance.json holds, of the chosen works; every record is printed as soon as it is there."""
    with setting.peer() as peer:
        theirs = peer.call("hello")
        bench_setting.check_peer(theirs["versions"], options.section)
    with setting.ours() as ours:
        mine = ours.call("hello")
    records = []
    for section, measure in MEASURE.items():
        works = [work for work in selected(options.section, options.only) if work.section == section]
        for record in measure(works, setting):
            records.append(record)
            print(bench_stats.line(record), flush=True)
            if options.json:
                options.json.write_text(json.dumps(records, indent=1) + "\n")
    if not records:
        raise BenchError(f"no work of section {options.section} has {options.only!r} in its name")
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "quick": options.quick,
        "rounds": setting.rounds,
        "machine": bench_setting.machine(),
        "devices": mine["devices"],
        "switches": bench_setting.switches(),
        "versions": {"ours": mine["versions"], "peer": theirs["versions"]},
        "records": records,
    }


def updated(stored: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """`stored` with the records of `found` in their places; refuses to mix machines, versions or thoroughness."""
    for name in ("machine", "devices", "switches", "versions", "quick", "rounds"):
        if stored[name] != found[name]:
            raise BenchError(f"docs/performance.json was measured with another {name}: measure all of it again")
    new = {(r["section"], r["work"]): r for r in found["records"]}
    kept = [new.pop((r["section"], r["work"]), r) for r in stored["records"]]
    return {**stored, "date": found["date"], "records": kept + list(new.values())}


def write_page(found: dict[str, Any]) -> None:
    """docs/performance.json, .md and .png."""
    (DOCS / "performance.json").write_text(json.dumps(found, indent=1) + "\n")
    text = DOCS / "performance.md"
    text.write_text(bench_page.page(found, text.read_text() if text.exists() else ""))
    bench_page.chart(found, DOCS / "performance.png")


def main() -> None:
    options = arguments()
    stored = DOCS / "performance.json"
    try:
        if options.section == "page":
            write_page(json.loads(stored.read_text()))
            return
        if not options.peer_python:
            raise BenchError("--peer-python is missing: the interpreter of an environment with torch and timm")
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
            found = measured(options, setting)
        if options.update:
            found = updated(json.loads(stored.read_text()), found)
        if options.update or (options.section == "all" and not options.only):
            write_page(found)
    except BenchError as error:
        sys.exit(f"bench: {error}")


if __name__ == "__main__":
    main()
