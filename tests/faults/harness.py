"""Runs that are stopped on purpose, and the oracle: everything equals the run that was left alone, to the bit."""

from __future__ import annotations

import contextlib
from pathlib import Path

import tiny

from emojax import checkpoint, resume, train
from emojax.config import CheckpointConfig, Config


class CrashError(BaseException):
    """Ends a run as SIGKILL does: nothing catches it."""


def small(path: Path, **changes) -> Config:
    """9 updates: EMA, BatchNorm, Adam, augmentation, accumulation; evaluations after 4 and 9, checkpoints every 2."""
    config = tiny.config(path, stages=(tiny.StageConfig(epochs=3),), **changes)
    config.monitor.tensorboard = 0
    config.eval.every_epochs = 1.5
    return config


@contextlib.contextmanager
def at(monkeypatch, owner, name, when, what):
    """Calls `what(...)` instead of going on, when the call number `when` of `owner.name` has returned."""
    original, calls = getattr(owner, name), [0]

    def wrapped(*args, **kwargs):
        found = original(*args, **kwargs)
        calls[0] += 1
        if calls[0] == when:
            what()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, wrapped)
        yield calls


def crash() -> None:
    """Ends the run."""
    raise CrashError


def same(run: Path, reference: Path) -> list[str]:
    """What differs between two finished runs."""
    return resume.differences(resume.outcome(reference), resume.outcome(run))


def steps(run: Path) -> list[int]:
    """Steps of the complete checkpoints."""
    with contextlib.closing(checkpoint.Checkpointer(run, CheckpointConfig(), read_only=True)) as keeper:
        return sorted(keeper._manager.all_steps())


def finish(config: Config, run: Path) -> None:
    """Runs to the end."""
    train.run(config, run)


class Changed:
    """A loader whose batches pass through `change(step, batch)`; steps count from 1."""

    def __init__(self, loader, start, change):
        self.loader, self.step, self.change = loader, start, change

    def __enter__(self):
        self.loader.__enter__()
        return self

    def __exit__(self, *error):
        self.loader.__exit__(*error)

    @property
    def unreadable(self):
        return self.loader.unreadable

    def __next__(self):
        found = next(self.loader)
        self.step += 1
        return self.change(self.step, found)
