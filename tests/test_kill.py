"""SIGKILL at random moments, then resume: every array and the step log equal those of the run that was left alone.

Reference and victim must run with the same device count and CPU affinity: XLA splits sums by the number of threads.
"""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny

from emojax import checkpoint, config_json, jsonl
from emojax.config import CheckpointConfig

RECIPE = """
from pathlib import Path
from emojax import config_json
def get_config():
    return config_json.from_json(Path(__file__).with_suffix(".json").read_text())
"""


def start(folder, run):
    command = [sys.executable, "-m", "emojax.main", f"--config={folder / 'recipe.py'}", f"--workdir={run}"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def outcome(run):
    keeper = checkpoint.Checkpointer(run, CheckpointConfig())
    step = keeper.latest()
    digests = keeper.meta(step).digests
    keeper.close()
    rows = [r for r in jsonl.read(run / "metrics.jsonl") if r["kind"] in ("train", "eval")]
    return step, digests, rows


def kills_are_survived(folder: Path, *, kills: int, workers: int, epochs: float) -> None:
    source = tiny.make_folder(folder / "data")
    config = tiny.config(source, monitor=tiny.MonitorConfig(log_every=1, tensorboard=0))
    config.data.workers = workers
    config.eval.every_epochs = 100.0 if workers else 2.0  # every evaluation starts its own processes
    config.stages[1].epochs = epochs
    (folder / "recipe.json").write_text(config_json.to_json(config))
    (folder / "recipe.py").write_text(RECIPE)

    began = time.monotonic()
    assert start(folder, folder / "reference").wait(300) == 0
    assert start(folder, folder / "warm").wait(300) == 0  # with a warm compile cache
    length = (time.monotonic() - began) / 2

    clock = random.Random(0)
    done = 0
    while done < kills:
        process = start(folder, folder / "victim")
        try:
            code = process.wait(clock.uniform(0.3, 1.0) * length)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            done += 1
            continue
        assert code == 0, process.stderr.read().decode()
        # It got through: begin another victim, the finished one is compared below like the last.
        assert outcome(folder / "victim") == outcome(folder / "reference")
        (folder / "victim").rename(folder / f"survivor{done}-{time.monotonic_ns()}")
    process = start(folder, folder / "victim")
    assert process.wait(300) == 0, process.stderr.read().decode()
    assert outcome(folder / "victim") == outcome(folder / "reference")
    assert json.loads((folder / "victim/report/test.json").read_text())["n"] == 12


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_kills(tmp_path):
    kills_are_survived(tmp_path, kills=10, workers=0, epochs=12)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_kill_with_loader_processes(tmp_path):
    kills_are_survived(tmp_path, kills=1, workers=1, epochs=2)
