"""Checkpoints: save, restore, best and last, weights only. How they lie on disk is in `checkpoint_store.py`.

A checkpoint is a folder `WORKDIR/checkpoints/<step>`, the result of a run `WORKDIR/model/<step>`, with one item per
part of the `TrainState` and one JSON item `meta`: config, class names, data fingerprint, loop state, version, and a
digest of every array. Orbax commits it with a marker file as its last act, so a folder without the marker is never
taken for a checkpoint; the digests are there because Orbax restores a flipped bit of an array file without noticing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from emojax import checkpoint_store as store, parallel
from emojax.checkpoint_meta import Meta
from emojax.checkpoint_store import FOLDER
from emojax.config import CheckpointConfig
from emojax.errors import CheckpointError, DamagedError, LostError
from emojax.types import TrainState, Tree

RESULT = "model"
COMMITTED = "committed.json"
Found = TypeVar("Found")


class Checkpointer:
    """Writes and reads the checkpoints of one run."""

    def __init__(
        self,
        workdir: Path,
        config: CheckpointConfig,
        *,
        say: Callable[[str], None] = lambda text: None,
        read_only: bool = False,
    ) -> None:
        """`say` is told which checkpoints are damaged; `read_only` leaves the folder as it is."""
        self._say, self._folder, self._record = say, workdir / FOLDER, store.Record(workdir / COMMITTED)
        if not read_only:
            self._set_broken_aside()
        self._manager = store.manager(
            workdir, keep_last=config.keep_last, keep_best=config.keep_best, read_only=read_only
        )

    def latest(self) -> int | None:
        """Step of the newest complete checkpoint, once what is being written is complete."""
        store.wait(self._manager, self._folder)
        return self._manager.latest_step()

    def confirm(self) -> None:
        """Notes that the newest checkpoint is complete, if it is: from then on it is known when its marker is lost. And
        deletes those that are not kept any longer."""
        if not self._manager.is_saving_in_progress():
            self._confirm()

    def _confirm(self) -> None:
        if parallel.is_main():
            store.sweep(self._folder)
            newest = self._manager.latest_step()  # of which Orbax thinks well even where writing it has failed
            if newest != self._record.newest and newest in store.complete(self._folder):
                self._record.write(newest, self._folder)

    def best(self) -> int:
        """Step of the best checkpoint; the newest when none was ranked."""
        return self.ranked()[0]

    def ranked(self) -> list[int]:
        """Steps of all checkpoints that were ranked, best first; the newest one when none was."""
        store.wait(self._manager, self._folder)
        return store.ranked(self._manager)

    def newest(self, read: Callable[[int], Found]) -> Found | None:
        """`read(step)` of the newest checkpoint that is not damaged; None when the run has none yet.

        Damaged ones are set aside, as folders `damaged-STEP`, and told. Raises `LostError` when only such are left, or
        none where there was one: a run never starts again from nothing without being told to.
        """
        store.wait(self._manager, self._folder)
        self._put_back()
        while (step := self.latest()) is not None:
            try:
                store.check_rank(self._manager, step, self.meta(step), self._folder)
                return read(step)
            except DamagedError as error:
                self._say(f"warning: {error}; set aside as {self.set_aside(step).name}")
        if lost := sorted(path.name for path in self._folder.glob("damaged-*")):
            raise LostError(
                f"{self._folder}: every checkpoint is damaged ({', '.join(lost)}). Remove that folder to begin again "
                "from the start, or bring back a copy"
            )
        if (lost := self._record.newest) is not None:
            raise LostError(
                f"{self._folder}: checkpoint {lost} is gone. Bring back a copy, or remove {self._record.path} to begin "
                "again from the start"
            )
        return None

    def best_of(self, read: Callable[[int], Found]) -> Found:
        """`read(step)` of the best checkpoint that is not damaged, as `newest` does."""
        while steps := self.ranked():
            try:
                return read(steps[0])
            except DamagedError as error:
                self._say(f"warning: {error}; set aside as {self.set_aside(steps[0]).name}")
        raise LostError(f"{self._folder}: every checkpoint is damaged")

    def _set_broken_aside(self) -> None:
        parallel.barrier("broken")
        for step in store.broken(self._folder, committed=self._record.newest) if parallel.is_main() else ():
            to = self._free_name(step)
            (self._folder / str(step)).rename(to)
            self._say(f"warning: {self._folder / str(step)} is damaged; set aside as {to.name}")
        parallel.barrier("broken done")

    def _free_name(self, step: int, name: str = "damaged") -> Path:
        """A name that is free."""
        to, n = self._folder / f"{name}-{step}", 1
        while to.exists():
            to, n = self._folder / f"{name}-{step}-{n}", n + 1
        return to

    def set_aside(self, step: int, *, name: str = "damaged") -> Path:
        """Renames the folder of a checkpoint, so that it counts no longer; returns where it lies now."""
        to = self._free_name(step, name)
        parallel.barrier(f"{name} {step}")
        if parallel.is_main():
            (self._folder / str(step)).rename(to)
        parallel.barrier(f"{name} {step} done")
        self._manager.reload()
        return to

    def set_aside_while(self, bad: Callable[[Meta], bool], *, name: str) -> None:
        """Sets the newest checkpoint aside, as `set_aside` does, as long as `bad(meta)` says so."""
        while (step := self.latest()) is not None and bad(self.meta(step)):
            self.set_aside(step, name=name)
        if parallel.is_main():
            self._record.write(newest_step(self._folder.parent), self._folder)

    def _put_back(self) -> None:
        """Completes or undoes a replacement (see `save`) in which the process was killed."""
        if parallel.is_main():
            for step, old in store.replaced(self._folder):
                if step in self._manager.all_steps():
                    shutil.rmtree(old)
                else:
                    shutil.rmtree(self._folder / str(step), ignore_errors=True)
                    old.rename(self._folder / str(step))
        parallel.barrier("put back")
        self._manager.reload()

    def teacher_at(self, step: int) -> bool:
        """Whether checkpoint `step` holds a teacher."""
        return any(path.startswith("teacher/") for path in self.meta(step).digests)

    def meta(self, step: int) -> Meta:
        """What checkpoint `step` says about itself."""
        return store.read_meta(self._manager, step, self._folder)

    def save(self, state: TrainState, meta: Meta, *, rank: float) -> None:
        """Writes a checkpoint of `state` in the background.

        Args:
          state: the arrays are copied before this returns, so that the next step may reuse their memory.
          meta: what it says about itself; digests and shapes are filled in here.
          rank: what makes a checkpoint the best one: the largest finite rank, the earliest of equals; -inf = no claim.

        A checkpoint of the same step, which a signal has left behind, is replaced; until the new one is complete it
        lies beside it.

        Raises:
          CheckpointError: the checkpoint was not written.
        """
        step, old = int(state.step), None
        store.wait(self._manager, self._folder)
        self._confirm()
        if step in self._manager.all_steps():
            old = self.set_aside(step, name="replaced")
        items = {name: getattr(state, name) for name in store.ITEMS}
        store.save(self._manager, step, items, meta, rank=rank, folder=self._folder)
        if old:
            store.wait(self._manager, self._folder)
            if parallel.is_main():
                shutil.rmtree(old)

    def restore(self, state: TrainState, step: int) -> tuple[TrainState, Meta]:
        """Reads checkpoint `step` into arrays placed like those of `state`; verifies every digest."""
        meta = store.read_meta(self._manager, step, self._folder)
        target = {name: getattr(state, name) for name in store.ITEMS if jax.tree.leaves(getattr(state, name))}
        items = store.restore(self._manager, step, target, meta, self._folder)
        # As an update of the given step: keeps its type and place on the mesh.
        count = jax.device_put(np.asarray(step, state.step.dtype), state.step.sharding)
        return dataclasses.replace(state, step=count, **items), meta

    def close(self) -> None:
        """Waits for writes under way; raises `CheckpointError` when one has failed."""
        try:
            store.wait(self._manager, self._folder)
            self._confirm()
        finally:
            store.wait(self._manager, self._folder, close=True)


def save_result(workdir: Path, step: int, weights: dict[str, Tree], meta: Meta) -> None:
    """Writes the weights that a run ends with, {"params": ..., "model_state": ...}, to WORKDIR/model, in place of
    earlier ones; returns when they are on disk. Raises `CheckpointError` when that fails."""
    with contextlib.closing(store.manager(workdir, folder=RESULT)) as manager:
        for old in manager.all_steps():
            manager.delete(old)
        if parallel.is_main():
            store.sweep(workdir / RESULT)
        store.save(manager, step, weights, meta, rank=0.0, folder=workdir / RESULT)
        store.wait(manager, workdir / RESULT)


def newest_step(workdir: Path) -> int | None:
    """Step of the newest complete checkpoint; None where there is none. Cheap, and looks at no content."""
    return max(store.complete(workdir / FOLDER), default=None)


def kept_steps(workdir: Path) -> list[int]:
    """Steps of the checkpoints that a run keeps because they were judged well, best first. Raises `CheckpointError`
    where there is none."""
    folder = workdir / FOLDER
    if not folder.is_dir():
        raise CheckpointError(f"{workdir} holds no checkpoints; is it the --workdir of a training run?")
    with contextlib.closing(store.manager(workdir, read_only=True)) as manager:
        if not (steps := store.ranked(manager)):
            raise CheckpointError(f"{folder} holds no complete checkpoint; the run was stopped before its first one")
        return steps


def load_weights(workdir: Path, *, which: str) -> tuple[int, Meta, Any]:
    """Opens a run's checkpoint for prediction.

    Args:
      workdir: of a training run.
      which: "best" (the result of a finished run, else the best checkpoint so far), "last", or a step.

    Returns:
      (step, meta, read) where `read(like)` takes {"params": ..., "model_state": ...} of shapes and returns such a tree
      of arrays: those that were judged, the running average for example.

    Raises:
      CheckpointError: there is none, or it is damaged.
    """
    folder, manager = workdir / FOLDER, None
    if not folder.is_dir() and not (workdir / RESULT).is_dir():
        raise CheckpointError(f"{workdir} holds no checkpoints; is it the --workdir of a training run?")
    folders = [RESULT, FOLDER] if which == "best" else [FOLDER]
    steps: list[int] = []
    for name in folders:  # a result that was being written when the run was killed has no complete step
        if not steps and (workdir / name).is_dir():
            folder, manager = workdir / name, store.manager(workdir, folder=name, read_only=True)
            steps = list(manager.all_steps())
    if manager is None or not steps:
        raise CheckpointError(f"{folder} holds no complete checkpoint; the run was stopped before its first one")
    if which == "best":
        step = store.ranked(manager)[0]
    elif which == "last":
        step = max(steps)
    elif which.isdecimal():
        step = int(which)
    else:
        raise CheckpointError(f"expected the checkpoint best, last or a step, found {which!r}")
    if step not in steps:
        raise CheckpointError(f"{folder} has no checkpoint {step}; there are {', '.join(map(str, sorted(steps)))}")
    meta = store.read_meta(manager, step, folder)

    def read(like: dict[str, Tree]) -> dict[str, Tree]:
        judged, target = meta.judged, {name: tree for name, tree in like.items() if jax.tree.leaves(tree)}
        if judged == "weights":
            found = store.restore(manager, step, target, meta, folder)
        else:  # the averages are one item, which Orbax restores as a whole
            whole = {path: shape for path, shape in meta.shapes.items() if path.startswith("average/")}
            found = store.restore(manager, step, {"average": _averages(whole, like)}, meta, folder)["average"][judged]
        return {name: found.get(name, {}) for name in like}

    def read_result(like: dict[str, Tree]) -> dict[str, Tree]:
        try:
            return read(like)
        except DamagedError as error:
            raise DamagedError(
                f"{error}. Remove {folder} and {workdir / 'finished.json'}, and give the training command again: it "
                "writes the result anew from the checkpoints"
            ) from error

    return step, meta, read_result if folder.name == RESULT else read


def _averages(shapes: dict[str, list[int]], like: dict[str, Tree]) -> Tree:
    """Shapes of the item `average` as it was saved: every average has the shape of the weights."""
    names = {path.split("/")[1] for path in shapes}
    tree: dict[str, Any] = {name: dict(like) for name in names}
    for name in names:
        if f"average/{name}/count" in shapes:
            tree[name]["count"] = jax.ShapeDtypeStruct((), np.int32)
    return tree
