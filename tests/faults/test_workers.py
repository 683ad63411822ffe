"""Loader processes that die, are stopped, end or never start: no batch is lost or doubled, the run ends the same."""

import gc
import multiprocessing
import os
import re
import signal
import time

import numpy as np
import pytest
from counting import Counting
from harness import at, finish, same, small

from emojax import jsonl, train
from emojax.data import workers
from emojax.data.workers import Pool, Watch
from emojax.errors import DataError, TrainingError


def loader_processes():
    return [child for child in multiprocessing.active_children() if child.name.startswith("emojax-loader-")]


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch):
    monkeypatch.setattr(workers, "BACKOFF", 0.01)
    before = set(loader_processes())
    yield
    assert set(loader_processes()) <= before


def drawn(make, *, steps=range(12), count=2, **limits):
    """(what the pool delivered, what it said)."""
    said = []
    watch = Watch(**({"first": 60.0, "later": 1.0, "restarts": 2, "say": said.append} | limits))
    pool = Pool(make, steps, count=count, watch=watch)
    found = []
    try:
        while True:
            (batch,) = next(pool)
            found.append(batch.tolist())
    except StopIteration:
        return found, said
    finally:
        pool.close()


def expected(steps):
    return [[step] * 3 for step in steps]


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("killed", "was killed by SIGKILL"),
        ("stopped", "has fallen silent: no batch for 1 s"),
        ("ends", "ended by itself, with code 0"),
    ],
)
def test_a_lost_process_is_replaced_at_the_very_batch(tmp_path, what, reason):
    steps = range(3, 19)
    found, said = drawn(Counting(tmp_path, what, at=8), steps=steps)
    assert found == expected(steps)
    assert said == [f"warning: loader process 2 of 2 {reason}; starting it again from batch 9 (1 of 2)"]


@pytest.mark.slow
def test_a_process_that_sleeps_or_never_starts_is_replaced(tmp_path):
    for what, reason in (("sleeps", "has fallen silent: no batch for 1 s"), ("never starts", "has not started")):
        (tmp_path / what).mkdir()
        found, said = drawn(Counting(tmp_path / what, what, at=8), first=20.0)
        assert found == expected(range(12)) and len(said) == 1 and reason in said[0]
        assert re.search(
            r"; it was at counting\.py:\d+ \w+ < ", said[0]
        )  # a hanging disk can be told from a hanging net


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 3])
def test_ten_kills_lose_nothing(tmp_path, count):
    """Moments chosen by the clock, from outside."""
    rng, said = np.random.default_rng(count), []
    pool = Pool(Counting(tmp_path), range(200), count=count, watch=Watch(60.0, 5.0, 3, said.append))
    found, kills = [], 0
    try:
        for step in range(200):
            if step % 20 == 5:
                time.sleep(rng.uniform(0, 0.05))
                kills += 1
                os.kill(rng.choice([child.pid for child in loader_processes()]), signal.SIGKILL)
            found.append(next(pool)[0].tolist())
    finally:
        pool.close()
    assert found == expected(range(200)) and kills == 10 and 1 <= len(said) <= 10


def test_a_process_that_fails_again_and_again_ends_the_run(tmp_path):
    said = []
    with pytest.raises(TrainingError) as raised:
        drawn(Counting(tmp_path, "killed", at=1, times=99), restarts=1, say=said.append)
    assert len(said) == 1 and raised.value.exit_code == 5
    assert str(raised.value).startswith(
        "loader process 2 of 2 was killed by SIGKILL, 2 times in a row; batch 2 cannot be loaded. With too little"
    )


def test_what_a_maker_raises_arrives(tmp_path):
    with pytest.raises(DataError, match=r"^row 7 is wrong$"):
        drawn(Counting(tmp_path, "raises", at=2), count=1)
    (tmp_path / "0").unlink()
    with pytest.raises(RuntimeError, match=r"(?s)in a loader process: Traceback.*in breaks.*a defect"):
        drawn(Counting(tmp_path, "breaks", at=2), count=1)


def test_forgotten_and_closed_pools_leave_no_process(tmp_path):
    before = len(loader_processes())
    pool = Pool(Counting(tmp_path), range(100), count=1, watch=Watch(60.0, 5.0, 3, print))
    assert len(loader_processes()) == before + 1
    pool.close()
    pool.close()
    with pytest.raises(StopIteration):
        next(pool)
    pool = Pool(Counting(tmp_path), range(100), count=1, watch=Watch(60.0, 5.0, 3, print))
    del pool
    gc.collect()
    assert len(loader_processes()) == before


def watched(pictures, **knobs):
    config = small(pictures)
    config.data.workers = 2
    for name, value in ({"worker_limit": 3.0} | knobs).items():
        setattr(config.data, name, value)
    return config


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_run_ends_the_same_with_any_number_of_processes(tmp_path, pictures, alone, count):
    finish(watched(pictures, workers=count), tmp_path / "run")
    assert same(tmp_path / "run", alone) == []  # rows with the digest of the records, weights, moments, averages


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize(("update", "count"), [(1, 2), (4, 1)])
def test_a_run_whose_process_is_lost_ends_as_one_that_was_left_alone(
    tmp_path, pictures, alone, monkeypatch, number, update, count
):
    """Of nine updates, early enough for them not to be ready all."""

    def strike():
        for child in loader_processes():
            os.kill(child.pid, number)

    with at(monkeypatch, train, "_note", update, strike):
        finish(watched(pictures, workers=count), tmp_path / "run")
    assert same(tmp_path / "run", alone) == []
    reason = "was killed by SIGKILL" if number == signal.SIGKILL else "has fallen silent"
    log = (tmp_path / "run/log.txt").read_text()
    assert 1 <= log.count(reason) <= 2 and "starting it again from batch" in log


@pytest.mark.slow
def test_a_run_that_gives_up_ends_in_one_line_and_goes_on_later(tmp_path, pictures, alone, monkeypatch):
    """Each new process is killed too, once the batches that were made ahead are used up; the same command then resumes
    from the checkpoint before."""
    config = watched(pictures, worker_restarts=1)
    original = workers._Worker.start

    def start(self, payload, steps):
        original(self, payload, steps)
        if steps.start >= 6:
            self._process.kill()

    with monkeypatch.context() as patch:
        patch.setattr(workers._Worker, "start", start)

        def strike():
            for child in loader_processes():
                child.kill()

        with at(patch, train, "_note", 1, strike), pytest.raises(TrainingError, match="was killed by SIGKILL"):
            finish(config, tmp_path / "run")
    finish(config, tmp_path / "run")
    assert same(tmp_path / "run", alone) == []
    rows = [row for row in jsonl.read(tmp_path / "run/metrics.jsonl") if row["kind"] == "train"]
    assert [row["step"] for row in rows] == list(range(1, 10))
