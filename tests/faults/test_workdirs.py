"""Work directories as people have them: two runs at once, read-only ones, and odd names."""

import contextlib
import fcntl
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from harness import finish, same, small, steps

from emojax import checkpoint, checkpoint_list, predict, resume, train, workdir
from emojax.config import CheckpointConfig, Config
from emojax.errors import CheckpointError, InterruptedRunError, WorkdirError
from emojax.judging import Run


@pytest.mark.slow
def test_two_runs_at_once_on_one_folder(tmp_path, pictures, alone):
    """By the command line: one of them trains to the end as if alone, the other is told who holds the folder."""
    recipe, run = resume.write_recipe(small(pictures), tmp_path), tmp_path / "run"
    command = [sys.executable, "-m", "emojax.main", f"--config={recipe}", f"--workdir={run}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, **pipes) for _ in range(2)]
    texts = [process.communicate()[1] for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) == [0, 4], texts
    refused, holder = codes.index(4), both[codes.index(0)].pid
    assert f"another run (process {holder}) is using it" in texts[refused] and "Traceback" not in texts[refused]
    assert (run / "finished.json").is_file() and not checkpoint_list.inspect(run, verify=True)[0].damaged


def test_a_second_run_of_one_process_is_refused_too(tmp_path):
    with workdir.claim(tmp_path / "run", Config()), pytest.raises(WorkdirError, match="is using it"):
        with workdir.claim(tmp_path / "run", Config()):
            pass


def test_who_has_just_taken_a_folder_is_named_all_the_same(tmp_path):
    """The holder writes its number a moment after it holds the lock: the refused one waits for it."""
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        late = threading.Timer(0.3, lambda: (lock.write("12345\n"), lock.flush()))
        late.start()
        with pytest.raises(WorkdirError, match=r"another run \(process 12345\) is using it"):
            with workdir.claim(tmp_path, Config()):
                pass
        late.join()


def test_a_file_system_without_locks_is_told_apart(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(workdir.fcntl, "flock", no_locks)
    with pytest.raises(WorkdirError, match="cannot be locked: No locks available; use another disk"):
        with workdir.claim(tmp_path / "run", Config()):
            pass


@pytest.fixture
def nobody():
    """(folder, context in which this process has the rights of an ordinary user who may read it)."""
    if os.geteuid() != 0:
        folder = Path(tempfile.mkdtemp())

        @contextlib.contextmanager
        def rights():
            yield
    else:
        folder = Path(tempfile.mkdtemp())

        @contextlib.contextmanager
        def rights():  # permissions do not bind root
            os.seteuid(65534)
            try:
                yield
            finally:
                os.seteuid(0)

    yield folder, rights
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
    subprocess.run(["rm", "-rf", folder], check=True)


def test_a_read_only_folder_is_refused_before_anything_is_read(nobody):
    folder, rights = nobody
    (folder / "run").mkdir()
    (folder / "run").chmod(0o555)
    folder.chmod(0o555)
    for place in ("run", "new"):
        with rights(), pytest.raises(WorkdirError, match=f"{place} cannot be written: Permission denied") as raised:
            train.run(small(Path("nowhere")), folder / place)
        assert raised.value.exit_code == 4


def test_read_only_checkpoints_are_told_in_words(nobody):
    folder, rights = nobody
    folder.chmod(0o555)
    with rights(), pytest.raises(CheckpointError, match=r"checkpoints: cannot be used: Permission denied"):
        checkpoint.Checkpointer(folder, CheckpointConfig())


def test_a_run_that_may_only_be_read_still_predicts(alone, pictures, nobody):
    folder, rights = nobody
    subprocess.run(["cp", "-r", alone, folder / "run"], check=True)
    subprocess.run(["chmod", "-R", "a-w,a+rX", folder], check=True)
    with rights():
        classifier = predict.load(folder / "run")
        assert all(not row.damaged for row in checkpoint_list.inspect(folder / "run", verify=True))
    found = classifier.predict([next(iter(sorted(pictures.rglob("*.png"))))])
    assert found.weight[0] == 1


NAMES = ["with space", "two\nlines", "Grüße-日本-😀", "percent%20#frag?q=1&x", "--config", "*{b}'\"$HOME`x`"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_odd_names_of_work_directories(tmp_path, pictures, alone, name, monkeypatch):
    """Stopped after its second save, resumed, judged and asked: all of it in the folder that was named."""
    run, config, saved = tmp_path / name, small(pictures), []
    original = Run.save

    def save(self, *args, **kwargs):
        original(self, *args, **kwargs)
        saved.append(1)
        if len(saved) == 2:
            raise InterruptedRunError("stopped", 15)

    monkeypatch.setattr(Run, "save", save)
    with pytest.raises(InterruptedRunError):
        finish(config, run)
    assert steps(run)
    finish(config, run)
    assert same(run, alone) == []
    assert {path.name for path in tmp_path.iterdir()} == {name}
    assert (run / "report/summary.md").is_file() and list((run / "tensorboard").glob("*")) == []


def test_names_with_brackets_are_refused(tmp_path):
    """Every checkpoint below such a folder would be unreadable: Orbax takes its path for a pattern."""
    for place in (tmp_path / "a[b]", tmp_path / "a[b]" / "run"):
        (tmp_path / "a[b]").mkdir(exist_ok=True)
        with pytest.raises(WorkdirError, match=r"cannot be kept below a folder with \[ \]"):
            with workdir.claim(place, Config()):
                pass


def test_a_name_that_no_file_can_have(tmp_path):
    for name in ("a\0b", "x" * 300):
        with pytest.raises(WorkdirError, match="cannot be written"), workdir.claim(tmp_path / name, Config()):
            pass
