"""The work directory refuses what would mix two runs."""

import multiprocessing
from pathlib import Path

import pytest

from emojax import files, manifest, workdir
from emojax.config import Config
from emojax.errors import WorkdirError


def hold(folder, ready, done):
    with workdir.claim(Path(folder), Config()):
        ready.set()
        done.wait(30)


def test_a_second_run_is_refused_and_a_dead_one_is_not(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=hold, args=(str(tmp_path / "run"), ready, done))
    process.start()
    assert ready.wait(60)
    with pytest.raises(WorkdirError, match=rf"another run \(process {process.pid}\) is using it"):
        with workdir.claim(tmp_path / "run", Config()):
            pass
    process.kill()
    process.join()
    with workdir.claim(tmp_path / "run", Config()):
        pass


def test_another_config_is_refused_with_the_difference(tmp_path):
    with workdir.claim(tmp_path / "run", Config(batch_size=16)):
        pass  # nothing was trained: a corrected command may use the folder
    with workdir.claim(tmp_path / "run", Config()):
        (tmp_path / "run/metrics.jsonl").write_text("")
    with pytest.raises(WorkdirError, match="batch_size: 64 -> 32"):
        with workdir.claim(tmp_path / "run", Config(batch_size=32)):
            pass
    same_numbers = Config()
    same_numbers.monitor.log_every = 7
    with workdir.claim(tmp_path / "run", same_numbers):
        pass
    assert workdir.read_config(tmp_path / "run").monitor.log_every == 7


def test_missing_parent_is_refused_but_runs_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WorkdirError, match="its parent folder missing does not exist"):
        with workdir.claim(Path("missing/run"), Config()):
            pass
    with workdir.claim(Path("runs/first"), Config()):
        pass
    assert Path("runs/first/config.json").is_file()


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(WorkdirError, match="cannot be written"), workdir.claim(tmp_path / "run", Config()):
        pass


def test_not_a_run(tmp_path):
    with pytest.raises(WorkdirError, match="is not the --workdir of a training run"):
        workdir.read_config(tmp_path)


def test_half_of_a_runs_test_images_are_its_test(tmp_path):
    """By their bytes, whatever they are called; a few shared pictures are other data."""
    records = {"val": {"v": ["0", ""]}, "test": {name: [name, ""] for name in "abcdef"}}
    files.write_json(tmp_path / manifest.FOLDER / "0.json", records)
    (tmp_path / manifest.FOLDER / "1.json").write_text("[{")
    for contents, expected in (("abcdef", True), ("ab", True), ("abcxyz", True), ("abxyzuvw", False), ("0", False)):
        assert manifest.holds_test(tmp_path, contents) == expected, contents
    assert not manifest.holds_test(tmp_path / "none", "ab")
