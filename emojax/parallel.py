"""Devices and processes: the mesh, how arrays lie on it, and the compile cache. Nobody else mentions either."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from emojax import paths
from emojax.config import ParallelConfig
from emojax.errors import ConfigError, EmojaxError
from emojax.types import Batch, Tree

BATCH_AXES = ("data", "fsdp")


COORDINATOR, PROCESSES, PROCESS = "EMOJAX_COORDINATOR", "EMOJAX_PROCESSES", "EMOJAX_PROCESS"
"""Variables by which `emojax launch` tells a process where the others are, how many, and which one it is."""


def join(config: ParallelConfig) -> str:
    """Connects the processes of a job, before anything else uses JAX; nothing to do for one process. Returns a warning
    to show, or "".

    The first process listens on the address that was given and, if that is this machine itself, on no other. Raises
    `ConfigError` when no job is found.
    """
    if not config.distributed or jax.distributed.is_initialized():
        return ""
    given: dict[str, Any] = {}
    loopback = False
    if address := os.environ.get(COORDINATOR):
        try:
            count, own = int(os.environ[PROCESSES]), int(os.environ[PROCESS])
        except (KeyError, ValueError) as error:
            raise ConfigError(f"{COORDINATOR} is set: {PROCESSES} and {PROCESS} must be numbers ({error})") from error
        given = {"coordinator_address": address, "num_processes": count, "process_id": own}
        if loopback := address.rpartition(":")[0] in ("127.0.0.1", "localhost", "[::1]"):
            given["coordinator_bind_address"] = address
    try:
        jax.distributed.initialize(**given, heartbeat_timeout_seconds=config.heartbeat)
    except ValueError as error:
        raise ConfigError(
            "config.parallel.distributed = 1, but no job was found (SLURM, Open MPI, GKE, TPU); on one machine, start "
            f"the processes with `emojax launch`: {error}"
        ) from error
    if loopback:
        return ""
    return (
        "warning: the first process of this job listens on all network addresses of its machine, without encryption "
        "or password; run it in a network that you trust"
    )


@contextlib.contextmanager
def mesh(fsdp: int = 1) -> Iterator[Mesh]:
    """Enters the mesh over all devices of all processes, see `grid`."""
    made = grid(jax.devices(), fsdp)
    with jax.set_mesh(made):
        yield made


def grid(devices: Sequence[Any], fsdp: int) -> Mesh:
    """A mesh over devices, which need not be here: axes `data` and `fsdp` (that many devices).

    Raises `ConfigError` when they cannot be divided so.
    """
    count = len(devices)
    if count % fsdp:
        raise ConfigError(f"config.parallel.fsdp: {count} devices cannot be divided into groups of {fsdp}")
    # Auto axes: under JAX's newer default (Explicit) Linen's dropout fails with a sharding error.
    return jax.make_mesh((count // fsdp, fsdp), BATCH_AXES, axis_types=(AxisType.Auto,) * 2, devices=devices)


def process() -> tuple[int, int]:
    """(index of this process, number of processes)."""
    return jax.process_index(), jax.process_count()


def is_main() -> bool:
    """Whether this process writes files and speaks."""
    return jax.process_index() == 0


def stop_agreed(count: int, asked: bool) -> bool:
    """Whether all processes shall end now because one of them was asked to.

    Args:
      count: how often this was called, the same in all processes.
      asked: whether this process was told; with several of them, JAX knows, see `preemption.Stop`.
    """
    if jax.process_count() == 1:
        return asked
    from jax.experimental import multihost_utils

    return multihost_utils.reached_preemption_sync_point(count)


def barrier(name: str) -> None:
    """Waits for all processes."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """Around what the main process does alone: where it fails with an `EmojaxError`, the others end quietly with the
    same exit code, instead of waiting for it."""
    failed: EmojaxError | None = None
    try:
        yield
    except EmojaxError as error:
        failed = error
    code = broadcast(failed.exit_code if failed else 0)
    if failed:
        raise failed
    if code:
        raise SystemExit(code)


def leave(code: int) -> None:
    """Ends a process of a job that has failed: an orderly end would wait for the others, which wait for this one."""
    if sys.modules.get("jax") and jax.distributed.is_initialized() and jax.process_count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def broadcast(number: int) -> int:
    """The main process' number, at least 0 and below 2^31, in all of them, which all must ask."""
    if jax.process_count() == 1:
        return number
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def gathered(numbers: Sequence[int]) -> list[int]:
    """Whole numbers in [0, 2^64) of all processes, first those of the main one; all must ask."""
    if jax.process_count() == 1:
        return list(numbers)
    from jax.experimental import multihost_utils

    counts = multihost_utils.process_allgather(np.array([len(numbers)], np.int32)).ravel().tolist()
    if not any(counts):
        return []
    own = np.zeros((max(counts), 2), np.uint32)  # JAX has no 64 bits unless asked
    for row, number in zip(own, numbers, strict=False):
        row[:] = number >> 32, number & 0xFFFFFFFF
    every = np.asarray(multihost_utils.process_allgather(own)).reshape(len(counts), -1, 2).astype(object)
    return [int(high << 32 | low) for part, n in zip(every, counts, strict=True) for high, low in part[:n]]


def describe() -> str:
    """Devices in words: `2 x TFRT_CPU (cpu)`."""
    device = jax.devices()[0]
    return f"{jax.device_count()} x {device.device_kind} ({device.platform})"


