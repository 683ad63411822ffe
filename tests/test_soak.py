"""scripts/soak.py: what is counted, what is kept between calls, and the page made from it."""
# ruff: noqa: E402 (the scripts are no package: their folder must be on the path first)

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import soak_page
import soak_record
import soak_runs
from soak_record import Record, Unit
from soak_sections import SECTIONS


def record(path, **changes):
    return Record("kills", what="w", bar="b", path=path, **changes)


def test_counts_go_on_and_begin_anew_with_other_versions(tmp_path, monkeypatch):
    path = tmp_path / "r.json"
    record(path).add(Unit(3, 3, {"in saving": 2}), 1.5)
    second = record(path)
    second.add(Unit(2, 0, {"in saving": 1, "chains": 1}, [], [{"seed": 7, "seen": ["params/x"]}]), 1.0)
    found = json.loads(path.read_text())["kills"]
    assert (found["units"], found["done"], found["passed"], found["seconds"]) == (2, 5, 3, 2.5)
    assert found["counts"] == {"in saving": 3, "chains": 1}
    assert found["failures"] == [{"seed": 7, "seen": ["params/x"]}]
    assert record(path, fresh=True).values["done"] == 0
    monkeypatch.setattr(soak_record, "versions", lambda: {"emojax": "9"})
    assert record(path).values["done"] == 0


def test_sections_are_written_beside_each_other(tmp_path):
    path = tmp_path / "r.json"
    record(path).add(Unit(1, 1), 0.1)
    Record("flips", what="w", bar="b", path=path).add(Unit(1, 0), 0.1)
    assert {name: row["passed"] for name, row in soak_record.read(path).items()} == {"kills": 1, "flips": 0}


def test_the_page_holds_every_number_and_every_failure(tmp_path):
    path = tmp_path / "r.json"
    record(path).add(Unit(301, 300, {"in saving": 41}, [], [{"seed": 7, "seen": ["params/x", "y"]}]), 600.0)
    memory = Record("memory", what="m", bar="n", path=path)
    memory.add(soak_record.check("slope", False, value=1.5, unit="MB", limit=1), 3.0)
    text = soak_page.page(soak_record.read(path))
    assert "| kills | w | b | 300 of 301 |" in text
    assert "in saving: 41" in text and "seed 7: params/x; y" in text and "in 10 min" in text
    assert "| slope | 1.5 MB | 1 MB |" in text and "0 of 1 passed" in text
    assert "Not counted yet: interpreters, signals" in text


def test_the_page_is_the_one_of_its_json():
    assert soak_page.PAGE.read_text() == soak_page.page(soak_record.read())


def test_a_checkpoint_without_its_mark_is_half_written(tmp_path):
    assert not soak_runs.half_written(tmp_path) and soak_runs.newest(tmp_path) == 0
    for step in (4, 12):
        (tmp_path / f"checkpoints/{step}").mkdir(parents=True)
        (tmp_path / f"checkpoints/{step}/commit_success.txt").touch()
    assert not soak_runs.half_written(tmp_path) and soak_runs.newest(tmp_path) == 12
    (tmp_path / "checkpoints/13").mkdir()
    assert soak_runs.half_written(tmp_path) and soak_runs.newest(tmp_path) == 12


FORKS = """
import pathlib, sys, time
import soak_children as children
folder = pathlib.Path(sys.argv[1])

def body(page):
    print("up", flush=True)
    page.step, page.phase = 5, "saving"
    time.sleep(60)
    return 0

child = children.start(body, folder / "log")
assert child.until("saving", 20) and child.page.step == 5
child.signal(9)
assert child.wait(20) == -9 and child.told() == "up"
assert children.call(lambda: {"devices": children.jax.device_count()}, folder, devices=3) == {"devices": 3}
assert children.start(lambda page: 7, folder / "log").wait(20) == 7
"""


def test_children_tell_their_phase_and_have_devices_of_their_own(tmp_path):
    subprocess.run([sys.executable, "-c", FORKS, str(tmp_path)], cwd=ROOT / "scripts", check=True, timeout=120)


def test_the_command_names_its_sections():
    command = [sys.executable, "scripts/soak.py", "nothing"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 1 and ", ".join(SECTIONS) in ran.stderr
