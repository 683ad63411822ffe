"""The monitor: terminal lines, metrics.jsonl, TensorBoard files, speed, resume. A fake clock makes time exact."""

from __future__ import annotations

import importlib.util
import inspect
import io
import itertools
import json
import struct
import threading
from pathlib import Path
from typing import Any, TextIO

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from emojax import jsonl, metrics, progress
from emojax.config import MonitorConfig
from emojax.events import EventWriter
from emojax.monitor import Monitor
from emojax.types import Predictions

OVERVIEW = "+---+\n| a |\n+---+\nTotal: 28,589,128 -- 114,356,512 bytes"
NUMBERS = {"loss": 1.25, "accuracy": 0.5, "learning_rate": 0.1 + 0.2, "grad_norm": 2.0}
PLAIN = MonitorConfig(tensorboard=0)


class Clock:
    """A clock that stands still until told to go on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


class Screen:
    """What is left on a terminal after carriage returns, and whether a line was ever too long."""

    def __init__(self, text: str, *, width: int) -> None:
        self.lines, self.widest = [], 0
        for raw in text.split("\n"):
            cells: list[str] = []
            for part in raw.split("\r"):
                self.widest = max(self.widest, len(part))
                cells[: len(part)] = part
            self.lines.append("".join(cells).rstrip())
        self.fits = self.widest <= width


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LINES", "30")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


def report_of(accuracy: float) -> metrics.Report:
    label = np.eye(2, dtype=np.float32)[np.arange(20) % 2]
    probs = np.where(np.arange(20)[:, None] < 20 * accuracy, 0.8 * label + 0.1, 0.9 - 0.8 * label).astype(np.float32)
    predictions = Predictions(probs, label, np.ones(20, np.float32), np.arange(20).astype(str))
    return metrics.evaluate(predictions, ("glad", "sad"))


def run(
    folder: Path,
    *,
    start: int = 0,
    stop: int = 40,
    stream: TextIO | None = None,
    config: MonitorConfig = PLAIN,
    clock: Clock | None = None,
) -> Any:
    """A made-up training: a step takes 0.1 s, 0.02 s of it waiting; log every 10 steps, evaluation every 20."""
    clock, stream = clock or Clock(), stream or io.StringIO()
    with Monitor(folder, config, stream=stream, clock=clock) as monitor:
        monitor.begin(
            total_steps=40, steps_per_epoch=20, start_step=start, lines=["faces: 2 classes"], parameters=OVERVIEW
        )
        for step in range(start + 1, stop + 1):
            with monitor.waiting_for_data():
                clock.now += 5 if step == start + 1 else 0.02
            clock.now += 30 if step == start + 1 else 0.08
            monitor.tick(step)
            if step % 10 == 0:
                monitor.train(step, {**NUMBERS, "loss": 1 / step}, images=320)
            if step % 20 == 0:
                monitor.status("evaluating")
                clock.now += 50
                monitor.evaluated(step, "val", report_of(step / 40), best=True)
    return stream


def rows(folder: Path, kind: str) -> list[dict]:
    return [row for row in jsonl.read(folder / "metrics.jsonl") if row["kind"] == kind]


def test_rows(tmp_path: Path) -> None:
    run(tmp_path)
    assert rows(tmp_path, "train")[0] == {"kind": "train", "step": 10, "epoch": 0.5, **NUMBERS, "loss": 0.1}
    assert [row["step"] for row in rows(tmp_path, "train")] == [10, 20, 30, 40]
    first = rows(tmp_path, "eval")[0]
    numbers = {**report_of(0.5).numbers(), "class_f1": [row.f1 for row in report_of(0.5).per_class]}
    assert first == {"kind": "eval", "step": 20, "epoch": 1.0, "split": "val", "n": 20, **numbers}


def test_speed_leaves_out_compilation_and_evaluation(tmp_path: Path) -> None:
    run(tmp_path)
    speed = rows(tmp_path, "speed")
    assert [row["step"] for row in speed] == [10, 20, 30, 40]
    for row in speed:
        assert row["images_per_second"] == pytest.approx(320)  # 32 images in 0.1 s
        assert row["data_wait"] == pytest.approx(0.2)
    assert speed[0]["seconds"] == pytest.approx(0.9) and speed[2]["seconds"] == pytest.approx(1.0)


def test_updates_that_are_left_out_say_nothing_about_the_pace(tmp_path: Path) -> None:
    clock = Clock()
    with Monitor(tmp_path, PLAIN, stream=io.StringIO(), clock=clock) as monitor:
        monitor.begin(total_steps=2000, steps_per_epoch=10, start_step=0, lines=[], parameters=OVERVIEW)
        for step in (*range(1, 11), *range(1001, 1011)):
            if step == 1001:
                monitor.skip_to(1000)  # the stage ended early, after update 10
            with monitor.waiting_for_data():
                pass
            clock.now += 60 if step == 1 else 0.5
            monitor.tick(step)
            if step % 10 == 0:
                monitor.train(step, NUMBERS, images=100)
        assert monitor._throughput.seconds_left(2000) == pytest.approx(990 * 0.5)
    assert [row["images_per_second"] for row in rows(tmp_path, "speed")] == pytest.approx([20, 20])


def test_compilation_of_a_later_stage_is_left_out(tmp_path: Path) -> None:
    clock = Clock()
    with Monitor(tmp_path, PLAIN, stream=io.StringIO(), clock=clock) as monitor:
        monitor.begin(total_steps=9, steps_per_epoch=3, start_step=0, lines=[], parameters=OVERVIEW)
        for step in range(1, 7):
            if step == 4:
                monitor.compiling()
            with monitor.waiting_for_data():
                pass
            clock.now += 60 if step in (1, 4) else 0.5
            monitor.tick(step)
            if step in (3, 6):
                monitor.train(step, NUMBERS, images=30)
    assert [row["images_per_second"] for row in rows(tmp_path, "speed")] == pytest.approx([20, 20])


def test_train_rows_after_a_resume_are_identical(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    run(tmp_path / "cut", stop=33)
    run(tmp_path / "cut", start=20)
    for kind in ("train", "eval"):
        lines = [
            [line for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines() if f'"{kind}"' in line]
            for name in ("whole", "cut")
        ]
        assert lines[0] == lines[1]


def test_resume_truncates_and_tolerates_a_half_written_line(tmp_path: Path) -> None:
    run(tmp_path, stop=30)
    path = tmp_path / "metrics.jsonl"
    with path.open("a") as file:
        file.write('{"kind": "train", "step": 2')
    stream = io.StringIO()
    with Monitor(tmp_path, PLAIN, stream=stream) as monitor:
        monitor.begin(total_steps=40, steps_per_epoch=20, start_step=20, lines=[], parameters=OVERVIEW)
        assert max(row["step"] for row in monitor.history()) == 20
        monitor.train(30, NUMBERS, images=1)
    assert "Going on after step 20 of 40 (epoch 1.00)" in stream.getvalue()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [10, 10, 20, 20, 20, 30]


def test_a_fresh_start_drops_old_rows(tmp_path: Path) -> None:
    run(tmp_path)
    with Monitor(tmp_path, PLAIN, stream=io.StringIO()) as monitor:
        monitor.begin(total_steps=40, steps_per_epoch=20, start_step=0, lines=[], parameters=OVERVIEW)
        assert monitor.history() == []


def test_history_keeps_the_later_of_two_equal_rows(tmp_path: Path) -> None:
    with Monitor(tmp_path, PLAIN, stream=io.StringIO()) as monitor:
        monitor.begin(total_steps=40, steps_per_epoch=20, start_step=0, lines=[], parameters=OVERVIEW)
        for accuracy in (0.5, 1.0):
            monitor.evaluated(20, "val", report_of(accuracy))
        monitor.evaluated(20, "test", report_of(0.5))
        assert [(r["split"], r["accuracy"]) for r in monitor.history()] == [("val", 1.0), ("test", 0.5)]


def test_nan_becomes_null(tmp_path: Path) -> None:
    with Monitor(tmp_path, PLAIN, stream=io.StringIO()) as monitor:
        monitor.begin(total_steps=4, steps_per_epoch=2, start_step=0, lines=[], parameters=OVERVIEW)
        monitor.train(1, {"loss": float("nan")}, images=1)
    assert rows(tmp_path, "train")[0]["loss"] is None


def test_text_without_a_terminal(tmp_path: Path) -> None:
    text = run(tmp_path).getvalue()
    assert "\r" not in text and "\x1b" not in text
    lines = text.splitlines()
    assert lines[:3] == [
        "faces: 2 classes",
        "28,589,128 parameters (114.4 MB), listed in parameters.txt",
        "compiling …",
    ]
    assert lines[3] == "Compiled in 30 s"
    table = [line for line in lines if line.endswith(("images/s", "best"))]
    assert len(table) == 3
    assert table[0].index("val loss") + 8 == table[1].index("1.2040") + 6  # aligned right
    assert table[1].split() == [
        "1.00",
        "20",
        "0.0500",
        "0.5000",
        "1.2040",
        "0.5000",
        "0.5000",
        "3.00e-01",
        "320",
        "best",
    ]
    assert len({len(line.removesuffix("  best")) for line in table}) == 1
    assert (tmp_path / "parameters.txt").read_text() == OVERVIEW + "\n"


def test_plain_progress_lines_are_rare(tmp_path: Path) -> None:
    clock, stream = Clock(), io.StringIO()
    with Monitor(tmp_path, PLAIN, stream=stream, clock=clock) as monitor:
        monitor.begin(total_steps=1000, steps_per_epoch=20, start_step=0, lines=[], parameters=OVERVIEW)
        for step in range(1, 301):  # 30 s
            clock.now += 0.1
            monitor.tick(step)
    assert sum(line.startswith("epoch ") for line in stream.getvalue().splitlines()) in (2, 3)


def test_live_line(tmp_path: Path) -> None:
    text = run(tmp_path, stream=Tty()).getvalue()
    screen = Screen(text, width=119)
    live = "epoch 1.85/2 | step 37/40 92% | loss 0.0333 | lr 3.00e-01 | 320 images/s | data wait 20% | 4 s left"
    assert live in "".join(text.split("\r")[k].rstrip() + "\n" for k in range(text.count("\r") + 1))
    assert not any("epoch 1." in line and "left" in line for line in screen.lines)  # nothing of it remains
    assert "\x1b[1;32mbest\x1b[0m" in text and "evaluating …" in text
    assert "\x1b" not in (tmp_path / "log.txt").read_text()


def test_live_line_is_drawn_at_most_five_times_a_second(tmp_path: Path) -> None:
    clock, stream = Clock(), Tty()
    with Monitor(tmp_path, PLAIN, stream=stream, clock=clock) as monitor:
        monitor.begin(total_steps=1000, steps_per_epoch=20, start_step=0, lines=[], parameters=OVERVIEW)
        for step in range(1, 1001):  # 10 s
            clock.now += 0.01
            monitor.tick(step)
    assert 45 <= stream.getvalue().count("\repoch ") <= 51


@pytest.mark.parametrize("width", [20, 40, 80])
def test_narrow_terminals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    text = run(tmp_path, stream=Tty()).getvalue()
    assert "\x1b" not in text
    live = [part for part in text.replace("\n", "\r").split("\r") if part.startswith("epoch ")]
    assert live and all(len(part) < width for part in live)
    table = [line for line in text.replace("\r", "\n").splitlines() if line.strip().startswith(("1.00", "2.00"))]
    assert len(table) == 2 and all(len(line) <= width for line in table)
    assert progress.fit([(1, "a" * 30)], 10) == "a" * 9 + "…"


def test_streams_that_break_or_cannot_show_everything(tmp_path: Path) -> None:
    class Broken(Tty):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    run(tmp_path / "broken", stream=Broken())
    assert len(rows(tmp_path / "broken", "train")) == 4
    raw = io.BytesIO()
    run(tmp_path / "ascii", stream=io.TextIOWrapper(raw, encoding="ascii"))


def test_log_file(tmp_path: Path) -> None:
    for _ in range(2):
        with Monitor(tmp_path, PLAIN, stream=io.StringIO()) as monitor:
            monitor.say("two\nlines \udcff")
    lines = (tmp_path / "log.txt").read_text("utf-8").splitlines()
    assert len(lines) == 4 and lines[0].endswith(" two") and lines[0][:2] == "20"


def test_preparation_progress(tmp_path: Path) -> None:
    clock, stream = Clock(), Tty()
    with Monitor(tmp_path, PLAIN, stream=stream, clock=clock) as monitor:
        for done in range(0, 1001, 100):
            clock.now += 1
            monitor.progress(done, 1000)
    assert "\r700 of 1,000 (70%)" in stream.getvalue()
    assert Screen(stream.getvalue(), width=119).lines[-1] == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1:00 min"), (187, "3:07 min"), (7500, "2:05 h"), (273600, "3 d 04 h")]
)
def test_duration(seconds: float, text: str) -> None:
    assert progress.duration(seconds) == text


def test_passive_monitor_touches_nothing(tmp_path: Path) -> None:
    folder, stream = tmp_path / "none", io.StringIO()
    with Monitor(folder, MonitorConfig(profile_step=1), active=False, stream=stream) as monitor:
        monitor.begin(total_steps=4, steps_per_epoch=2, start_step=0, lines=["x"], parameters=OVERVIEW)
        monitor.say("x")
        monitor.progress(1, 2)
        with monitor.waiting_for_data():
            pass
        monitor.tick(1)
        monitor.compiling()
        monitor.train(1, NUMBERS, images=1)
        monitor.status("evaluating")
        monitor.evaluated(1, "val", report_of(1), best=True)
        monitor.hparams({"a": 1})
        monitor.images("a", 0, np.zeros((2, 4, 4, 3), np.uint8), np.eye(2, dtype=np.float32), ("a", "b"))
        assert monitor.history() == []
    assert not folder.exists() and stream.getvalue() == ""


def events(folder: Path) -> list:
    """All events below `folder`, with the checksums of their records checked."""
    from tensorboardX.proto import event_pb2
    from tensorboardX.record_writer import masked_crc32c

    found = []
    for path in sorted(folder.rglob("events.out.tfevents.*")):
        data = path.read_bytes()
        while data:
            (length,), (crc,) = struct.unpack("<Q", data[:8]), struct.unpack("<I", data[8:12])
            body = data[12 : 12 + length]
            assert crc == masked_crc32c(data[:8])
            assert struct.unpack("<I", data[12 + length : 16 + length])[0] == masked_crc32c(body)
            found.append(vars(event_pb2)["Event"].FromString(body))
            data = data[16 + length :]
    return found


def values(folder: Path) -> dict:
    """(tag, step) -> summary value."""
    return {(value.tag, event.step): value for event in events(folder) for value in event.summary.value}


def test_tensorboard(tmp_path: Path) -> None:
    clock = Clock()
    run(tmp_path, config=MonitorConfig(), clock=clock, stop=20)
    found = values(tmp_path / "tensorboard")
    assert found["train/loss", 10].simple_value == pytest.approx(0.1)
    assert found["val/accuracy", 20].simple_value == pytest.approx(0.5)
    assert found["speed/images_per_second", 20].simple_value == pytest.approx(320)
    picture = Image.open(io.BytesIO(found["val/confusion", 20].image.encoded_image_string))
    assert picture.size == (found["val/confusion", 20].image.width, found["val/confusion", 20].image.height)
    run(tmp_path, config=MonitorConfig(), clock=clock, start=20)
    starts = [event.step for event in events(tmp_path / "tensorboard") if event.HasField("session_log")]
    assert starts == [0, 21]


def test_monitor_shows_batches(tmp_path: Path) -> None:
    with Monitor(tmp_path, MonitorConfig(), stream=io.StringIO()) as monitor:
        monitor.begin(total_steps=4, steps_per_epoch=2, start_step=0, lines=[], parameters=OVERVIEW)
        monitor.images(
            "batch",
            1,
            np.zeros((30, 4, 4, 3), np.uint8),
            np.eye(30, dtype=np.float32),
            tuple("abcdefghijklmnopqrstuvwxyzabcd"),
        )
        monitor.hparams({"seed": 1, "optim.name": "sgd", "stages": (1, 2)})
    found = values(tmp_path / "tensorboard")
    assert found["batch", 1].image.height > 100
    assert ("_hparams_/session_start_info", 0) in found


def test_event_writer(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path)
    writer.write_scalars(3, {"a": 1, "b": np.float32(2), "c": jnp.ones((1,)) * 3})
    writer.write_images(3, {"one": np.full((2, 3, 3), 255, np.uint8), "two": np.full((2, 2, 3, 1), 1.5)})
    writer.write_videos(3, {"clip": np.random.default_rng(0).random((4, 5, 6, 3))})
    writer.write_audios(3, {"beep": np.zeros((100, 2))}, sample_rate=8000)
    writer.write_histograms(3, {"w": np.array([1.0, 2.0, np.nan]), "empty": np.zeros(0)}, num_buckets={"w": 4})
    writer.write_texts(3, {"t": "text"})
    metadata = writer._summary.SummaryMetadata(summary_description="d")
    writer.write_summaries(3, {"tensor": np.arange(6).reshape(2, 3)}, metadata)
    writer.flush()
    found = values(tmp_path)
    assert [found[tag, 3].simple_value for tag in "abc"] == [1, 2, 3]
    pixels = np.asarray(Image.open(io.BytesIO(found["one", 3].image.encoded_image_string)))
    assert pixels.shape == (2, 3, 3) and pixels.min() == 255
    assert np.asarray(Image.open(io.BytesIO(found["two/1", 3].image.encoded_image_string))).tolist() == [[255] * 3] * 2
    assert Image.open(io.BytesIO(found["clip", 3].image.encoded_image_string)).seek(3) is None
    assert found["beep", 3].audio.encoded_audio_string[:4] == b"RIFF"
    assert found["w", 3].histo.num == 2 and ("empty", 3) not in found
    assert found["tensor", 3].metadata.summary_description == "d"
    restored = np.frombuffer(found["tensor", 3].tensor.tensor_content, np.int64)
    assert restored.tolist() == list(range(6))
    writer.close()


def test_event_files_never_collide(tmp_path: Path) -> None:
    writers = [EventWriter(tmp_path) for _ in range(3)]
    assert len({writer.path for writer in writers}) == len(list(tmp_path.iterdir())) == 3
    for writer in writers:
        writer.close()


def test_event_writer_has_the_methods_of_clu() -> None:
    """Fails when CLU changes its `MetricWriter` interface, which cannot be imported without TensorFlow."""
    found = importlib.util.find_spec("clu")
    assert found is not None and found.submodule_search_locations
    path = Path(found.submodule_search_locations[0]) / "metric_writers" / "interface.py"
    spec = importlib.util.spec_from_file_location("clu_metric_writer_interface", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert len(module.MetricWriter.__abstractmethods__) >= 10
    for name in module.MetricWriter.__abstractmethods__:
        theirs, ours = (
            inspect.signature(getattr(module.MetricWriter, name)),
            inspect.signature(getattr(EventWriter, name)),
        )
        shape = [[(p.name, p.kind, p.default) for p in s.parameters.values()] for s in (theirs, ours)]
        assert shape[0] == shape[1], name


def test_profile(tmp_path: Path) -> None:
    stream = io.StringIO()
    with Monitor(tmp_path, MonitorConfig(tensorboard=0, profile_step=2), stream=stream) as monitor:
        monitor.begin(total_steps=40, steps_per_epoch=20, start_step=0, lines=[], parameters=OVERVIEW)
        for step in range(1, 15):
            monitor.tick(step, wait_for=jnp.ones(3) * step)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    assert stream.getvalue().count("Profile of 10 steps from step 2 on") == 1


def test_profile_is_closed_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import jax

    calls: list[str] = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: calls.append("start"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: calls.append("stop"))
    config = MonitorConfig(tensorboard=0, profile_step=2)
    with Monitor(tmp_path, config, stream=io.StringIO()) as monitor:
        for step in range(1, 6):
            monitor.tick(step)
    assert calls == ["start", "stop"]
    with Monitor(tmp_path, config, stream=io.StringIO()) as monitor:
        monitor.tick(30)  # resumed after the window
    assert calls == ["start", "stop"]


def test_close_leaves_nothing_behind(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    monitor = Monitor(tmp_path, MonitorConfig(), stream=io.StringIO())
    monitor.begin(total_steps=4, steps_per_epoch=2, start_step=0, lines=[], parameters=OVERVIEW)
    monitor.tick(1)
    monitor.close()
    monitor.close()
    monitor.train(1, NUMBERS, images=1)  # does nothing any more
    assert set(threading.enumerate()) == before


def test_ten_thousand_steps_cost_little(tmp_path: Path) -> None:
    """The monitor must not slow down a fast loop: its own cost stays below a tenth of a millisecond a step."""
    import time

    with Monitor(tmp_path, PLAIN, stream=io.StringIO()) as monitor:
        monitor.begin(total_steps=10000, steps_per_epoch=100, start_step=0, lines=[], parameters=OVERVIEW)
        start = time.monotonic()
        for step in itertools.count(1):
            with monitor.waiting_for_data():
                pass
            monitor.tick(step)
            if step == 10000:
                break
        assert time.monotonic() - start < 1