def check_batch(batch_size: int, *, knob: str, devices: int = 0) -> None:
    """Raises `ConfigError` when a global batch cannot be cut evenly over the devices: all, or so many."""
    count = devices or jax.device_count()
    if batch_size % count:
        raise ConfigError(
            f"config.{knob}: {batch_size} images cannot be shared evenly by {count} devices; "
            f"choose a multiple of {count}"
        )


def replicate(mesh: Mesh, tree: Tree) -> Tree:
    """A copy of every array on every device."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def placements(mesh: Mesh, tree: Tree, rule: ParallelConfig) -> Tree:
    """Where every array of a state lies: large ones are cut along their longest axis that the `fsdp` devices can share,
    the others are whole on every device. A tree of `NamedSharding`.
    """
    size, whole = mesh.shape["fsdp"], paths.compile_pattern(rule.fsdp_whole, knob="parallel.fsdp_whole")

    def place(path: str, x: Any) -> NamedSharding:
        axes = [axis for axis, n in enumerate(x.shape) if n % size == 0]
        kept = rule.fsdp_whole and whole.search(path)
        if size == 1 or not axes or x.size < rule.fsdp_min or kept:
            return NamedSharding(mesh, PartitionSpec())
        axis = max(axes, key=lambda axis: x.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, "fsdp"))

    return paths.map_with_path(place, tree)


def put(mesh: Mesh, tree: Tree, rule: ParallelConfig) -> Tree:
    """The arrays where `placements` wants them."""
    return jax.device_put(tree, placements(mesh, tree, rule))


def constrain(mesh: Mesh, tree: Tree, rule: ParallelConfig) -> Tree:
    """As `put`, inside of `jax.jit`, where `jax.device_put` is ignored without a word."""
    return jax.lax.with_sharding_constraint(tree, placements(mesh, tree, rule))


def shapes(mesh: Mesh, tree: Tree, rule: ParallelConfig) -> Tree:
    """Shapes as restored arrays shall have them: where `placements` wants them."""
    where = placements(mesh, tree, rule)
    return jax.tree.map(lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), tree, where)


def shard(mesh: Mesh, batch: Batch, *, accumulate: int = 1) -> Batch:
    """Puts a host batch (this process' share) on the devices, cut along the batch axis.

    With accumulate = A > 1 every array becomes [A, B / A, ...], ready for a scan over micro-batches; each micro-batch
    is then spread over all devices.
    """

    def place(x: np.ndarray) -> jax.Array:
        if accumulate > 1:
            x = x.reshape(accumulate, -1, *x.shape[1:])
        return jax.make_array_from_process_local_data(_batch_placement(mesh, accumulate), x)

    return jax.tree.map(place, batch)


def batch_shapes(mesh: Mesh, batch: Batch, *, accumulate: int = 1) -> Batch:
    """Shapes as `shard` puts them on the devices, of a global batch of shapes."""
    placed = _batch_placement(mesh, accumulate)

    def shape(x: Any) -> jax.ShapeDtypeStruct:
        cut = (accumulate, x.shape[0] // accumulate, *x.shape[1:]) if accumulate > 1 else x.shape
        return jax.ShapeDtypeStruct(cut, x.dtype, sharding=placed)

    return jax.tree.map(shape, batch)


def _batch_placement(mesh: Mesh, accumulate: int) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(*(None, BATCH_AXES) if accumulate > 1 else (BATCH_AXES,)))


def to_host(x: jax.Array) -> np.ndarray:
    """The whole array as NumPy, gathered from all processes, which all must ask."""
    if x.is_fully_addressable or x.is_fully_replicated:
        return np.asarray(x)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(x, tiled=True))


def compiler_options(mesh: Mesh | None = None) -> dict[str, Any]:
    """For `jax.jit` of whole steps, on a mesh or where JAX puts them by itself: on CPUs vectors as wide as the
    processor has them, where XLA takes half of that.

    It shortens the steps of ConvNeXt-Tiny by 5 to 10 % on two AVX-512 cores; narrower processors ignore it.
    """
    platform = jax.default_backend() if mesh is None else mesh.devices.flat[0].platform
    return {"xla_cpu_prefer_vector_width": 512} if platform == "cpu" else {}


def prepare() -> None:
    """Before JAX is used: compiled programs are kept in a folder that only this user can write.

    Cached programs are executed as they are, so a shared folder would let others run code as this user; programs are
    also not portable between CPU models and jaxlib versions, hence both are in the folder's name. JAX's own variable
    JAX_COMPILATION_CACHE_DIR, when set, wins.
    """
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "emojax" / f"xla-{jax.__version__}-{_cpu_mark()}"
    if not (_private(folder.parent, fresh=False) and _private(folder, fresh=True)):
        return  # a home that is read-only, or open to others, costs compile time and nothing else
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _private(folder: Path, *, fresh: bool) -> bool:
    """Makes `folder` if it is missing; whether it is a real folder, of this user, that nobody else can write in.

    With `fresh`, neither could others write in it before: what they left there would still be there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            return False
        if fresh and status.st_mode & 0o022:
            return False
        folder.chmod(0o700)
    except OSError:
        return False
    return True


def _cpu_mark() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        text = "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
    except OSError:
        text = platform.processor() + platform.machine()
    return hashlib.sha256(text.encode()).hexdigest()[:8]
