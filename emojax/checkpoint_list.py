"""The checkpoints of a run as `emojax checkpoints` lists them, and whether they are what was saved."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

from emojax import checkpoint_store as store
from emojax.checkpoint import COMMITTED, RESULT
from emojax.checkpoint_store import FOLDER
from emojax.errors import CheckpointError, DamagedError


@dataclasses.dataclass(frozen=True, slots=True)
class Kept:
    """One checkpoint as `emojax checkpoints` shows it: its folder, bytes, what it is or what is wrong, its rank."""

    name: str
    size: int
    state: str
    damaged: bool
    rank: float | None
    rank_name: str


def inspect(workdir: Path, *, verify: bool) -> list[Kept]:
    """The checkpoints of a run and its result, oldest first; `verify` reads every array. Raises `CheckpointError` where
    there are none."""
    rows = []
    for name in (FOLDER, RESULT):
        folder = workdir / name
        if not folder.is_dir():
            continue
        bad = store.broken(folder, committed=store.Record(workdir / COMMITTED).newest if name == FOLDER else None)
        rows += [
            Kept(f"{name}/{step}", _bytes(folder / str(step)), "damaged: rank or marker are lost", True, None, "")
            for step in bad
        ]
        if bad:  # Orbax opens none of them then
            continue
        with contextlib.closing(store.manager(workdir, folder=name, read_only=True)) as manager:
            rows += [_kept(manager, step, folder, verify=verify) for step in sorted(manager.all_steps())]
        for prefix, what in (("damaged", "damaged"), ("not-finite", "updates before it were not finite")):
            rows += [
                Kept(f"{name}/{path.name}", _bytes(path), f"set aside: {what}", False, None, "")
                for path in sorted(folder.glob(f"{prefix}-*"))
            ]
    if not rows:
        raise CheckpointError(f"{workdir} holds no checkpoints; is it the --workdir of a training run?")
    return rows


def _kept(manager: Any, step: int, folder: Path, *, verify: bool) -> Kept:
    where, state, rank, rank_name, bad = folder / str(step), "complete", None, "", False
    try:
        meta = store.read_meta(manager, step, folder)
        store.check_rank(manager, step, meta, folder)
        rank, rank_name = meta.rank if folder.name == FOLDER else None, meta.config.eval.metric
        if verify:
            store.verify(manager, step, meta, folder)
            state = f"whole: {len(meta.digests)} arrays"
    except DamagedError as error:
        state, bad = str(error).partition(" is ")[2], True
    return Kept(f"{folder.name}/{step}", _bytes(where), state, bad, rank, rank_name)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
