"""The machine and the software of a run, for its report: environment.json in the work directory."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from emojax import __version__, parallel
from emojax.files import parse_json, write_json

FILE = "environment.json"

_PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "pillow", "opencv-python-headless",
    "simplejpeg",
)  # fmt: skip
"""Whose versions can change a number of a run."""


def describe() -> dict[str, Any]:
    """What this process runs on: versions, machine, devices, and the variables that change XLA's arithmetic."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "unknown"
    return {
        "emojax": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "devices": parallel.describe(),
        "processes": parallel.process()[1],
        "packages": versions,
        "variables": {name: value for name, value in sorted(os.environ.items()) if name.startswith(("JAX_", "XLA_"))},
    }


def record(workdir: Path, step: int) -> None:
    """Notes where the run goes on from `step`, if that differs from where it ran before."""
    rows = read(workdir)
    found = describe()
    if not rows or {key: value for key, value in rows[-1].items() if key != "from_step"} != found:
        write_json(workdir / FILE, [*rows, {"from_step": step, **found}])


def read(workdir: Path) -> list[dict[str, Any]]:
    """The environments of the run, first to last; [] where nothing was noted."""
    path = workdir / FILE
    if not path.is_file():
        return []
    rows = parse_json(path.read_text(encoding="utf-8"))
    return rows if isinstance(rows, list) else []


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} logical cores"
