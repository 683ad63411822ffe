"""Two processes of one training, one of which is killed: `emojax launch` brings both back, and nothing is lost."""

import subprocess
import sys
import time

import pytest
import tiny
from harness import same, small

from emojax import jsonl, resume
from emojax.config import ParallelConfig

pytestmark = pytest.mark.slow


def launched(recipe, run):
    command = [sys.executable, "-m", "emojax.cli", "launch", "--processes=2", "--restarts=1", "--", "train"]
    return subprocess.Popen(
        [*command, f"--config={recipe}", f"--workdir={run}"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )


def test_one_of_two_is_killed(tmp_path):
    """Processes that sum in two parts repeat themselves to the bit, as one does."""
    config = small(tiny.make_folder(tmp_path / "data"))
    config.parallel = ParallelConfig(distributed=1, heartbeat=10)
    recipe = resume.write_recipe(config, tmp_path)
    with launched(recipe, tmp_path / "alone") as job:
        assert job.wait(300) == 0
    with launched(recipe, tmp_path / "run") as job:
        until = time.monotonic() + 120
        while not jsonl.read(tmp_path / "run/metrics.jsonl") and time.monotonic() < until:
            time.sleep(0.05)
        found = subprocess.run(["pgrep", "-P", str(job.pid)], capture_output=True, text=True, check=True)
        subprocess.run(["kill", "-KILL", found.stdout.split()[-1]], check=True)
        _, told = job.communicate(timeout=300)
    assert job.returncode == 0 and b"ended with 137; starting all again" in told
    assert same(tmp_path / "run", tmp_path / "alone") == []
