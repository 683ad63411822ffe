"""How checkpoints lie on disk: Orbax, with a commit marker, digests and a seal. Only `checkpoint.py` uses this."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import re
import shutil
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from emojax import parallel, paths
from emojax.checkpoint_meta import Meta, digests
from emojax.errors import CheckpointError, DamagedError, FullError, PeerError, full, of_a_file
from emojax.files import parse_json, sync_folder, write_json
from emojax.types import Tree

FOLDER = "checkpoints"
ITEMS = ("params", "model_state", "opt_state", "average", "teacher", "memory")
_MARKER = "commit_success.txt"
"""The file that Orbax writes last."""
_REMOVED = "removed"
"""Where a checkpoint goes that is not kept. Orbax would delete it in place, file by file, its marker at no particular
moment: a process killed meanwhile would leave a checkpoint that counts as complete and is not."""
_SPARE = 16 << 20
"""Bytes beside the arrays of a checkpoint that must be free: its description, and what else is written meanwhile."""

logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax logs every save; the monitor says what matters


def save(
    manager: ocp.CheckpointManager, step: int, items: dict[str, Tree], meta: Meta, *, rank: float, folder: Path
) -> None:
    """Writes {item: tree} and `meta`, with digests, in the background; see `Checkpointer.save`."""
    items = {name: tree for name, tree in items.items() if jax.tree.leaves(tree)}
    leaves = paths.flatten(items)
    _require_space(folder, sum(x.nbytes for x in leaves.values()))
    meta = dataclasses.replace(
        meta,
        rank=rank if math.isfinite(rank) else None,
        digests=digests(leaves),
        shapes={path: list(x.shape) for path, x in leaves.items()},
    )
    args = ocp.args.Composite(
        meta=ocp.args.JsonSave(meta.to_json()),
        **{name: ocp.args.PyTreeSave(tree) for name, tree in items.items()},
    )
    metrics = {"rank": rank if math.isfinite(rank) else -1e300}
    try:
        saved = manager.save(step, args=args, metrics=metrics | {"step": step})
    except Exception as error:
        raise _unwritten(folder, error) from error
    if not saved:  # Orbax says no silently, for example when the step exists
        raise CheckpointError(f"{folder}: checkpoint {step} was refused; is there a newer one already?")


def wait(manager: ocp.CheckpointManager, folder: Path, *, close: bool = False) -> None:
    """Returns when everything is on disk; raises `CheckpointError` when that failed."""
    try:
        try:
            manager.wait_until_finished()
        finally:
            if close:
                manager.close()
    except Exception as error:
        raise _unwritten(folder, error) from error


def _unwritten(folder: Path, error: Exception) -> CheckpointError:
    """`error` in words. What the processes of a job write together fails in all of them when one dies, which no library
    tells apart from other errors; `launch` then starts them again."""
    if found := full(error):
        return found
    told = f"{folder}: a checkpoint could not be written"
    if parallel.process()[1] > 1 and not of_a_file(error):
        return PeerError(f"{told}, perhaps because another process of this job has died: {_brief(error)}")
    return CheckpointError(f"{told}: {_brief(error)}")


def _require_space(folder: Path, size: int) -> None:
    """Raises `FullError` when a checkpoint of `size` bytes would not fit: half of one is worth nothing."""
    free = shutil.disk_usage(folder).free
    if free < size + _SPARE:
        raise FullError(
            f"{folder}: {free >> 20:,} MiB are free, and a checkpoint needs {(size + _SPARE) >> 20:,}. Make room: the "
            "same command goes on from the last checkpoint"
        )


def sweep(folder: Path) -> None:
    """Deletes the checkpoints that are not kept any longer. What cannot be deleted now is met again."""
    shutil.rmtree(folder / _REMOVED, ignore_errors=True)


def ranked(manager: ocp.CheckpointManager) -> list[int]:
    """Steps of the ranked checkpoints that are kept, best first; the newest one when none was ever ranked."""
    steps = sorted(manager.all_steps(), key=lambda step: rank_key(manager.metrics(step)), reverse=True)
    found = [step for step in steps if rank_key(manager.metrics(step))[0] > -1e300]
    return found or steps[:1]


def rank_key(metrics: Any) -> Any:
    """Sort key of a checkpoint, (rank, tie-break): the metric, and the earlier of equals."""
    if not metrics:
        return (-math.inf, 0)
    rank = float(metrics["rank"])
    # Unranked checkpoints among themselves: the newest.
    return (rank, int(metrics["step"]) if rank == -1e300 else -int(metrics["step"]))


@dataclasses.dataclass
class Record:
    """Which checkpoint was the newest complete one, kept outside of it: a lost marker is then no unfinished write."""

    path: Path

    @functools.cached_property
    def newest(self) -> int | None:
        """Its step; None = there was none yet."""
        try:
            found = parse_json(self.path.read_bytes())["newest"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if isinstance(found, int) else None

    def write(self, newest: int | None, folder: Path) -> None:
        """Notes `newest` of `folder`, once that checkpoint is known to the disk."""
        try:
            if newest is None:
                self.path.unlink(missing_ok=True)
            else:
                for place in (folder / str(newest), folder):  # Orbax syncs arrays, but not their names
                    sync_folder(place)
                write_json(self.path, {"newest": newest})
        except OSError as error:
            raise _unwritten(folder, error) from error
        self.newest = newest


def steps_in(folder: Path) -> list[int]:
    """The steps for which there is a folder, complete or not."""
    found = (path for path in folder.glob("[0-9]*") if re.fullmatch("0|[1-9][0-9]*", path.name) and path.is_dir())
    return sorted(int(path.name) for path in found)


def complete(folder: Path) -> list[int]:
    """Those that are committed."""
    return [step for step in steps_in(folder) if (folder / str(step) / _MARKER).exists()]


def replaced(folder: Path) -> list[tuple[int, Path]]:
    """(step, folder) of checkpoints that were being replaced when the process was killed."""
    found = ((re.fullmatch(r"replaced-([0-9]+)(-[0-9]+)?", path.name), path) for path in sorted(folder.iterdir()))
    return [(int(match[1]), path) for match, path in found if match]


def broken(folder: Path, *, committed: int | None = None) -> list[int]:
    """Steps of complete checkpoints whose rank cannot be read: with one of these, Orbax opens none. And `committed`, if
    it or one before it has lost its commit marker: these were complete, and would be removed.

    What a killed process has left half written has no commit marker either; it is newer, no checkpoint, and is removed.
    """
    if not folder.is_dir():
        return []
    found, rewritten = [], [step for step, _ in replaced(folder)]
    for step in steps_in(folder):
        if not (folder / str(step) / _MARKER).exists():
            found += [step] if committed is not None and step <= committed and step not in rewritten else []
            continue
        try:
            parse_json((folder / str(step) / "metrics/metrics").read_bytes())["rank"]
        except (ValueError, KeyError, TypeError, OSError):
            found.append(step)
    return found


def check_rank(manager: ocp.CheckpointManager, step: int, meta: Meta, folder: Path) -> None:
    """The rank lies in two places: where Orbax looks for the best checkpoint, and under the seal."""
    rank, _ = rank_key(manager.metrics(step))
    if (None if rank <= -1e300 else rank) != meta.rank:
        raise DamagedError(f"{folder / str(step)} is damaged: its rank is not the one that was saved")


def manager(
    workdir: Path, *, folder: str = FOLDER, keep_last: int = 1, keep_best: int = 1, read_only: bool = False
) -> ocp.CheckpointManager:
    """The manager of WORKDIR/folder, which keeps the latest and the best checkpoints. Raises `DamagedError` when Orbax
    could not open it."""
    if bad := broken(workdir / folder):
        raise DamagedError(
            f"{workdir / folder / str(bad[0])} is damaged: its rank cannot be read; a resumed run goes on"
        )
    best = policies.BestN(get_metric_fn=rank_key, n=keep_best, keep_checkpoints_without_metrics=False)
    options = ocp.CheckpointManagerOptions(
        best_fn=lambda metrics: rank_key(metrics)[0],
        preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep_last), best]),
        cleanup_tmp_directories=False,  # see _remove_unfinished
        todelete_subdir=None if read_only else _REMOVED,
        read_only=read_only,
        **_commit_by_marker(),
    )
    try:
        if not read_only and parallel.is_main():
            _remove_unfinished(workdir / folder)
        return ocp.CheckpointManager((workdir / folder).resolve(), options=options, handler_registry=_handlers())
    except OSError as error:
        raise full(error) or CheckpointError(f"{workdir / folder}: cannot be used: {error.strerror}") from error


def _remove_unfinished(folder: Path) -> None:
    """Deletes what a killed process has left half written. Orbax, when asked to, deletes whatever has no commit marker,
    in a thread: also a checkpoint that was set aside because it has lost its own. What cannot be deleted stays: Orbax
    deletes a half-written checkpoint anyway before it writes that step again."""
    unfinished = set(steps_in(folder)) - set(complete(folder))
    for path in (*(folder / str(step) for step in unfinished), *folder.glob("*.orbax-checkpoint-tmp*")):
        shutil.rmtree(path, ignore_errors=True)
    sweep(folder)


def _commit_by_marker() -> dict[str, Any]:
    """The default trusts any folder with a number for a name; a commit marker is proof. Orbax up to 0.11.36, which
    jax2onnx asks for, has another name for it."""
    options: Any = ocp.options
    if hasattr(options, "AtomicityOptions"):
        return {"atomicity_options": options.AtomicityOptions(mode=options.AtomicityMode.COMMIT_FILE)}
    return {"temporary_path_class": ocp.path.atomicity.CommitFileTemporaryPath}


def _handlers() -> Any:
    """Who writes and reads which item. Weights are as good as random bits: compressing them takes a third of the time
    of a checkpoint, and makes it 8 % smaller."""
    found = ocp.handlers.DefaultCheckpointHandlerRegistry()
    for name in ITEMS:
        found.add(name, ocp.args.PyTreeSave, ocp.PyTreeCheckpointHandler(use_compression=False))
        found.add(name, ocp.args.StandardRestore, ocp.StandardCheckpointHandler())
    description = ocp.JsonCheckpointHandler()
    found.add("meta", ocp.args.JsonSave, description)
    found.add("meta", ocp.args.JsonRestore, description)
    return found


def read_meta(manager: ocp.CheckpointManager, step: int, folder: Path) -> Meta:
    """The JSON part of a checkpoint."""
    try:
        values = manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
        return Meta.from_json(values, f"{folder / str(step)}")
    except CheckpointError:
        raise
    except Exception as error:
        raise DamagedError(
            f"{folder / str(step)} is damaged: its description cannot be read ({_brief(error)})"
        ) from error


def restore(
    manager: ocp.CheckpointManager, step: int, target: dict[str, Tree], meta: Meta, folder: Path
) -> dict[str, Tree]:
    """Reads items into arrays placed like those of `target`; raises `DamagedError` unless every digest is right, and
    `CheckpointError` for a checkpoint of another model."""
    where = folder / str(step)
    _check_shapes(target, meta, where)
    try:
        args = {name: ocp.args.StandardRestore(jax.tree.map(_abstract, tree)) for name, tree in target.items()}
        found = manager.restore(step, args=ocp.args.Composite(**args))
    except Exception as error:
        raise DamagedError(f"{where} is damaged: {_brief(error)}") from error
    items = {name: found[name] for name in target}
    for path, found_digest in digests(paths.flatten(items)).items():
        if found_digest != meta.digests.get(path):
            raise DamagedError(f"{where} is damaged: {path} differs from what was saved")
    return items


def verify(manager: ocp.CheckpointManager, step: int, meta: Meta, folder: Path) -> None:
    """Reads every array of a checkpoint, without the model it is of; raises `DamagedError` unless all digests are
    right."""
    where, names = folder / str(step), sorted({path.split("/")[0] for path in meta.digests})
    # The run may have had devices that this process has not.
    here = ocp.args.StandardRestore(fallback_sharding=jax.sharding.SingleDeviceSharding(jax.local_devices()[0]))
    try:
        found = manager.restore(step, args=ocp.args.Composite(**dict.fromkeys(names, here)))
    except Exception as error:
        raise DamagedError(f"{where} is damaged: {_brief(error)}") from error
    got = digests(paths.flatten({name: found[name] for name in names}))
    if bad := sorted(path for path in meta.digests.keys() | got.keys() if meta.digests.get(path) != got.get(path)):
        raise DamagedError(f"{where} is damaged: {bad[0]} differs from what was saved")


def _check_shapes(target: dict[str, Tree], meta: Meta, where: Path) -> None:
    """Says in words where a checkpoint is of another model, before Orbax says it in its own."""
    wanted = paths.flatten(target)
    saved = {path for path in meta.digests if path.split("/")[0] in target}
    missing, extra = sorted(set(wanted) - saved), sorted(saved - set(wanted))
    if missing or extra:
        shown = [f"not in the checkpoint: {p}" for p in missing[:3]] + [
            f"only in the checkpoint: {p}" for p in extra[:3]
        ]
        raise CheckpointError(f"{where} is of another model or optimizer: " + "; ".join(shown))
    for path, leaf in sorted(wanted.items(), key=lambda item: ITEMS.index(item[0].split("/")[0])):
        shape = tuple(meta.shapes[path])
        if shape != tuple(leaf.shape):
            raise CheckpointError(
                f"{where} is of another model: {path} has shape {shape} there, {tuple(leaf.shape)} here"
            )


def _abstract(x: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(x, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}"
