"""What is kept on disk: the latest and the true best, nothing half-written, and everything earlier when it is full."""

import contextlib
import dataclasses
import math
import resource
import subprocess
import sys
import time

import jax.numpy as jnp
import orbax.checkpoint as ocp
import pytest
from harness import at, finish, same, small, steps
from test_checkpoint import META, make_state

from emojax import checkpoint, checkpoint_list, checkpoint_store, errors, files, resume
from emojax.checkpoint import Checkpointer
from emojax.config import CheckpointConfig
from emojax.errors import CheckpointError, FullError

RANKS = {
    "falling": [1 - i / 30 for i in range(30)],
    "rising": [i / 30 for i in range(30)],
    "equal": [0.5] * 30,
    "NaN": [math.nan if i % 3 else 0.5 + (i % 7) / 10 for i in range(30)],
    "NaN from the start": [math.nan] * 10 + [0.1] * 5 + [math.nan] * 15,
    "missing": [-math.inf if i % 2 else 1 / (1 + abs(i - 12)) for i in range(30)],
    "never there": [-math.inf] * 30,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", RANKS)
def test_the_latest_two_and_the_true_best_are_there_after_every_save(tmp_path, kind):
    """Catalogue C6. The true best: the largest finite number, of equals the first."""
    with contextlib.closing(Checkpointer(tmp_path, CheckpointConfig(keep_last=2))) as keeper:
        best = None
        for step, rank in enumerate(RANKS[kind], start=1):
            if math.isfinite(rank) and (best is None or rank > RANKS[kind][best - 1]):
                best = step
            keeper.save(make_state(step), META, rank=rank)
            wanted = {step, max(1, step - 1)} | ({best} if best else set())
            assert keeper.latest() == step
            assert set(keeper._manager.all_steps()) >= wanted
            assert len(keeper._manager.all_steps()) <= 3
            assert keeper.best() == (best or step)
    assert all(not row.damaged for row in checkpoint_list.inspect(tmp_path, verify=True))


def test_nothing_half_written_is_ever_visible(tmp_path):
    """Readers look again and again while checkpoints are written; whatever they are shown is whole."""
    big = dataclasses.replace(make_state(), average={"ema": {"params": {"x": jnp.ones((1024, 1024))}}})
    seen = set()
    with contextlib.closing(Checkpointer(tmp_path, CheckpointConfig(keep_last=3))) as keeper:
        for step in (1, 2, 3):
            keeper.save(dataclasses.replace(big, step=jnp.asarray(step, jnp.int32)), META, rank=float(step))
            for _ in range(3):
                for row in checkpoint_list.inspect(tmp_path, verify=True) if seen or step > 1 else ():
                    assert row.state.startswith("whole"), row
                    seen.add(row.name)
        keeper.latest()
    assert seen >= {"checkpoints/1", "checkpoints/2"}


def test_a_checkpoint_that_is_not_kept_leaves_whole(tmp_path, monkeypatch):
    """Killed while one is deleted file by file: it no longer counts then, and the next process deletes the rest."""

    def killed(folder):
        next((folder / "removed").rglob("_METADATA")).unlink()
        raise KeyboardInterrupt

    keeper = Checkpointer(tmp_path, CheckpointConfig(keep_last=1))
    for step in (1, 2, 3):
        keeper.save(make_state(step), META, rank=float(step))
    keeper.latest()
    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(checkpoint_store, "sweep", killed)
        keeper.confirm()
    assert [(row.name, row.damaged) for row in checkpoint_list.inspect(tmp_path, verify=True)] == [
        ("checkpoints/3", False)
    ]
    keeper.close()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["3"]


@contextlib.contextmanager
def largest_file(size):
    """No file may grow beyond `size` bytes: what a full disk or a quota does, without rights to mount one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def settle(folder):
    """Waits for threads that still write beside the one that failed: a process that ends takes them along."""
    before = None
    while (now := sorted(map(str, folder.rglob("*")))) != before:
        before = now
        time.sleep(0.5)


@pytest.mark.parametrize("size", [0, 300, 3000])
def test_a_write_that_fails_leaves_the_earlier_checkpoints(tmp_path, size):
    keeper = Checkpointer(tmp_path, CheckpointConfig(keep_last=2))
    big = dataclasses.replace(make_state(), average={"ema": {"params": {"x": jnp.arange(1 << 16) * 1.1}}})
    for step in (1, 2):
        keeper.save(dataclasses.replace(big, step=jnp.asarray(step, jnp.int32)), META, rank=float(-step))
    assert keeper.latest() == 2
    third = dataclasses.replace(big, step=jnp.asarray(3, jnp.int32))
    with largest_file(size), pytest.raises(FullError, match="the disk is full") as raised:
        keeper.save(third, META, rank=9.0)
        keeper.latest()
    assert raised.value.exit_code == 7
    with contextlib.suppress(CheckpointError):  # it still knows of the write that failed
        keeper.close()
    settle(tmp_path)
    with contextlib.closing(Checkpointer(tmp_path, CheckpointConfig(keep_last=2))) as again:
        assert again.latest() == 2 and again.ranked() == [1, 2]
        again.save(third, META, rank=9.0)
        assert again.latest() == 3 and again.best() == 3
    rows = checkpoint_list.inspect(tmp_path, verify=True)
    assert [(row.name, row.damaged) for row in rows] == [("checkpoints/2", False), ("checkpoints/3", False)]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2", "3"]


@pytest.mark.parametrize("first", [True, False])
def test_what_was_not_committed_is_not_on_record(tmp_path, monkeypatch, first):
    """Another process dies while all write one: the run ends, and the next one does not miss what was never complete.

    It once did, and refused to go on.
    """
    keeper = Checkpointer(tmp_path, CheckpointConfig(keep_last=2))
    if not first:
        keeper.save(make_state(1), META, rank=1.0)
        keeper.latest()
        keeper.confirm()

    async def dead(self):
        raise TimeoutError("Timed out while waiting for async_write_complete barrier.")

    with monkeypatch.context() as context:
        context.setattr(ocp.path.atomicity.CommitFileTemporaryPath, "finalize", dead)
        keeper.save(make_state(2), META, rank=2.0)
        while keeper._manager.is_saving_in_progress():
            time.sleep(0.05)
        keeper.confirm()
        with pytest.raises(CheckpointError, match="could not be written: TimeoutError"):
            keeper.save(make_state(3), META, rank=3.0)
        with contextlib.suppress(CheckpointError):
            keeper.close()
    said = []
    with contextlib.closing(Checkpointer(tmp_path, CheckpointConfig(keep_last=2), say=said.append)) as again:
        assert again.newest(lambda step: step) == (None if first else 1)
    assert said == []


def test_space_is_asked_for_first(tmp_path, monkeypatch):
    keeper = Checkpointer(tmp_path, CheckpointConfig())
    monkeypatch.setattr(checkpoint_store.shutil, "disk_usage", lambda path: type("", (), {"free": 1 << 20}))
    with pytest.raises(
        FullError, match=r"1 MiB are free, and a checkpoint needs 16\. Make room: the same command goes"
    ):
        keeper.save(make_state(), META, rank=0.0)
    keeper.close()
    assert list((tmp_path / "checkpoints").iterdir()) == []


@pytest.mark.parametrize(
    ("error", "isfull"),
    [
        (OSError(28, "No space left on device", "x/y"), True),
        (OSError(27, "File too large"), True),
        (OSError(122, "Disk quota exceeded"), True),
        (ValueError("RESOURCE_EXHAUSTED: Failed to write [OS error 28: ENOSPC No space left on device]"), True),
        (ExceptionGroup("many", [ValueError("a"), OSError(28, "full")]), True),
        (OSError(13, "Permission denied"), False),
        (ValueError("x"), False),
    ],
)
def test_a_full_disk_is_recognised_below_other_errors(error, isfull):
    try:
        try:
            raise error
        except Exception as inner:
            raise RuntimeError("saving failed") from inner
    except RuntimeError as outer:
        assert (errors.full(outer) is not None) == isfull


POINTS = {
    "while a checkpoint is written": (checkpoint_store, "_require_space", 2),
    "while a file of the report is written": (files, "write_bytes", 8),
    "while a row of the record is written": (checkpoint.Checkpointer, "save", 3),
}


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_a_run_ends_in_words_and_goes_on_when_there_is_room(tmp_path, pictures, alone, monkeypatch, point):
    owner, name, call = POINTS[point]
    run, config = tmp_path / "run", small(pictures)
    with contextlib.ExitStack() as stack:
        fill = lambda: stack.enter_context(largest_file(200))  # noqa: E731
        stack.enter_context(at(monkeypatch, owner, name, call, fill))
        with pytest.raises(Exception) as raised:
            finish(config, run)
    found = raised.value if isinstance(raised.value, FullError) else errors.full(raised.value)
    assert found is not None and found.exit_code == 7
    if (run / "checkpoints").is_dir() and steps(run):
        assert not any(row.damaged for row in checkpoint_list.inspect(run, verify=True))
    finish(config, run)
    assert same(run, alone) == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 40 MB, where that may be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40m", "none", place], capture_output=True, check=False
    ).returncode:
        pytest.skip("needs the right to mount a file system")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.slow
def test_a_disk_that_is_really_full(tmp_path, pictures, alone, small_disk):
    """By the command line: its code, one line, and the run goes on after room was made."""
    recipe = resume.write_recipe(small(pictures), tmp_path)
    command = [sys.executable, "-m", "emojax.main", f"--config={recipe}", f"--workdir={small_disk / 'run'}"]
    (small_disk / "other").write_bytes(bytes(32 << 20))
    first = subprocess.run(command, capture_output=True, text=True, check=False)
    assert first.returncode == 7, first.stderr
    assert first.stderr.strip().splitlines()[-1].startswith("emojax: error: ") and "Traceback" not in first.stderr
    (small_disk / "other").unlink()
    subprocess.run(command, check=True, capture_output=True)
    assert checkpoint_list.inspect(small_disk / "run", verify=True)
