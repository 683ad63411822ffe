"""docs/reliability.json: what was counted, on which machine, with which versions. Written after every unit of work."""

from __future__ import annotations

import dataclasses
import datetime
import fcntl
import hashlib
import importlib.metadata
import json
import os
import sys
from pathlib import Path
from typing import Any

from bench_setting import ROOT, machine

from emojax import __version__, files

OUTPUT = ROOT / "docs/reliability.json"


@dataclasses.dataclass
class Unit:
    """One piece of a campaign.

    Attributes:
      done, passed: how many of what is counted.
      counts: name -> how many, summed over all units.
      measured: rows {name, value, unit, limit} of numbers.
      failures: rows with the seed, and what was seen.
    """

    done: int
    passed: int
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    measured: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    failures: list[dict[str, Any]] = dataclasses.field(default_factory=list)


def check(name: str, ok: bool, *, seen: str = "", **measured: Any) -> Unit:
    """A unit of one check; `measured` are value, unit and limit of its row."""
    rows = [{"name": name, **measured}] if measured else []
    return Unit(1, int(ok), measured=rows, failures=[] if ok else [{"seed": name, "seen": seen or str(measured)}])


def versions() -> dict[str, str]:
    """Of Python and what carries a checkpoint."""
    names = ("jax", "jaxlib", "orbax-checkpoint", "tensorstore", "grain", "flax", "optax", "numpy")
    found = {"emojax": __version__, "python": ".".join(map(str, sys.version_info[:3]))}
    return found | {name: importlib.metadata.version(name) for name in names}


def source() -> str:
    """Digest of emojax's own modules: which code was counted."""
    total = hashlib.sha256()
    for path in sorted((ROOT / "emojax").rglob("*.py")):
        total.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()[:12]


class Record:
    """One section of the file."""

    def __init__(self, section: str, *, what: str, bar: str, path: Path = OUTPUT, fresh: bool = False) -> None:
        """Goes on with what is there, if it was counted on this machine with these versions; else begins anew. Whether
        emojax itself was the same all along can be seen in `sources`."""
        self._path, self._section = path, section
        here = {"machine": machine(), "versions": versions()}
        old = read(path).get(section, {})
        if fresh or any(old.get(name) != value for name, value in here.items()):
            old = {"units": 0, "done": 0, "passed": 0, "counts": {}, "measured": [], "failures": [], "seconds": 0.0}
        self._source = source()
        self.values: dict[str, Any] = {"what": what, "bar": bar} | old | {"what": what, "bar": bar} | here

    def add(self, unit: Unit, seconds: float) -> None:
        """Counts a unit, and writes the file."""
        values = self.values
        values["units"] += 1
        values["done"] += unit.done
        values["passed"] += unit.passed
        for name, count in unit.counts.items():
            values["counts"][name] = values["counts"].get(name, 0) + count
        values["measured"] += unit.measured
        values["failures"] += unit.failures
        values["sources"] = sorted({*values.get("sources", []), self._source})
        values["seconds"] = round(values["seconds"] + seconds, 1)
        values["load"] = max(values.get("load", 0.0), round(os.getloadavg()[0], 1))
        values["date"] = datetime.datetime.now(datetime.UTC).date().isoformat()
        lock = os.open(self._path.parent, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two sections may run at the same time
            files.write_json(self._path, read(self._path) | {self._section: values})
        finally:
            os.close(lock)


def read(path: Path = OUTPUT) -> dict[str, Any]:
    """Section -> values."""
    return json.loads(path.read_text()) if path.exists() else {}
