"""The sections whose two sides are whole processes: startup and run (seconds from their start)."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import bench_stats
from bench_protocol import BenchError
from bench_setting import ROOT, SCRIPTS, Setting
from bench_works import TINY, Work

Numbers = dict[str, float]
"""What one process showed: "seconds", and more by name."""


def until_exit(command: Sequence[str], env: Mapping[str, str]) -> tuple[float, str]:
    """(seconds from the start to the end of a process, its stdout). Raises `BenchError` when it fails."""
    began = time.perf_counter()
    with _started(command, env) as process:
        text, errors = process.communicate()
        seconds = time.perf_counter() - began
    _require(process.returncode == 0, command, errors)
    return seconds, text


def until_line(command: Sequence[str], env: Mapping[str, str]) -> tuple[float, str]:
    """(seconds from the start of a process to its first line, that line)."""
    began = time.perf_counter()
    with _started(command, env) as process:
        assert process.stdout
        line = process.stdout.readline()
        seconds = time.perf_counter() - began
        _, errors = process.communicate()
    _require(bool(line), command, errors)
    return seconds, line


def _started(command: Sequence[str], env: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, cwd=ROOT, env=dict(env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _require(condition: bool, command: Sequence[str], errors: str) -> None:
    if not condition:
        last = (errors.strip().splitlines() or ["no message"])[-1]
        raise BenchError(f"{Path(command[0]).name} {Path(command[1]).name} failed: {last}")


class Places:
    """Fresh folders, and environments in which emojax caches what it compiles in a folder of the benchmark's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shared = Path(tempfile.mkdtemp(dir=folder))
        # Python keeps the bytecode of what it imports, unless told otherwise: so do both sides here.
        told = {"JAX_COMPILATION_CACHE_DIR", "PYTHONDONTWRITEBYTECODE"}
        kept = {key: value for key, value in os.environ.items() if key not in told}
        # Matplotlib's list of fonts would lie in the same folder; making that list anew is not what is measured.
        self._env = {**kept, "PYTHONPATH": str(ROOT), "MPLCONFIGDIR": tempfile.mkdtemp(dir=folder)}

    def new(self) -> Path:
        """An empty folder."""
        return Path(tempfile.mkdtemp(dir=self._folder))

    def empty_cache(self) -> dict[str, str]:
        """An environment in which nothing was compiled before."""
        return {**self._env, "XDG_CACHE_HOME": str(self.new())}

    def shared_cache(self) -> dict[str, str]:
        """An environment that remembers what earlier processes in it compiled."""
        return {**self._env, "XDG_CACHE_HOME": str(self._shared)}

    def peer(self) -> dict[str, str]:
        """The peer's environment: as ours."""
        return {key: value for key, value in self._env.items() if key != "PYTHONPATH"}


Pairs = list[tuple[Numbers, Numbers]]


def _record(work: Work, pairs: Pairs, ours: str, peer: str, **detail: Any) -> dict[str, Any]:
    number, chosen = work.options.get("number", "seconds"), []
    for a, b in pairs:
        if work.bar_on == "ratio" and number not in b:
            raise BenchError(f"{work.name}: the peer does not say its {number!r}")
        chosen.append((a[number], b.get(number)))
    for side, rows in zip(("ours", "peer"), zip(*pairs, strict=True), strict=True):
        middle = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
        detail[f"{side}_numbers"] = {name: bench_stats.rounded(value) for name, value in middle.items()}
    return bench_stats.record(work, chosen, ours=ours, peer=peer, **detail)


