"""Where and how long a benchmark measures: both interpreters, rounds, synthetic data, and what a section needs."""

from __future__ import annotations

import dataclasses
import functools
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import bench_pictures
from bench_protocol import BenchError, Worker

SCRIPTS = Path(__file__).resolve().parent
ROOT = SCRIPTS.parent

_TORCH = ("torch", "timm")
_VISION = ("torch", "torchvision", "timm", "pillow", "pyarrow")
NEEDED = {
    "train": _TORCH,
    "infer": (*_TORCH, "onnx", "onnxscript", "onnxruntime"),
    "pipeline": _VISION,
    "run": _VISION,
    "startup": _VISION,
    "memory": _TORCH,
}
"""section -> modules that the peer's environment must have."""
REAL_FACES, SYNTHETIC_FACES = "real FER2013 faces", "synthetic faces"
"""Kinds of data in the section `run`; the first with --fer-data."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """Attributes:
    peer_python: the peer's interpreter.
    rounds: alternations, >= 1.
    seconds: least length of one measurement.
    folder: empty, for pictures and runs; removed by whoever made it.
    jpegs, faces: how many synthetic training pictures are made.
    fer_data: a folder with train.parquet and val.parquet of FER2013, used in the section `run` instead of synthetic
      faces.
    """

    peer_python: str
    rounds: int
    seconds: float
    folder: Path
    jpegs: int
    faces: int
    fer_data: Path | None = None

    def ours(self) -> Worker:
        """A worker of this interpreter."""
        return Worker("emojax", [sys.executable, str(SCRIPTS / "bench_ours.py")], {"PYTHONPATH": str(ROOT)})

    def peer(self) -> Worker:
        """A worker of the peer's interpreter."""
        return Worker("the peer", [self.peer_python, str(SCRIPTS / "bench_peer.py")])

    @functools.cached_property
    def pictures(self) -> dict[str, Path]:
        """Kind of pictures -> their folder, made at the first call."""
        return {
            "jpeg": bench_pictures.jpegs(self.folder / "jpeg", count=self.jpegs),
            "faces": bench_pictures.faces(self.folder / "faces", count=min(self.faces, 4096)),
        }

    @functools.cached_property
    def run_faces(self) -> Path:
        """Folder of the faces of the section `run`."""
        return self.fer_data or bench_pictures.faces(self.folder / "run-faces", count=self.faces)

    @functools.cached_property
    def run_data(self) -> dict[str, Any]:
        """What the section `run` trains on: {"kind", and images in "train" and "val"}; nothing is made for it."""
        kind, val = SYNTHETIC_FACES, bench_pictures.validation_faces(self.faces)
        if self.fer_data is None:
            return {"kind": kind, "train": self.faces, "val": val}
        import pyarrow.parquet as pq

        counts = {name: pq.read_metadata(self.fer_data / f"{name}.parquet").num_rows for name in ("train", "val")}
        return {"kind": REAL_FACES, **counts}


def check_peer(versions: dict[str, str], section: str) -> None:
    """Raises `BenchError` naming what the peer's environment lacks for a section (or for "all")."""
    needed = {name for key, names in NEEDED.items() if section in ("all", key) for name in names}
    if missing := sorted(needed - versions.keys()):
        raise BenchError(f"the peer's Python lacks {', '.join(missing)}; install them there")


def machine() -> dict[str, str | int]:
    """The processor, its cores as this process may use them, and memory; no names of hosts or folders."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cpu": model, "cores": cores, "memory_gib": round(memory / 2**30), "system": platform.system()}


def commit() -> str:
    """The commit that is measured, "+" behind it where files were changed since; "" where git cannot tell."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def switches() -> dict[str, str]:
    """Variables of the environment that change how fast either side is, where they are set."""
    names = (
        "JAX_NUM_CPU_DEVICES",
        "XLA_FLAGS",
        "OMP_NUM_THREADS",
        "OMP_WAIT_POLICY",
        "KMP_BLOCKTIME",
        "MKL_NUM_THREADS",
    )
    return {name: os.environ[name] for name in names if name in os.environ}
