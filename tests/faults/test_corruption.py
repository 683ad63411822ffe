"""Damaged checkpoints: noticed, set aside, and the run goes on from the one before."""

import json
import re
import shutil

import numpy as np
import pytest
from harness import CrashError, at, crash, finish, same, small, steps

from emojax import checkpoint_list, cli, train
from emojax.errors import LostError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, pictures):
    """A run that was killed after update 8, with complete checkpoints at 4 (judged) and 6."""
    run = tmp_path_factory.mktemp("stopped") / "run"
    config = small(pictures)
    with pytest.MonkeyPatch.context() as patch, at(patch, train, "_note", 8, crash), pytest.raises(CrashError):
        finish(config, run)
    assert steps(run) == [4, 6]
    return run


def files_of(run, step):
    return sorted(p for p in (run / "checkpoints" / str(step)).rglob("*") if p.is_file())


def copy(stopped, to):
    shutil.copytree(stopped, to)
    return to


def test_bit_flips_in_the_latest_checkpoint_are_never_silent(tmp_path, stopped):
    """100 flips anywhere in it: either it is damaged, or every array and the description are what was saved."""
    run = copy(stopped, tmp_path / "run")
    rows = {row.name: row for row in checkpoint_list.inspect(run, verify=True)}
    assert not any(row.damaged for row in rows.values())
    shutil.rmtree(run / "checkpoints/4")
    rng, noticed, harmless = np.random.default_rng(0), 0, []
    files = files_of(run, 6)
    sizes = np.array([path.stat().st_size for path in files], float)
    for _ in range(100):
        path = files[rng.choice(len(files), p=sizes / sizes.sum())]
        good = path.read_bytes()
        bad = bytearray(good)
        bad[rng.integers(len(bad))] ^= 1 << int(rng.integers(8))
        path.write_bytes(bad)
        found = {row.name: row for row in checkpoint_list.inspect(run, verify=True)}.get("checkpoints/6")
        if found is None or found.damaged:
            noticed += 1
        else:  # `inspect` compared every array and the sealed description with what was saved
            harmless.append(path.name)
        path.write_bytes(good)
    assert noticed + len(harmless) == 100 and noticed >= 60, harmless