def startup(works: Sequence[Work], setting: Setting) -> Iterator[dict[str, Any]]:
    """Imports, help, and whole processes from their start to the first finished update.

    The first start finds the files in the page cache, as the second does, but nothing compiled.
    """
    places = Places(setting.folder)
    tiny = [f"--{key}={value}" for key, value in TINY.items()]
    peer_step = [setting.peer_python, str(SCRIPTS / "bench_peer_start.py"), *tiny]
    imports = [setting.peer_python, "-c", "import torch, timm"]

    def ours_step(env: Mapping[str, str]) -> Numbers:
        own = [sys.executable, str(SCRIPTS / "bench_ours_start.py"), "--config=scripts/bench_recipe.py:start"]
        seconds, line = until_line([*own, f"--workdir={places.new() / 'run'}"], env)
        return {"seconds": seconds, **json.loads(line)}

    def exits(command: list[str], env: Mapping[str, str]) -> Callable[[], Numbers]:
        return lambda: {"seconds": until_exit(command, env)[0]}

    def own(*arguments: str) -> Callable[[], Numbers]:
        return exits([sys.executable, *arguments], places.shared_cache())

    def peer_first() -> Numbers:
        return {"seconds": until_line(peer_step, places.peer())[0]}

    sides: dict[str, tuple[Callable[[], Numbers], Callable[[], Numbers]]] = {
        "import": (own("-c", "import emojax"), exits(imports, places.peer())),
        "import all": (own("-c", "import emojax.train"), exits(imports, places.peer())),
        "help": (
            own("-m", "emojax.main", "--help"),
            exits([setting.peer_python, str(SCRIPTS / "bench_peer_run.py"), "--help"], places.peer()),
        ),
        "first step": (lambda: ours_step(places.empty_cache()), peer_first),
        "second step": (lambda: ours_step(places.shared_cache()), peer_first),
    }

    @functools.cache
    def pairs(kind: str) -> Pairs:
        ours, peer = sides[kind]
        bench_stats.alternate(ours, peer, rounds=1)  # files into the page cache, and programs into emojax' own
        return bench_stats.alternate(ours, peer, rounds=setting.rounds)

    for work in works:
        yield _record(work, pairs(work.options["kind"]), "emojax", "torch and timm")


@dataclasses.dataclass(frozen=True, slots=True)
class _Runs:
    """Whole training runs on faces, by variant: "WORKERS workers, TYPE"."""

    setting: Setting
    places: Places

    def ours(self, variant: str, data: Path, env: Mapping[str, str]) -> Numbers:
        from emojax import jsonl

        workers, compute = _parts(variant)
        workdir = self.places.new() / "run"
        command = [sys.executable, "-m", "emojax.main", "--config=scripts/bench_recipe.py:faces"]
        command += [f"--workdir={workdir}", f"--config.data.path={data}", f"--config.data.workers={workers}"]
        rounded = "bfloat16" if compute == "bfloat16" else ""  # the factors of products: the fast way on CPUs
        seconds, _ = until_exit([*command, f"--config.model.products={rounded}"], env)
        rows = [row for row in jsonl.read(workdir / "metrics.jsonl") if row["kind"] == "speed"]
        waited = sum(row["data_wait"] * row["seconds"] for row in rows)
        parameters = re.findall(r"Total: ([\d,]+)", (workdir / "parameters.txt").read_text())[-1]
        return {
            "seconds": seconds,
            "data_wait": waited / sum(row["seconds"] for row in rows),
            "parameters": int(parameters.replace(",", "")),
        }

    def peer(self, variant: str, data: Path) -> Numbers:
        workers, precision = _parts(variant)
        command = [self.setting.peer_python, str(SCRIPTS / "bench_peer_run.py"), f"--data={data}"]
        command += [f"--out={self.places.new() / 'model.pt'}", f"--workers={workers}", f"--precision={precision}"]
        seconds, text = until_exit(command, self.places.peer())
        return {"seconds": seconds, **json.loads(text)}


def _parts(variant: str) -> tuple[str, str]:
    workers, kind = variant.split(" workers, ")
    return workers, kind


def run(works: Sequence[Work], setting: Setting) -> Iterator[dict[str, Any]]:
    """One epoch from the command to the files; each side in its fastest variant."""
    if not works:
        return
    places = Places(setting.folder)
    runs, data = _Runs(setting, places), setting.run_faces
    variants = [f"{n} workers, {kind}" for n, kind in itertools.product((0, 2), ("float32", "bfloat16"))]
    tried = {"ours": {}, "peer": {}}
    for variant in variants:  # this also compiles all of ours, for the later runs
        tried["ours"][variant] = bench_stats.rounded(runs.ours(variant, data, places.shared_cache())["seconds"])
        tried["peer"][variant] = bench_stats.rounded(runs.peer(variant, data)["seconds"])
    ours, peer = (min(found, key=lambda name: found[name]) for found in (tried["ours"], tried["peer"]))

    @functools.cache
    def pairs(cold: bool) -> Pairs:
        make = places.empty_cache if cold else places.shared_cache
        return bench_stats.alternate(
            lambda: runs.ours(ours, data, make()), lambda: runs.peer(peer, data), rounds=min(3, setting.rounds)
        )

    for work in works:
        found = pairs(work.options.get("cold", False))
        counts = {side: numbers["parameters"] for side, numbers in zip(("ours", "peer"), found[0], strict=True)}
        yield {**_record(work, found, ours, peer, tried=tried, parameters=counts), "data": setting.run_data}
