"""SIGTERM and Ctrl-C in every phase: the run is saved at the very update, and ends as the one that was left alone."""

import os
import signal
import threading

import pytest
from harness import at, finish, same, small, steps

from emojax import checkpoint, main, preemption, train, wiring
from emojax.data import checks
from emojax.errors import InterruptedRunError, told

pytestmark = pytest.mark.slow


def stop(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("update", [1, 4, 9])
def test_in_training(tmp_path, pictures, alone, monkeypatch, update, number):
    """Update 1 is the one that compiles; after update 9 the last evaluation is owed."""
    run, config = tmp_path / "run", small(pictures)
    with at(monkeypatch, train, "_note", update, lambda: stop(number)), pytest.raises(InterruptedRunError) as raised:
        finish(config, run)
    assert raised.value.exit_code == 128 + number
    assert told(raised.value) == f"stopped by {signal.Signals(number).name}; the same command goes on from here"
    assert max(steps(run)) == update
    finish(config, run)
    assert same(run, alone) == []


@pytest.mark.parametrize("batch", [1, 2])
def test_in_an_evaluation(tmp_path, pictures, alone, monkeypatch, batch):
    """The evaluation is made again; the checkpoint that waits for it is replaced by the judged one."""
    run, config = tmp_path / "run", small(pictures)
    asked = []
    original = wiring.predictions

    def predictions(*args, poll, **kwargs):
        def polled():
            asked.append(1)
            if len(asked) == batch:
                stop()
            poll()

        return original(*args, poll=polled, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(wiring, "predictions", predictions)
        with pytest.raises(InterruptedRunError):
            finish(config, run)
    assert steps(run) == [2, 4]
    finish(config, run)
    assert same(run, alone) == []
    assert not list((run / "checkpoints").glob("replaced-*"))


@pytest.mark.parametrize("save", [1, 2, 3])
def test_while_saving(tmp_path, pictures, alone, monkeypatch, save):
    run, config = tmp_path / "run", small(pictures)
    with (
        at(monkeypatch, checkpoint.Checkpointer, "save", save, stop),
        pytest.raises(InterruptedRunError),
    ):
        finish(config, run)
    finish(config, run)
    assert same(run, alone) == []


def test_while_the_images_are_checked(tmp_path, pictures, alone, monkeypatch):
    run, config = tmp_path / "run", small(pictures)
    with at(monkeypatch, checks, "_look", 5, stop), pytest.raises(InterruptedRunError):
        finish(config, run)
    finish(config, run)
    assert same(run, alone) == []


def test_while_the_report_is_made(tmp_path, pictures, alone, monkeypatch):
    run, config = tmp_path / "run", small(pictures)
    with at(monkeypatch, wiring, "restored", 1, stop), pytest.raises(InterruptedRunError):
        finish(config, run)
    assert not (run / "finished.json").exists()
    finish(config, run)
    assert same(run, alone) == []


def test_a_second_signal_changes_nothing_and_a_third_ends_at_once(monkeypatch):
    ended, before = [], signal.getsignal(signal.SIGINT)  # ignored, where a shell started the tests in the background
    monkeypatch.setattr(os, "_exit", ended.append)
    with preemption.Stop() as noted:
        assert not noted.requested()
        stop()
        stop(signal.SIGINT)
        assert noted.requested() and noted.name == "SIGTERM" and ended == []
        stop()
        assert ended == [128 + signal.SIGTERM]
    assert signal.getsignal(signal.SIGINT) is before


def test_outside_of_the_main_thread_nothing_is_installed():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work():
        with preemption.Stop() as noted:
            seen.append(signal.getsignal(signal.SIGTERM) is before and not noted.requested())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True]


def test_the_command_line_says_so_and_returns_its_code(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise InterruptedRunError("stopped by SIGTERM; the same command goes on from here", 15)

    monkeypatch.setattr(main.app, "run", interrupted)
    assert main.run_with_errors(["emojax", "--config=configs/emoji.py", "--workdir=run"]) == 143
    assert capsys.readouterr().err == "emojax: stopped by SIGTERM; the same command goes on from here\n"
