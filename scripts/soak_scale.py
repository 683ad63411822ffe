"""Campaigns over devices and processes: one curve on every mesh, other meshes after a resume, a process that dies."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import soak_children as children
from soak_record import Unit, check
from soak_setting import Setting, meshed

from emojax import checkpoint, data, jsonl, parallel, paths, wiring
from emojax.config import CheckpointConfig, Config

MESHES = ((1, 1), (2, 1), (4, 1), (8, 1), (2, 2), (4, 4), (8, 8), (4, 2), (8, 2), (8, 4))
"""(devices, of which so many share parameters)."""
_MOVES = (((4, 1), (8, 8)), ((8, 8), (1, 1)), ((1, 1), (8, 2)), ((2, 2), (4, 1)), ((8, 4), (2, 1)), ((8, 1), (4, 4)))
_NEAR = 1e-5


def _words(mesh: tuple[int, int]) -> str:
    count, fsdp = mesh
    if fsdp == 1:
        return f"data x{count}"
    return f"FSDP x{fsdp}" if fsdp == count else f"data x{count // fsdp}, FSDP x{fsdp}"


def devices(setting: Setting, first: int) -> Iterator[Unit]:
    """A whole run on every mesh against that on one device; then runs that go on on another mesh."""
    yield from itertools.islice(_devices(setting), first, None)


def _devices(setting: Setting) -> Iterator[Unit]:
    whole = 0
    for mesh in MESHES:
        config, run = _on(setting, mesh)
        held = children.call(lambda config=config: _bytes(config), setting.folder, devices=mesh[0])
        whole = whole or held
        if mesh != MESHES[0]:
            off = _apart(_curve(run), _curve(_on(setting, MESHES[0])[1]))
            yield check(f"{_words(mesh)}: loss curve against 1 device", off <= _NEAR, value=off, unit="", limit=_NEAR)
        if mesh[1] > 1:
            share = held / whole
            limit = 1 / mesh[1] + 0.1  # small arrays stay whole
            yield check(
                f"{_words(mesh)}: state held per device", share < limit, value=round(share, 3), unit="", limit=limit
            )
    for a, b in _MOVES:
        yield _moved(setting, a, b)


def _on(setting: Setting, mesh: tuple[int, int]) -> tuple[Config, Path]:
    """Config and finished run on a mesh."""
    folder = setting.folder / f"mesh-{mesh[0]}-{mesh[1]}"
    config = meshed(setting.data, mesh[1])
    if not (folder / "run/finished.json").is_file():
        children.finished(children.write_recipe(config, folder), folder / "run", devices=mesh[0])
    return config, folder / "run"


def _moved(setting: Setting, a: tuple[int, int], b: tuple[int, int]) -> Unit:
    """Stopped on mesh `a`, continued on mesh `b`."""
    (config, whole), name = _on(setting, a), f"{_words(a)} to {_words(b)}"
    run = setting.folder / f"moved-{a[0]}-{a[1]}-{b[0]}-{b[1]}"
    child = children.training(whole.parent / "recipe.py", run, devices=a[0])
    while child.poll() is None and child.page.step < 7:
        time.sleep(0.001)
    child.signal(signal.SIGTERM)
    code, step = child.wait(120), child.page.step
    recipe = children.write_recipe(meshed(setting.data, b[1]), setting.folder / f"{run.name}-recipe")
    after = children.training(recipe, run, devices=b[0])
    ended = after.wait(300)
    after.end()
    if (code, ended, after.page.restored) != (143, 0, step):
        return check(name, False, seen=f"codes {code}, {ended}; update {step}, {after.page.restored}: {after.told()}")
    ids = [[row["ids"] for row in jsonl.read(r / "metrics.jsonl") if row["kind"] == "train"] for r in (run, whole)]
    off = children.call(lambda: _weights_apart(config, run, whole), setting.folder)
    ok = ids[0] == ids[1] and off <= _NEAR
    seen = "" if ids[0] == ids[1] else "other records"
    return check(f"{name}: weights at the end", ok, seen=seen, value=off, unit="", limit=_NEAR)


def _curve(run: Path) -> list[float]:
    return [row["loss"] for row in jsonl.read(run / "metrics.jsonl") if row["kind"] == "train"]


def _apart(a: list[float], b: list[float]) -> float:
    """Largest difference relative to 1 + |b|; infinite when the lengths differ."""
    if len(a) != len(b):
        return float("inf")
    return float(f"{max(abs(x - y) / (1 + abs(y)) for x, y in zip(a, b, strict=True)):.2g}")


def _bytes(config: Config) -> int:
    """What the first device holds of parameters, moments and averages."""
    with parallel.mesh(config.parallel.fsdp) as mesh:
        state = wiring.initial_state(wiring.build(config, data.open_dataset(config.data), mesh))
        leaves = paths.flatten({"p": state.params, "o": state.opt_state, "a": state.average}).values()
        return sum(x.addressable_shards[0].data.nbytes for x in leaves)


def _weights_apart(config: Config, run: Path, other: Path) -> float:
    """Largest difference of two runs' last weights, relative to 1 + their size."""
    config.parallel.fsdp = 1
    with parallel.mesh(1) as mesh:
        parts, found = wiring.build(config, data.open_dataset(config.data), mesh), []
        for folder in (run, other):
            keeper = checkpoint.Checkpointer(folder, CheckpointConfig(), read_only=True)
            with contextlib.closing(keeper):
                step = keeper.latest()
                assert step is not None
                found.append(paths.flatten(wiring.restored(parts, keeper, step)[0].params))
    a, b = found
    return float(f"{max(float(np.max(np.abs(a[k] - b[k]) / (1 + np.abs(b[k])))) for k in b):.2g}")


