"""Devices and processes: the mesh, how arrays lie on it, and the compile cache. Nobody else mentions either."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from emojax import memory
from emojax.errors import ConfigError
from emojax.types import Batch, Tree

BATCH_AXES = ("data", "fsdp")


@contextlib.contextmanager
def mesh() -> Iterator[Mesh]:
    """Enters the mesh over all devices of all processes: axes `data` (all of them) and `fsdp` (1)."""
    # Auto axes: under JAX's newer default (Explicit) Linen's dropout fails with a sharding error.
    made = jax.make_mesh((jax.device_count(), 1), BATCH_AXES, axis_types=(AxisType.Auto,) * 2)
    with jax.set_mesh(made):
        yield made


def process() -> tuple[int, int]:
    """(index of this process, number of processes)."""
    return jax.process_index(), jax.process_count()


def is_main() -> bool:
    """Whether this process writes files and speaks."""
    return jax.process_index() == 0


def describe() -> str:
    """Devices in words: `2 x TFRT_CPU (cpu)`."""
    device = jax.devices()[0]
    return f"{jax.device_count()} x {device.device_kind} ({device.platform})"


def check_batch(batch_size: int, *, knob: str) -> None:
    """Raises `ConfigError` when a global batch cannot be cut evenly over the devices."""
    if batch_size % jax.device_count():
        raise ConfigError(
            f"config.{knob}: {batch_size} images cannot be shared evenly by {jax.device_count()} devices; "
            f"choose a multiple of {jax.device_count()}"
        )


def replicate(mesh: Mesh, tree: Tree) -> Tree:
    """A copy of every array on every device."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def replicated_shapes(mesh: Mesh, tree: Tree) -> Tree:
    """Shapes as restored arrays shall have them: a copy on every device."""
    place = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), tree)


def shard(mesh: Mesh, batch: Batch, *, accumulate: int = 1) -> Batch:
    """Puts a host batch (this process' share) on the devices, cut along the batch axis.

    With accumulate = A > 1 every array becomes [A, B / A, ...], ready for a scan over micro-batches; each micro-batch
    is then spread over all devices.
    """

    def place(x: np.ndarray) -> jax.Array:
        if accumulate > 1:
            x = x.reshape(accumulate, -1, *x.shape[1:])
        axes = (None, BATCH_AXES) if accumulate > 1 else (BATCH_AXES,)
        return jax.make_array_from_process_local_data(NamedSharding(mesh, PartitionSpec(*axes)), x)

    return jax.tree.map(place, batch)


def to_host(x: jax.Array) -> np.ndarray:
    """The whole array as NumPy, gathered from all processes."""
    if x.is_fully_addressable:
        return np.asarray(x)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(x, tiled=True))


def compiler_options() -> dict[str, Any]:
    """For `jax.jit` of whole steps: on CPUs vectors as wide as the processor has them, where XLA takes half of that.

    It shortens the steps of ConvNeXt-Tiny by 5 to 10 % on two AVX-512 cores; narrower processors ignore it.
    """
    return {"xla_cpu_prefer_vector_width": 512} if jax.default_backend() == "cpu" else {}


def prepare() -> None:
    """Settings of the process, before JAX is used: freed memory is kept (`memory.keep_freed`; the verbs of the
    command line call that earlier), and compiled programs are kept in a folder that only this user can write.

    Cached programs are executed as they are, so a shared folder would let others run code as this user; programs are
    also not portable between CPU models and jaxlib versions, hence both are in the folder's name. JAX's own variable
    JAX_COMPILATION_CACHE_DIR, when set, wins.
    """
    memory.keep_freed()
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "emojax" / f"xla-{jax.__version__}-{_cpu_mark()}"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
    except OSError:
        return  # a read-only home costs compile time, nothing else
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _cpu_mark() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        text = "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
    except OSError:
        text = platform.processor() + platform.machine()
    return hashlib.sha256(text.encode()).hexdigest()[:8]
