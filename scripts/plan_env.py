"""Environments with JAX for machines that are not here, one per platform, made once and kept in the cache folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from plan_chips import PlanError

ROOT = Path(__file__).resolve().parents[1]
EXTRA = {"tpu": "tpu", "cuda": "cuda12"}
"""platform -> extra of this project."""
VARIABLES = {
    "tpu": {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_ACCELERATOR_TYPE": "v5litepod-16"},
    "cuda": {"JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1"},
}
"""platform -> variables without which its plug-in looks for hardware."""


def folder() -> Path:
    """Where environments and compiled programs are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "emojax" / "plan"


def python(platform: str) -> Path:
    """The interpreter of a platform's environment, which is made if it is not there: minutes, and up to 6 GB.

    Raises `PlanError` when it cannot be made.
    """
    wanted = (ROOT / "pyproject.toml").read_bytes() + (ROOT / "constraints.txt").read_bytes()
    mark = hashlib.sha256(wanted + sys.version.encode()).hexdigest()[:8]
    place = folder() / f"{platform}-{mark}"
    found, done = place / "bin" / "python", place / "done"
    if done.exists():
        return found
    sys.stderr.write(f"plan: making an environment for {platform} in {place}\n")
    shutil.rmtree(place, ignore_errors=True)  # one that was not finished
    packages = ["-c", str(ROOT / "constraints.txt"), f"{ROOT}[{EXTRA[platform]}]"]
    if uv := shutil.which("uv"):
        commands = [
            [uv, "venv", "-q", "--python", sys.executable, str(place)],
            [uv, "pip", "install", "-q", "--python", str(found), *packages],
        ]
    else:
        commands = [
            [sys.executable, "-m", "venv", str(place)],
            [str(found), "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages],
        ]
    for command in commands:
        place.parent.mkdir(parents=True, exist_ok=True)
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            last = (made.stderr or made.stdout).strip().splitlines()[-1:]
            raise PlanError(f"the environment for {platform} could not be made: {' '.join(last)}")
    done.touch()
    return found