def processes(setting: Setting, first: int) -> Iterator[Unit]:
    """Two processes under `emojax launch`, one of them killed; and two without it, to see when the other ends."""
    config = meshed(setting.data, 1)
    config.parallel.distributed, config.parallel.heartbeat = 1, 10
    folder = setting.folder / "two"
    recipe = children.write_recipe(config, folder)
    if not (folder / "alone").is_dir():
        with _launched(recipe, folder / "alone", restarts=0) as job:
            if job.wait(300):
                raise RuntimeError("two processes that were left alone failed")
    for seed in range(first, 1_000_000):
        yield _orphaned(setting, recipe, seed) if seed % 4 == 3 else _restarted(setting, recipe, seed)


def _launched(recipe: Path, run: Path, *, restarts: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "emojax.cli", "launch", "--processes=2", f"--restarts={restarts}", "--", "train"]
    log = run.with_suffix(".log").open("ab")
    return subprocess.Popen([*command, f"--config={recipe}", f"--workdir={run}"], stdout=log, stderr=log)


def _rows(run: Path) -> int:
    return len(jsonl.read(run / "metrics.jsonl"))


def _restarted(setting: Setting, recipe: Path, seed: int) -> Unit:
    """One process of a job is killed at a random moment of its training; the supervisor sees to the rest."""
    clock, run = random.Random(f"processes {seed}"), setting.folder / f"two-{seed}"
    with _launched(recipe, run, restarts=3) as job:
        until = time.monotonic() + 120
        while _rows(run) < clock.randrange(1, 12) and job.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        members = _trainings(job.pid)
        if len(members) != 2:
            job.kill()
            return Unit(1, 0, failures=[{"seed": seed, "seen": f"{len(members)} processes were found"}])
        victim, other = members if seed % 2 else members[::-1]
        victim.kill()
        seconds = _gone(other)
        code = job.wait(300)
    name = f"{seed}: the other one ended after process {seed % 2} was killed"
    found = [f"ended with {code}"] if code else children.compared(run, recipe.parent / "alone", setting.folder)
    found += [] if seconds <= 15 else [f"the other process ended after {seconds:.1f} s"]
    measured = [{"name": name, "value": round(seconds, 1), "unit": "s", "limit": 15}]
    failures = [{"seed": seed, "seen": found}] if found else []
    return Unit(1, int(not found), {"killed, restarted by `emojax launch`": 1}, measured, failures)


def _orphaned(setting: Setting, recipe: Path, seed: int) -> Unit:
    """Without a supervisor: how long the other process lives on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    run, members = setting.folder / f"orphaned-{seed}", []
    command = [sys.executable, "-m", "emojax.main", f"--config={recipe}", f"--workdir={run}"]
    with run.with_suffix(".log").open("ab") as log:
        for i in range(2):
            env = {parallel.COORDINATOR: address, parallel.PROCESSES: "2", parallel.PROCESS: str(i)}
            members.append(psutil.Popen(command, env=os.environ | env, stdout=log, stderr=log))
    until = time.monotonic() + 120
    while _rows(run) < 3 and time.monotonic() < until:
        time.sleep(0.02)
    which = seed // 4 % 2
    members[which].kill()
    seconds = _gone(members[1 - which])
    members[which].wait()
    name = f"{seed}: without a supervisor, the other one ended after process {which} was killed"
    unit = check(name, seconds <= 15, value=round(seconds, 1), unit="s", limit=15)
    return Unit(1, unit.passed, {"killed, without a supervisor": 1}, unit.measured, unit.failures)


def _trainings(pid: int) -> list[Any]:
    """The two processes of a job, in their order."""
    found = []
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append((int(child.environ()[parallel.PROCESS]), child))
    return [child for _, child in sorted(found, key=lambda pair: pair[0])]


def _gone(process: Any) -> float:
    """Seconds until a process has ended; it is killed after 60."""
    began = time.monotonic()
    while time.monotonic() < began + 60:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.05)
                continue
        return time.monotonic() - began
    process.kill()
    return float("inf")
