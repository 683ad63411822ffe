"""Campaigns against living trainings: SIGKILL, SIGTERM, loader workers that die."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import soak_children as children
from soak_children import Child
from soak_record import Unit
from soak_setting import Setting, Variant

from emojax import resume

_LONGEST = 300.0
"""Seconds after which a training is taken to hang."""


def kills(setting: Setting, first: int) -> Iterator[Unit]:
    """Chains: a training is killed and started again until it comes to its end, and is compared. What is counted are
    kills that met a living process. Every kill waits for a phase, drawn at random, and then for a random part of it."""
    for seed in range(first, 1_000_000):
        yield _chain(setting, seed)


def _chain(setting: Setting, seed: int) -> Unit:
    clock = random.Random(f"kills {seed}")
    cold = seed % 16 == 5
    variant = setting.variant(("plain", "cut")[seed % 4 == 3])
    run, done = setting.folder / f"kills-{seed}", Counter()
    cache = setting.folder / f"cache-{seed}" if cold else None
    if cache:
        cache.mkdir()
    while True:
        child = children.training(variant.recipe, run, devices=variant.devices, cache=cache)
        if _meets(child, variant, clock, cold=cold):
            phase = child.page.phase
            child.signal(signal.SIGKILL)
            if child.wait(60) == -signal.SIGKILL:
                done["kills"] += 1
                done[f"in {phase}"] += 1
                done["with a checkpoint half written"] += half_written(run)
                done["with an empty compile cache"] += cold
                continue
        break
    code = child.wait(_LONGEST)
    child.end()
    found = [f"ended with {code}: {child.told()}"] if code else []
    found = found or children.compared(run, variant.reference, setting.folder)
    if not found:
        shutil.rmtree(run)
        run.with_suffix(".log").unlink()
    if cache:
        shutil.rmtree(cache)
    number, counts = done.pop("kills", 0), dict(done)  # 0: it came to its end before the first moment to strike
    failures = [{"seed": seed, "variant": variant.name, "seen": found}] if found else []
    return Unit(number, 0 if found else number, counts | {"chains": 1, f"chains, {variant.words}": 1}, [], failures)


def _meets(child: Child, variant: Variant, clock: random.Random, *, cold: bool) -> bool:
    """Waits for a moment to strike; False when the child came to its end first."""
    if clock.random() < 0.5:  # anywhere in a life
        child.wait(clock.uniform(0.0, variant.seconds * (2 if cold else 1)))
    else:  # so that short phases are met too
        phase = clock.choice(children.PHASES)
        if child.until(phase, _LONGEST):
            child.wait(clock.uniform(0.0, variant.lengths.get(phase, 0.3)))
    return child.poll() is None


def half_written(run: Path) -> bool:
    """Whether the process died while a checkpoint, or the result, was being written."""
    steps = [path for name in ("checkpoints", "model") for path in (run / name).glob("[0-9]*") if path.is_dir()]
    return any(not (path / "commit_success.txt").exists() for path in steps)


def interpreters(setting: Setting, first: int) -> Iterator[Unit]:
    """As `kills`, with an interpreter of its own for every life, at moments drawn from the whole of it; every second
    chain with a loader process, whose group is killed with it every second time."""
    for seed in range(first, 1_000_000):
        clock, done = random.Random(f"interpreters {seed}"), Counter()
        variant = setting.variant(("plain", "workers")[seed % 2])
        run = setting.folder / f"interpreters-{seed}"
        while True:
            with resume.start(variant.recipe, run) as process:
                try:
                    _, errors = process.communicate(timeout=clock.uniform(0.0, variant.seconds + 3))
                except subprocess.TimeoutExpired:
                    (os.killpg if clock.random() < 0.5 else os.kill)(process.pid, signal.SIGKILL)
                    with contextlib.suppress(ProcessLookupError):
                        process.wait()
                        os.killpg(process.pid, signal.SIGKILL)  # loader processes that the kill left behind
                    process.communicate()
                    done["kills"] += 1
                    done["with a loader process"] += variant.name == "workers"
                    done["with a checkpoint half written"] += half_written(run)
                    continue
            break
        found = [errors.decode(errors="replace")[-300:]] if process.returncode else []
        found = found or children.compared(run, variant.reference, setting.folder)
        number = done.pop("kills", 0)
        failures = [{"seed": seed, "variant": variant.name, "seen": found}] if found else []
        yield Unit(number, 0 if found else number, dict(done) | {"chains": 1}, [], failures)


def signals(setting: Setting, first: int) -> Iterator[Unit]:
    """SIGTERM, once per run: what is saved must be the very update that was done; then to the end, and compared."""
    where = ("updates", "evaluation", "compilation", "saving", "group")
    for seed in range(first, 1_000_000):
        clock, aim = random.Random(f"signals {seed}"), where[seed % len(where)]
        group = aim == "group"
        variant = setting.variant("workers" if group else ("plain", "cut")[seed % 10 > 4])
        run = setting.folder / f"signals-{seed}"
        phase, times = ("updates" if group else aim), clock.choice((1, 2)) if aim != "compilation" else 1
        child = children.training(variant.recipe, run, devices=variant.devices)
        for _ in range(times):
            seen = child.until(phase, _LONGEST)
            child.wait(clock.uniform(0.0, variant.lengths.get(phase, 0.2)))
        if not seen or child.poll() is not None:
            child.end()
            yield Unit(1, 0, failures=[{"seed": seed, "seen": f"the phase {phase} was not met: {child.told()}"}])
            continue
        phase = child.page.phase
        began = time.monotonic()
        child.signal(signal.SIGTERM, group=group)
        code = child.wait(_LONGEST)
        seconds, step, told = time.monotonic() - began, child.page.step, child.told()
        child.end()
        saved = newest(run)
        found = [] if code == 143 else [f"exit code {code}: {told}"]
        found += [] if saved == step else [f"update {step} was done, checkpoint {saved} is the newest"]
        if not found:
            children.finished(variant.recipe, run, devices=variant.devices)
            found = children.compared(run, variant.reference, setting.folder)
        counts = {f"in {phase}" + (", to the group with 2 loader processes" if group else ""): 1}
        counts["updates lost"] = max(0, step - saved)
        measured = [{"name": f"{seed}: from SIGTERM in {phase} to the end", "value": round(seconds, 2), "unit": "s"}]
        failures = [{"seed": seed, "variant": variant.name, "seen": found}] if found else []
        yield Unit(1, int(not found), counts, measured, failures)


def loaders(setting: Setting, first: int) -> Iterator[Unit]:
    """One of two loader processes is killed; the training has to end by itself, as if nothing had happened."""
    variant = setting.variant("workers")
    for seed in range(first, 1_000_000):
        clock, run = random.Random(f"workers {seed}"), setting.folder / f"workers-{seed}"
        child = children.training(variant.recipe, run)
        until, target = time.monotonic() + _LONGEST, clock.randrange(0, 16)
        victims: list[psutil.Process] = []
        while child.poll() is None and time.monotonic() < until and not (victims and child.page.step >= target):
            time.sleep(0.01)
            victims = _loader_processes(child.pid)
        if victims:
            clock.choice(victims).kill()
        code = child.wait(_LONGEST)
        child.end()
        found = [] if victims else ["no loader process was met"]
        found += [f"ended with {code}: {child.told()}"] if code else []
        found = found or children.compared(run, variant.reference, setting.folder)
        failures = [{"seed": seed, "seen": found}] if found else []
        yield Unit(1, int(not found), {"killed": int(bool(victims))}, [], failures)


def _loader_processes(pid: int) -> list[psutil.Process]:
    """Children that Grain has spawned; Python's resource tracker is another one."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children(recursive=True):
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


def newest(run: Path) -> int:
    """Step of the newest complete checkpoint on the disk, 0 = none."""
    marks = (run / "checkpoints").glob("[0-9]*/commit_success.txt")
    return max((int(path.parent.name) for path in marks), default=0)
