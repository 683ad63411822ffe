"""The process dies at every point of writing a checkpoint: a complete one always remains, and the end is the same."""

import contextlib

import pytest
from harness import CrashError, at, crash, finish, same, small, steps

from emojax import checkpoint, checkpoint_store, files, jsonl, train
from emojax.data import pipeline
from emojax.monitor import Monitor
from emojax.train_metrics import TrainMetrics

pytestmark = pytest.mark.slow

POINTS = {
    "before the copy": (checkpoint_store, "digests", 2),
    "after the digests": (checkpoint_store, "_require_space", 2),
    "after a save began": (checkpoint_store, "save", 2),
    "after a later save": (checkpoint.Checkpointer, "save", 3),
    "while a row is written": (jsonl.JsonLines, "append", 6),
    "after an evaluation was told": (Monitor, "evaluated", 1),
    "in the middle of an update's notes": (train, "_note", 6),
    "when a loader starts": (pipeline, "train_batches", 1),
    "when numbers are read": (TrainMetrics, "compute", 7),
    "when the result was written": (checkpoint, "save_result", 1),
    "when a small file was written": (files, "write_text", 4),
    "when a report file was written": (files, "write_bytes", 1),
    "when the old latest is read": (checkpoint.Checkpointer, "meta", 1),
}


@pytest.mark.parametrize("point", POINTS)
def test_a_complete_checkpoint_remains(tmp_path, pictures, alone, monkeypatch, point):
    owner, name, call = POINTS[point]
    run, config = tmp_path / "run", small(pictures)
    with at(monkeypatch, owner, name, call, crash) as calls, contextlib.suppress(CrashError):
        finish(config, run)
    assert calls[0] >= call, "the point was never reached"
    before = steps(run) if (run / "checkpoints").is_dir() else []
    finish(config, run)
    assert same(run, alone) == []
    assert before == [] or max(before) <= 9


def test_a_first_checkpoint_that_was_half_written_is_none(tmp_path, pictures, alone):
    """The process was killed while Orbax wrote its first checkpoint: nothing is damaged, and the run begins again."""
    run = tmp_path / "run"
    (run / "checkpoints/1/metrics").mkdir(parents=True)
    (run / "checkpoints/1/metrics/metrics").write_text("")
    finish(small(pictures), run)
    assert same(run, alone) == []
    assert not list((run / "checkpoints").glob("damaged-*"))


@pytest.mark.parametrize("moment", ["renamed", "saved"])
def test_a_replacement_that_was_cut_off(tmp_path, pictures, alone, monkeypatch, moment):
    """A checkpoint that owed its evaluation was being replaced by the judged one when the process died."""
    import os
    import signal

    from emojax import wiring
    from emojax.errors import InterruptedRunError

    run, config = tmp_path / "run", small(pictures)
    original = wiring.predictions

    def predictions(*args, poll, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)
        return original(*args, poll=poll, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(wiring, "predictions", predictions)
        with pytest.raises(InterruptedRunError):
            finish(config, run)
    owner, name = (checkpoint.Checkpointer, "set_aside") if moment == "renamed" else (checkpoint_store, "save")
    with at(monkeypatch, owner, name, 1, crash), pytest.raises(CrashError):
        finish(config, run)
    assert list((run / "checkpoints").glob("replaced-4"))
    finish(config, run)
    assert same(run, alone) == []
    assert not list((run / "checkpoints").glob("replaced-*"))
