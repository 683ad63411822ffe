"""What does not grow, and what a checkpoint costs."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import soak_children as children
from bench_setting import ROOT
from soak_record import Unit, check
from soak_setting import Setting, plain

from emojax import checkpoint, data, judging, parallel, paths, train, wiring
from emojax.checkpoint_meta import digests
from emojax.config import CheckpointConfig
from emojax.loop import Loop
from emojax.main import config_from
from emojax.train_metrics import TrainMetrics

_WARM, _EPOCHS = 10, 30
"""Epochs before measuring, and while."""
_ROUNDS, _UPDATES = 5, 12


def memory(setting: Setting, first: int) -> Iterator[Unit]:
    """One training; its process is looked at after every epoch's evaluation."""
    if first:
        return
    rows = children.call(functools.partial(_grown, setting), setting.folder)
    epochs, rss, kids, files, threads = np.asarray(rows, float)[_WARM:].T
    slope = float(np.polyfit(epochs, rss, 1)[0])
    yield check("resident memory per epoch", slope < 1, value=round(slope, 3), unit="MB", limit=1)
    slope = float(np.polyfit(epochs, threads, 1)[0])  # pools grow when the machine is busy; a leak adds one each time
    yield check("threads per epoch", slope < 0.1, value=round(slope, 3), unit="", limit=0.1)
    third = _EPOCHS // 3
    for name, seen in (("child processes", kids), ("open descriptors", files)):
        grown = int(seen[-third:].max() - seen[:third].max())  # they come and go
        title = f"{name}: highest of the last {third} epochs less that of the first {third}"
        yield check(title, grown <= 0, value=grown, unit="", limit=0)


def _grown(setting: Setting) -> list[list[float]]:
    """[epoch, MB, children, descriptors, threads] after every evaluation."""
    config = plain(setting.data)
    config.eval.every_epochs = 1.0
    config.stages = (dataclasses.replace(config.stages[0], epochs=_WARM + _EPOCHS),)
    me, rows, original = psutil.Process(), [], judging.judge

    def judge(run: judging.Run, *args: Any) -> Any:
        found = original(run, *args)
        run.checkpointer.latest()  # what is being written holds files and threads
        size, kids = me.memory_info().rss / 1e6, len(me.children(recursive=True))
        rows.append([len(rows) + 1, size, kids, me.num_fds(), me.num_threads()])
        return found

    judging.judge = judge
    train.run(config, setting.folder / "memory")
    return rows


def cost(setting: Setting, first: int) -> Iterator[Unit]:
    """Updates of the emoji recipe as the loop makes them, in turns without a checkpoint and with one after each."""
    if first:
        return
    found = children.call(functools.partial(_costs, setting.folder), setting.folder)
    bare, every, call = (found[name] for name in ("none", "every", "call"))
    added, work = every / bare - 1, found["every work"] - found["none work"]
    yield Unit(
        1,
        int(added < 0.1),
        measured=[
            {"name": "an update without a checkpoint", "value": round(1e3 * bare), "unit": "ms"},
            {"name": "an update with one after each", "value": round(1e3 * every), "unit": "ms"},
            {"name": "of which the loop waits for its arrays and digests", "value": round(1e3 * call), "unit": "ms"},
            {"name": "processor time of an update", "value": round(1e3 * found["none work"]), "unit": "ms"},
            {"name": "processor time of a checkpoint", "value": round(1e3 * work), "unit": "ms"},
            {"name": "of which SHA-256 of its arrays", "value": round(1e3 * found["sums"]), "unit": "ms"},
            {"name": "one plain file of that size, for comparison", "value": round(1e3 * found["file"]), "unit": "ms"},
            {"name": "bytes of a checkpoint", "value": round(found["bytes"] / 1e6, 1), "unit": "MB"},
            {"name": "a checkpoint after each update adds", "value": round(100 * added), "unit": "%", "limit": 10},
            {"name": "the same cost once an epoch adds", "value": round(100 * added / found["epoch"], 1), "unit": "%"},
        ],
        failures=[] if added < 0.1 else [{"seed": "every update", "seen": f"adds {100 * added:.0f} %"}],
    )


def _costs(folder: Path) -> dict[str, float]:
    """Medians over all updates, seconds."""
    config = config_from([f"--config={ROOT / 'configs/emoji.py'}"])
    parallel.prepare()
    with contextlib.ExitStack() as stack:
        mesh = stack.enter_context(parallel.mesh())
        parts = wiring.build(config, data.open_dataset(config.data), mesh)
        workdir = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        keeper = stack.enter_context(contextlib.closing(checkpoint.Checkpointer(workdir, CheckpointConfig())))
        batches = stack.enter_context(wiring.train_batches(parts, parts.stages[0], start=0))
        update, _ = wiring.train_step(parts, parts.stages[0])
        state, totals = wiring.initial_state(parts), parallel.replicate(mesh, TrainMetrics.empty())
        meta = checkpoint.Meta(
            config=config,
            class_names=parts.dataset.class_names,
            image_size=config.image_size,
            fingerprint=parts.fingerprint,
            loop=dataclasses.asdict(Loop()),
        )
        times: dict[str, list[float]] = {"none": [], "every": [], "call": []}

        def timed(name: str, work: Callable[[], None]) -> None:
            began = time.monotonic()
            work()
            times[name].append(time.monotonic() - began)

        def step() -> None:
            nonlocal state, totals
            state, totals = update(state, totals, parallel.shard(mesh, next(batches)), parts.key)
            int(totals.skipped.row)  # waits, as the loop does

        def save() -> None:
            keeper.save(state, meta, rank=-float("inf"))

        def both() -> None:
            step()
            timed("call", save)

        for _ in range(3):
            both()
        times["call"].clear()
        for _ in range(_ROUNDS):
            for name, action in (("none", step), ("every", both)):
                began = time.process_time()
                for _ in range(_UPDATES):
                    timed(name, action)
                keeper.latest()  # nothing is being written any more
                times.setdefault(f"{name} work", []).append((time.process_time() - began) / _UPDATES)
        arrays = {name: np.asarray(x) for name, x in paths.flatten(dataclasses.asdict(state)).items()}
        for name, action in (("sums", lambda: digests(arrays)), ("file", lambda: _written(workdir / "file", arrays))):
            began = time.process_time()
            action()
            times[name] = [time.process_time() - began]
        step_now = keeper.latest()
        size = sum(p.stat().st_size for p in (workdir / "checkpoints" / str(step_now)).rglob("*") if p.is_file())
    medians = {name: statistics.median(values) for name, values in times.items()}
    return medians | {"bytes": size, "epoch": parts.per_epoch}


def _written(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """The least that saving them can be: one file, handed to the operating system."""
    with path.open("wb") as file:
        for x in arrays.values():
            file.write(np.ascontiguousarray(x).reshape(-1).view(np.uint8).data)
