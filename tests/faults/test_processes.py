"""Two processes of one training, one of which is killed: `emojax launch` brings both back, and nothing is lost."""

import dataclasses
import re
import subprocess
import sys
import time

import pytest
import tiny
from harness import same, small, steps

from emojax import config_json, jsonl, resume
from emojax.config import ParallelConfig

pytestmark = pytest.mark.slow


def launched(recipe, run):
    command = [sys.executable, "-m", "emojax.cli", "launch", "--processes=2", "--", "train"]
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
    # 9: the other one failed at a checkpoint that both were writing, before the killed one was seen.
    assert job.returncode == 0 and re.search(rb"ended with (137|9); starting all again", told), told.decode()
    assert same(tmp_path / "run", tmp_path / "alone") == []


def test_a_wrong_config_ends_all_at_once_in_one_line(tmp_path):
    """Only the main process sees the work directory; the others end with it, quietly."""
    config = small(tiny.make_folder(tmp_path / "data"))
    config.parallel = ParallelConfig(distributed=1, heartbeat=10)
    (tmp_path / "run/checkpoints/4").mkdir(parents=True)
    other = small(tmp_path / "data")
    other.seed = 5
    (tmp_path / "run/config.json").write_text(config_json.to_json(other))
    began = time.monotonic()
    with launched(resume.write_recipe(config, tmp_path), tmp_path / "run") as job:
        _, told = job.communicate(timeout=120)
    assert job.returncode == 4 and time.monotonic() - began < 60
    assert told.count(b"belongs to a run with another config") == 1 and b"Traceback" not in told


def test_a_signal_to_one_of_two_saves_both(tmp_path):
    """The second one is told, as by a scheduler that stops one machine: all save the same update, and go on from it."""
    config = small(tiny.make_folder(tmp_path / "data"))
    config.parallel = ParallelConfig(distributed=1, heartbeat=10)
    config.stages = (dataclasses.replace(config.stages[0], epochs=1000),)
    config.eval.every_epochs = 100.0
    recipe, run = resume.write_recipe(config, tmp_path), tmp_path / "run"
    with launched(recipe, run) as job:
        until = time.monotonic() + 120
        while len(jsonl.read(run / "metrics.jsonl")) < 3 and time.monotonic() < until:
            time.sleep(0.05)
        found = subprocess.run(["pgrep", "-P", str(job.pid)], capture_output=True, text=True, check=True)
        subprocess.run(["kill", "-TERM", found.stdout.split()[-1]], check=True)
        _, told = job.communicate(timeout=120)
    assert job.returncode == 143, told
    last = max(row["step"] for row in jsonl.read(run / "metrics.jsonl") if row["kind"] == "train")
    assert last < 3000 and steps(run)[-1] == last
