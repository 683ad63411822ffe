"""docs/performance.json: what it says about all records, when and at what code one was measured, and its updates."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bench_setting
from bench_protocol import BenchError
from bench_setting import Setting
from bench_works import Work

HEADER = ("machine", "devices", "switches", "versions")
"""What all records of the file share."""


def stamp() -> dict[str, str]:
    """{"date", "commit"} of a record that is measured now."""
    return {"date": datetime.datetime.now(datetime.UTC).date().isoformat(), "commit": bench_setting.commit()}


def header(setting: Setting, section: str) -> dict[str, Any]:
    """What `HEADER` names, asked of both sides.

    Raises `BenchError` when the peer's interpreter is none that can measure `section`, or ours would run on a GPU.
    """
    try:
        with setting.peer() as peer:
            theirs = peer.call("hello")
    except BenchError as error:
        raise BenchError(f"{error} (--peer-python: is it a Python with torch?)") from error
    bench_setting.check_peer(theirs["versions"], section)
    with setting.ours() as ours:
        mine = ours.call("hello")
    if "(cpu)" not in mine["devices"]:
        raise BenchError(f"the peer runs on the CPU, emojax would on {mine['devices']}: set JAX_PLATFORMS=cpu")
    return {
        "machine": bench_setting.machine(),
        "devices": mine["devices"],
        "switches": bench_setting.switches(),
        "versions": {"ours": mine["versions"], "peer": theirs["versions"]},
    }


def read(file: Path) -> dict[str, Any]:
    """The stored file; `BenchError` when there is none or it is no JSON with the parts that it must have."""
    try:
        found = json.loads(file.read_text())
        missing = [name for name in (*HEADER, "records") if name not in found]
    except (OSError, ValueError) as error:
        raise BenchError(f"{file.name} cannot be read ({error}): measure `all` first") from error
    if missing:
        raise BenchError(f"{file.name} does not say its {missing[0]}: measure all of it again")
    return found


def check_update(stored: dict[str, Any], new: dict[str, Any], works: Sequence[Work], setting: Setting) -> None:
    """Raises `BenchError` unless records of `works`, measured under the header `new`, may stand beside those that stay.

    The section run must be of one set of data.
    """
    for name in HEADER:
        if stored[name] != new[name]:
            raise BenchError(f"docs/performance.json was measured with another {name}: measure all of it again")
    replaced = {(work.section, work.name) for work in works}
    if "run" not in {work.section for work in works}:
        return
    for record in stored["records"]:
        if record["section"] == "run" and (record["section"], record["work"]) not in replaced:
            was = {name: value for name, value in record["data"].items() if value is not None}
            if was != {name: setting.run_data[name] for name in was}:
                raise BenchError(f"{record['work']!r} was measured on {was['kind']}: measure all of run again")


def updated(stored: dict[str, Any], records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`stored` with `records` in the places of those of the same work; new works come last."""
    new = {(r["section"], r["work"]): r for r in records}
    kept = [new.pop((r["section"], r["work"]), r) for r in stored["records"]]
    return {**stored, "records": kept + list(new.values())}
