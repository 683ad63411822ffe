"""`emojax launch` as a supervisor, with small programs in place of trainings."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from emojax.cli import launch

HEAD = """
import os, pathlib, signal, sys, time
here, me = pathlib.Path(sys.argv[1]), int(os.environ["EMOJAX_PROCESS"])
attempt = len(list(here.glob(f"started-{me}-*")))
(here / f"started-{me}-{attempt}").write_text(os.environ["EMOJAX_COORDINATOR"] + " " + os.environ["EMOJAX_PROCESSES"])
"""


@pytest.fixture
def launched(tmp_path, monkeypatch):
    """Runs a program in two processes; returns the exit code."""
    monkeypatch.setattr(launch, "GRACE", 0.5)
    monkeypatch.setattr(launch, "FIRST_PAUSE", 0.1)

    def run(program, restarts=3):
        path = tmp_path / "program.py"
        path.write_text(HEAD + program)
        monkeypatch.setattr(launch, "PROGRAM", [sys.executable, "-S", str(path)])
        return launch.main(["--processes=2", f"--restarts={restarts}", "--", str(tmp_path)])

    run.starts = lambda: len(list(tmp_path.glob("started-0-*")))
    run.folder = tmp_path
    return run


def soon(folder, name, then):
    """Calls `then` from another thread once a file is there."""

    def work():
        until = time.monotonic() + 20
        while not (folder / name).exists() and time.monotonic() < until:
            time.sleep(0.01)
        then()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_all_are_started_again_when_one_is_killed(launched, capsys):
    program = "if attempt == 0: os.kill(os.getpid(), signal.SIGKILL) if me else time.sleep(60)\n"
    assert launched(program) == 0
    assert launched.starts() == 2
    assert capsys.readouterr().err == (
        "emojax launch: a process ended with 137; starting all again in 0.1 s (1 of 3)\n"
    )
    places = {path.read_text() for path in launched.folder.glob("started-?-1")}
    assert len(places) == 1 and places.pop().startswith("127.0.0.1:")


def test_restarts_are_counted_and_pauses_double(launched, capsys, monkeypatch):
    monkeypatch.setattr(launch, "LONGEST_PAUSE", 0.15)
    assert launched("sys.exit(me)", restarts=2) == 1
    assert launched.starts() == 3
    told = capsys.readouterr().err
    assert "again in 0.1 s (1 of 2)" in told and "again in 0.15 s (2 of 2)" in told and "giving up" in told


@pytest.mark.parametrize("code", [2, 3, 4, 5, 6])
def test_what_needs_a_person_is_not_tried_again(launched, code):
    assert launched(f"sys.exit({code}) if me else time.sleep(60)") == code
    assert launched.starts() == 1


def test_sigterm_reaches_the_first_and_the_others_may_finish_saving(launched):
    program = """
def stop(*_):
    (here / "told").touch()
    sys.exit(143)
if me == 0:
    signal.signal(signal.SIGTERM, stop)
    (here / "ready").touch()
    time.sleep(60)
while not (here / "told").exists():
    time.sleep(0.01)
time.sleep(1.5)  # longer than the grace
(here / "saved").touch()
sys.exit(143)
"""
    thread = soon(launched.folder, "ready", lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert launched(program) == 143
    thread.join()
    assert (launched.folder / "saved").exists() and launched.starts() == 1


def test_sigterm_while_they_start_ends_all(launched):
    """The first dies of it; the other waits for the first in vain."""
    program = "(here / f'up{me}').touch(); time.sleep(60)"
    thread = soon(launched.folder, "up0", lambda: os.kill(os.getpid(), signal.SIGTERM))
    began = time.monotonic()
    assert launched(program) == 143
    thread.join()
    assert time.monotonic() - began < 10


def test_sigterm_in_the_pause_ends_the_job(launched, monkeypatch):
    monkeypatch.setattr(launch, "FIRST_PAUSE", 30.0)
    thread = soon(launched.folder, "started-0-0", lambda: (time.sleep(1.0), os.kill(os.getpid(), signal.SIGTERM)))
    assert launched("sys.exit(1)") == 143
    thread.join()
    assert launched.starts() == 1


def test_a_third_signal_kills(launched):
    program = "signal.signal(signal.SIGTERM, signal.SIG_IGN); (here / f'up{me}').touch(); time.sleep(60)"

    def thrice():
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.2)

    thread = soon(launched.folder, "up0", thrice)
    assert launched(program) == 143
    thread.join()


def test_handlers_are_as_before(launched):
    before = signal.getsignal(signal.SIGTERM)
    assert launched("") == 0
    assert signal.getsignal(signal.SIGTERM) is before


def test_it_says_what_it_expects():
    command = [sys.executable, "-m", "emojax.cli", "launch", "--processes=0", "--", "train"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 2 and "expected --processes of 1 or more" in ran.stderr


def test_what_is_not_saved_in_time_after_a_signal_is_killed(launched, tmp_path, monkeypatch):
    program = tmp_path / "program.py"
    monkeypatch.setattr(launch, "PROGRAM", [sys.executable, "-S", str(program)])
    program.write_text(HEAD + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n(here / 'up').touch()\ntime.sleep(60)\n")
    soon(launched.folder, "up", lambda: os.kill(os.getpid(), signal.SIGTERM))
    began = time.monotonic()
    assert launch.main(["--processes=2", "--grace=0.3", "--", str(tmp_path)]) == 143
    assert time.monotonic() - began < 20


def test_processes_end_with_their_launcher(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(HEAD + "(here / f'up-{me}').write_text(str(os.getpid()))\ntime.sleep(60)\n")
    inside = f"import sys; from emojax.cli import launch; launch.PROGRAM = [sys.executable, '-S', {str(program)!r}]; "
    inside += f"launch.main(['--processes=2', '--', {str(tmp_path)!r}])"
    with subprocess.Popen([sys.executable, "-c", inside]) as job:
        until = time.monotonic() + 60
        ups = [tmp_path / f"up-{me}" for me in (0, 1)]
        while not all(up.exists() and up.read_text() for up in ups) and time.monotonic() < until:
            time.sleep(0.05)
        job.kill()
    for up in ups:
        until = time.monotonic() + 10
        while alive(int(up.read_text())) and time.monotonic() < until:
            time.sleep(0.05)
        assert not alive(int(up.read_text()))


def alive(pid):
    """Whether a process runs; one that has ended and that nobody has asked for its code does not."""
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