@pytest.mark.parametrize("how", ["flip", "truncate", "empty", "delete"])
def test_the_run_goes_on_from_the_checkpoint_before(tmp_path, stopped, pictures, alone, capsys, how):
    run = copy(stopped, tmp_path / "run")
    path = max((p for p in files_of(run, 6) if "/d/" in str(p)), key=lambda p: p.stat().st_size)
    data = bytearray(path.read_bytes())
    if how == "flip":
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
    elif how == "delete":
        path.unlink()
    else:
        path.write_bytes(data[: len(data) // 2] if how == "truncate" else b"")
    finish(small(pictures), run)
    assert "damaged" in capsys.readouterr().err
    assert (run / "checkpoints/damaged-6").is_dir()
    assert same(run, alone) == []


def test_every_kind_of_file_of_the_latest_checkpoint(tmp_path, stopped, pictures, alone):
    """Truncated or deleted: files of the parameters, the description, the rank, and what lies beside them."""
    kinds = {}
    for path in files_of(stopped, 6):
        item = path.relative_to(stopped / "checkpoints/6").parts[0]
        if item not in ("model_state", "opt_state", "average"):
            kinds.setdefault((item, "data" if path.parent.name == "d" else path.name), path)
    for i, path in enumerate(kinds.values()):
        for how in ("half", "delete"):
            run = copy(stopped, tmp_path / f"{i}-{how}")
            victim = run / path.relative_to(stopped)
            data = victim.read_bytes()
            if how == "delete":
                victim.unlink()
            else:
                victim.write_bytes(data[: len(data) // 2])
            finish(small(pictures), run)
            assert same(run, alone) == [], (path, how)
            shutil.rmtree(run)


def test_the_description_is_sealed(tmp_path, stopped):
    """A best value, a class name or a rank that was changed is damage, though it is valid JSON."""
    run = copy(stopped, tmp_path / "run")
    folder = run / "checkpoints/4"
    for name, pattern, to in (
        ("metrics/metrics", r'"rank": [\d.]+', '"rank": 0.123'),
        ("meta/metadata", '"blue"', '"grue"'),
        ("meta/metadata", r'"best": [\d.]+', '"best": 0.123'),
    ):
        good = (folder / name).read_text()
        bad, count = re.subn(pattern, to, good)
        assert count == 1, name
        (folder / name).write_text(bad)
        assert {row.name: row.damaged for row in checkpoint_list.inspect(run, verify=False)}["checkpoints/4"], name
        (folder / name).write_text(good)
    assert not any(row.damaged for row in checkpoint_list.inspect(run, verify=False))


def test_no_checkpoint_left_is_an_error_and_no_fresh_start(tmp_path, stopped, pictures, capsys):
    run = copy(stopped, tmp_path / "run")
    for step in (4, 6):
        for path in files_of(run, step):
            if "/d/" in str(path):
                path.write_bytes(b"")
    config = small(pictures)
    for _ in range(2):  # the second time too
        with pytest.raises(LostError, match=r"every checkpoint is damaged \(damaged-4, damaged-6\)") as raised:
            finish(config, run)
        assert raised.value.exit_code == 6
    assert cli.main(["checkpoints", "list", f"--workdir={run}"]) == 0
    assert "set aside: damaged" in capsys.readouterr().out
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(LostError, match=r"checkpoint 6 is gone. Bring back a copy, or remove .*committed.json"):
        finish(config, run)
    (run / "committed.json").unlink()
    finish(config, run)


def test_a_lost_marker_is_damage_and_no_unfinished_write(tmp_path, stopped, pictures, alone, capsys):
    """Orbax takes a folder without its marker for one that is being written, and removes it."""
    run = copy(stopped, tmp_path / "run")
    (run / "checkpoints/6/commit_success.txt").unlink()
    assert {row.name: row.damaged for row in checkpoint_list.inspect(run, verify=False)} == {"checkpoints/6": True}
    finish(small(pictures), run)
    told = capsys.readouterr().err
    assert "checkpoints/6 is damaged; set aside as damaged-6" in told and "Going on after step 4" in told
    names = {path.relative_to(run / "checkpoints/damaged-6") for path in (run / "checkpoints/damaged-6").rglob("*")}
    kept = {path.relative_to(stopped / "checkpoints/6") for path in (stopped / "checkpoints/6").rglob("*")}
    assert {str(name) for name in kept - names} == {"commit_success.txt"}, "what was set aside is not as it was"
    assert same(run, alone) == []
    assert cli.main(["checkpoints", "verify", f"--workdir={run}"]) == 0
    only = copy(stopped, tmp_path / "only")
    for step in (4, 6):
        (only / f"checkpoints/{step}/commit_success.txt").unlink()
    with pytest.raises(LostError, match=r"every checkpoint is damaged \(damaged-4, damaged-6\)"):
        finish(small(pictures), only)


def test_a_damaged_result_says_what_to_do(tmp_path, pictures, alone, capsys):
    run = copy(alone, tmp_path / "run")
    for path in (run / "model").rglob("d/*"):
        path.write_bytes(path.read_bytes()[:-1])
    picture = next(pictures.rglob("*.png"))
    assert cli.main(["predict", str(picture), f"--workdir={run}"]) == 3
    assert "finished.json, and give the training command again" in capsys.readouterr().err
    shutil.rmtree(run / "model")
    (run / "finished.json").unlink()
    finish(small(pictures), run)
    assert same(run, alone) == []


def test_strange_things_in_the_folder_are_ignored(tmp_path, stopped, pictures, alone):
    run = copy(stopped, tmp_path / "run")
    (run / "checkpoints/99").mkdir()
    (run / "checkpoints/8.orbax-checkpoint-tmp-1").mkdir()
    (run / "checkpoints/notes.txt").write_text("mine")
    shutil.copytree(run / "checkpoints/6", run / "checkpoints/6.bak")
    (run / "checkpoints/6.bak/metrics/metrics").write_text("")
    (run / "checkpoints/replaced-mine").mkdir()
    (run / "checkpoints/loop").symlink_to(run / "checkpoints")
    finish(small(pictures), run)
    assert same(run, alone) == []
    assert (run / "checkpoints/notes.txt").read_text() == "mine"


def test_list_and_verify(tmp_path, alone, stopped, capsys):
    assert cli.main(["checkpoints", "list", f"--workdir={alone}"]) == 0
    shown = capsys.readouterr().out
    assert "checkpoints/9" in shown and "model/" in shown and "accuracy" in shown
    assert cli.main(["checkpoints", "verify", f"--workdir={alone}"]) == 0
    assert "whole: " in capsys.readouterr().out
    run = copy(stopped, tmp_path / "run")
    path = next(p for p in files_of(run, 6) if "/d/" in str(p))
    path.write_bytes(path.read_bytes()[:-1])
    assert cli.main(["checkpoints", "verify", f"--workdir={run}"]) == 3
    out, err = capsys.readouterr()
    assert "damaged" in out and "1 of 2 checkpoints are damaged: checkpoints/6" in err
    assert cli.main(["checkpoints", "list", f"--workdir={tmp_path}"]) == 3
    assert json.loads((alone / "finished.json").read_text())["step"] in steps(alone)
