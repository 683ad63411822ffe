"""Videos: frames and their times, cameras, what is no video; overlays; `emojax predict` on them."""

import contextlib
import csv
import itertools
import json
import resource

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny
from matplotlib import cbook
from PIL import Image

from emojax import cli, overlay, video
from emojax.cli import predict_video
from emojax.errors import ConfigError, DataError, FullError

COLOURS = {"blue": (30, 30, 220), "red": (220, 30, 30)}


def write(path, images, rate=25.0):
    writer = video.Writer(path, rate=rate, size=(images[0].shape[1], images[0].shape[0]))
    for image in images:
        writer.write(image)
    writer.finish()
    return path


def plain(colour, size=(48, 64)):
    return np.full((*size, 3), colour, np.uint8)


class Camera:
    """A camera of three frames a second by `clock`, that is unplugged after `count` frames."""

    def __init__(self, images):
        self.images, self.at, self.released = images, -1, False

    def isOpened(self):
        return True

    def get(self, what):
        size = {cv2.CAP_PROP_FRAME_WIDTH: 64, cv2.CAP_PROP_FRAME_HEIGHT: 48}
        return float(size.get(what, -1 if what == cv2.CAP_PROP_FRAME_COUNT else 0))

    def grab(self):
        self.at += 1
        return self.at < len(self.images)

    def retrieve(self):
        return True, self.images[self.at][..., ::-1]

    def release(self):
        self.released = True


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv", ".mov"])
def test_frames_come_back_with_their_times(tmp_path, suffix):
    images = [plain((10 * i, 200 - 10 * i, 90)) for i in range(12)]
    clip = video.open_clip(str(write(tmp_path / f"a{suffix}", images, rate=10.0)))
    assert (clip.size, clip.rate, clip.frames, clip.live) == ((64, 48), 10.0, 12, False)
    frames = list(clip.read())
    assert [frame.number for frame in frames] == list(range(12)) and all(frame.sampled for frame in frames)
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(12) / 10, atol=1e-3)
    for frame, image in zip(frames, images, strict=True):
        assert np.abs(frame.image.astype(int) - image).mean() < 6  # RGB again, up to compression
    clip.close()


def test_sampling_by_number_and_by_rate(tmp_path):
    path = str(write(tmp_path / "a.mp4", [plain((i, i, i)) for i in range(50)]))

    def numbers(**how):
        return [frame.number for frame in video.open_clip(path).read(**how) if frame.sampled]

    assert numbers(every=7) == list(range(0, 50, 7))
    assert numbers(rate=5) == list(range(0, 50, 5))
    assert numbers(rate=10) == [0, 3, 5, 8, 10, 13, 15, 18, 20, 23, 25, 28, 30, 33, 35, 38, 40, 43, 45, 48]
    assert numbers(rate=1000) == list(range(50))
    between = list(video.open_clip(path).read(every=20, between=True))
    assert len(between) == 50 and [f.number for f in between if f.sampled] == [0, 20, 40]


def test_odd_sizes_lose_a_row(tmp_path):
    clip = video.open_clip(str(write(tmp_path / "a.avi", [plain((9, 9, 9), (47, 63))])))
    assert clip.size == (62, 46)


def test_what_is_no_video_is_refused(tmp_path, capfd):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:9,\nhttp://192.0.2.1/a.ts\n#EXT-X-ENDLIST\n")
    (tmp_path / "none.mp4").write_bytes(b"")
    for name in ("text.mp4", "list.mp4", "none.mp4"):
        with pytest.raises(DataError, match="cannot be read as a video"):
            video.open_clip(str(tmp_path / name))
    for source in (str(tmp_path / "missing.mp4"), "http://192.0.2.1/a.mp4", "rtsp://192.0.2.1/a"):
        with pytest.raises(DataError, match="no such video file"):
            video.open_clip(source)
    with pytest.raises(DataError, match="camera 97 cannot be opened: none is connected"):
        video.open_clip("97")
    assert "VIDEOIO" not in capfd.readouterr().err
    with pytest.raises(ConfigError, match="expected a name that ends in"):
        video.Writer(tmp_path / "a.wmv", rate=25, size=(64, 48))
    with pytest.raises(ConfigError, match="does not exist"):
        video.Writer(tmp_path / "none" / "a.mp4", rate=25, size=(64, 48))


def test_a_file_that_is_cut_ends_early_without_an_error(tmp_path):
    rng = np.random.default_rng(0)
    path = write(tmp_path / "a.avi", list(rng.integers(0, 255, (30, 48, 64, 3), np.uint8)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 5 < len(list(video.open_clip(str(path)).read())) < 30


def damaged(path, *, keep=0.6):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    return path


def noise(count):
    return list(np.random.default_rng(0).integers(0, 255, (count, 48, 64, 3), np.uint8))


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_a_cut_file_is_told_from_a_whole_one(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", noise(60))
    for every in (1, 25):
        clip = video.open_clip(str(path))
        list(clip.read(every=every))
        assert (clip.grabbed, clip.lacking, clip.short) == (60, False, False)
        assert clip.length == pytest.approx(2.4, abs=2e-3)
    damaged(path)
    clip = video.open_clip(str(path))
    list(clip.read(every=25))
    assert clip.frames == 60 and 25 < clip.grabbed < 50 and clip.lacking and clip.short
    clip.length = 2.4  # as of varying rate, where the number of frames is a guess
    assert clip.lacking and not clip.short
    clip.grabbed = 58  # headers are off by a few
    assert not clip.lacking


@contextlib.contextmanager
def files_up_to(size):
    """Writing beyond so many bytes fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv", ".mov"])
def test_a_video_that_could_not_be_written_is_not_kept(tmp_path, suffix, monkeypatch, capfd):
    path = write(tmp_path / f"a{suffix}", [plain((9, 9, 9))] * 5)
    before = path.read_bytes()
    with files_up_to(100_000), pytest.raises(FullError, match="not all of 300 frames could be written") as caught:
        write(path, noise(300))
    assert caught.value.exit_code == 7 and "Failed to write" not in capfd.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == [path.name] and path.read_bytes() == before
    monkeypatch.setattr(video, "_holds", lambda path, frames: False)  # for a reason that is not the disk
    with pytest.raises(DataError, match="another kind of file"):
        write(path, noise(3))
    assert [file.name for file in tmp_path.iterdir()] == [path.name] and path.read_bytes() == before


def test_rows_are_kept_when_the_overlay_is_not(small_run, tmp_path, capsys, monkeypatch):
    path = write(tmp_path / "a.avi", noise(6))
    monkeypatch.setattr(video, "_holds", lambda path, frames: False)
    out = tmp_path / "rows.parquet"
    command = ["predict", f"--workdir={small_run}", str(path), f"--out={out}", f"--overlay={tmp_path / 'seen.mp4'}"]
    assert cli.main(command) == 2
    assert "not all of 6 frames could be written" in capsys.readouterr().err
    assert pq.read_table(out).num_rows == 6 and not list(tmp_path.glob("*seen*"))


def test_a_cut_video_is_told_and_ends_with_exit_code_2(small_run, tmp_path, capsys):
    path = write(tmp_path / "a.avi", noise(60))
    command = ["predict", f"--workdir={small_run}", str(path), "--every=25"]
    assert cli.main(command) == 0
    told = capsys.readouterr().err
    assert "3 frames classified of 2 s of video" in told and "ended after" not in told
    damaged(path)
    assert cli.main([*command, "--seconds=0.5"]) == 0  # what was asked for is there
    assert "ended after" not in capsys.readouterr().err
    out = tmp_path / "rows.csv"
    assert cli.main([*command, f"--out={out}"]) == 2
    clip = video.open_clip(str(path))
    count = len(list(clip.read()))
    assert f"{path} ended after frame {count} of 60: it is cut or damaged" in capsys.readouterr().err
    assert [row["frame"] for row in rows_of(out)] == ["0", "25"]


def test_the_length_is_that_of_what_was_read(small_run, tmp_path, capsys):
    path = write(tmp_path / "a.mp4", [plain(COLOURS["red"])] * 300)
    for more, length in (((), 12), (("--seconds=3",), 3)):
        assert cli.main(["predict", f"--workdir={small_run}", str(path), "--every=50", *more]) == 0
        assert f"classified of {length} s of video" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_second_call_on_one_file_is_refused_and_loses_nothing(small_run, tmp_path, capsys, monkeypatch, suffix):
    path, out = write(tmp_path / "a.avi", noise(40)), tmp_path / f"rows{suffix}"
    command = ["predict", f"--workdir={small_run}", str(path), f"--out={out}"]
    codes = []

    def again(self, parts):
        if not codes:
            codes.append(None)
            codes.append(cli.main([*command, "--smooth=none"]))
            codes.append(cli.main(command))

    monkeypatch.setattr(predict_video.Terminal, "update", again)
    assert cli.main(command) == 0 and codes[1:] == [2, 2]
    assert capsys.readouterr().err.count("another process is writing it") == 2
    rows = rows_of(out) if suffix == ".csv" else pq.read_table(out).to_pylist()
    assert [int(row["frame"]) for row in rows] == list(range(40))
    note = json.loads((tmp_path / f"rows{suffix}.about.json").read_text())
    assert note["smooth"] == "exponential:0.4" and not (tmp_path / f"rows{suffix}.partial").exists()
    assert cli.main(command) == 0
    assert f"{out} has 40 rows of an earlier call; they are replaced" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_rows_of_a_camera_are_not_replaced(small_run, tmp_path, capsys, monkeypatch, suffix):
    out = tmp_path / f"rows{suffix}"
    command = ["predict", f"--workdir={small_run}", "--video=0", f"--out={out}"]
    for images, code in ((0, 2), (4, 0), (5, 2)):  # what has no rows is in nobody's way
        monkeypatch.setattr(video.cv2, "VideoCapture", lambda number, n=images: Camera([plain(COLOURS["red"])] * n))
        before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
        assert cli.main(command) == code
    assert "has 4 rows of an earlier recording" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_change_shows_as_late_as_the_lag_says(small_run, tmp_path, capsys):
    path = write(tmp_path / "a.mp4", [plain(COLOURS["red"])] * 30 + [plain(COLOURS["blue"])] * 30)
    for smooth, every, lag in (("none", 1, 0), ("median:5", 1, 2), ("exponential:0.2", 2, 6)):
        out = tmp_path / f"{smooth[:4]}.csv"
        command = ["predict", f"--workdir={small_run}", f"--video={path}", f"--smooth={smooth}", f"--every={every}"]
        assert cli.main([*command, f"--out={out}"]) == 0
        rows = rows_of(out)
        assert len(rows) == 60 // every and {row["track"] for row in rows} == {"1"}
        assert {(row["lag_frames"], row["lag_ms"]) for row in rows} == {(str(lag), str(40 * lag))}
        first = next(int(row["frame"]) for row in rows if row["class"] == "blue")
        assert first == 30 + lag or smooth.startswith("exp"), smooth  # probabilities of a model are no pure jump
        assert f"{lag} frames ({40 * lag} ms) later" in capsys.readouterr().err
    assert json.loads((tmp_path / "none.csv.about.json").read_text())["smooth"] == "none"


def test_rows_are_those_of_single_pictures_and_begin_anew(small_run, tmp_path):
    path = write(tmp_path / "a.avi", [plain(COLOURS["red"]), plain(COLOURS["blue"])] * 20)
    out = tmp_path / "rows.parquet"
    for _ in range(2):
        assert cli.main(["predict", f"--workdir={small_run}", str(path), "--smooth=none", f"--out={out}"]) == 0
        rows = pq.read_table(out).to_pylist()
        assert [row["frame"] for row in rows] == list(range(40))
    frames = [frame.image for frame in video.open_clip(str(path)).read()]
    import emojax

    expected = emojax.load(small_run).predict(frames).probs
    np.testing.assert_allclose([[row[f"p:{n}"] for n in tiny.COLOURS] for row in rows], expected, atol=2e-6)


def test_faces_are_tracked_and_drawn(small_run, tmp_path, capsys):
    with Image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) as image:
        face = np.asarray(image.convert("RGB").resize((154, 180)))
    images = [np.full((240, 480, 3), 100, np.uint8) for _ in range(8)]
    for i, one in enumerate(images):
        one[30:210, 4 * i : 4 * i + 154] = face
        if i >= 4:
            one[40:220, 300:454] = face
    path = write(tmp_path / "a.mp4", [*images, np.full((240, 480, 3), 100, np.uint8)])
    out, seen = tmp_path / "rows.jsonl", tmp_path / "seen.mp4"
    command = ["predict", f"--workdir={small_run}", str(path), "--faces", "--every=2", f"--out={out}"]
    assert cli.main([*command, f"--overlay={seen}"]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    tracks = [(row["frame"], row["track"]) for row in rows]
    assert tracks[:2] == [(0, 1), (2, 1)] and sorted(tracks[2:6]) == [(4, 1), (4, 2), (6, 1), (6, 2)]
    assert tracks[6:] == [(8, None)] and rows[-1]["error"] == "no face found"
    one = [row["box"][0] for row in rows if row["track"] == 1]
    np.testing.assert_allclose(np.diff(one), 8, atol=4)  # the first face wanders by 8 pixels in two frames
    drawn = list(video.open_clip(str(seen)).read())
    assert len(drawn) == 9 and drawn[0].image.shape == (240, 480, 3)
    assert np.abs(drawn[5].image.astype(int) - images[5]).max() > 100
    assert cli.main(["predict", f"--workdir={small_run}", str(path), f"--overlay={path}"]) == 2
    assert "is the video itself" in capsys.readouterr().err


def test_a_camera_gives_rows_at_once_and_is_let_go(small_run, capsys, monkeypatch):
    camera = Camera([plain(COLOURS["red"])] * 5)
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda number: camera)
    assert cli.main(["predict", f"--workdir={small_run}", "--video=0", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["frame"] for row in rows] == list(range(5)) and {row["class"] for row in rows} == {"red"}
    assert all(a["time"] <= b["time"] for a, b in itertools.pairwise(rows)) and camera.released
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda number: Camera([]))
    assert cli.main(["predict", f"--workdir={small_run}", "--video=0"]) == 2
    assert "has no frame that can be decoded" in capsys.readouterr().err


def test_ctrl_c_ends_a_camera_with_everything_written(small_run, tmp_path, monkeypatch):
    class Stopped(Camera):
        def grab(self):
            if self.at == 3:
                raise KeyboardInterrupt
            return super().grab()

    files, camera = cv2.VideoCapture, Stopped([plain(COLOURS["red"])] * 9)
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda source, *how: files(source, *how) if how else camera)
    out, seen = tmp_path / "rows.parquet", tmp_path / "seen.avi"
    command = ["predict", f"--workdir={small_run}", "--video=0", f"--out={out}", f"--overlay={seen}"]
    assert cli.main(command) == 0
    assert pq.read_table(out).num_rows == 4
    monkeypatch.undo()
    assert len(list(video.open_clip(str(seen)).read())) == 4


def test_panels_do_not_cover_each_other_and_long_names_fit():
    image = np.full((360, 640, 3), 90, np.uint8)
    names = ("neutral", "a very long name of a class 猫", *map(str, range(10)))
    probs = np.linspace(1, 2, 12) / np.linspace(1, 2, 12).sum()
    boxes = [(170.0, 100.0, 90.0, 110.0), (460.0, 95.0, 45.0, 55.0), (600.0, 300.0, 80.0, 90.0)]
    before = image.copy()
    overlay.draw(image, [overlay.Shown(box, "1 sad", ("glad", "sad"), probs[:2]) for box in boxes[:2]])
    changed = (image != before).any(axis=2)
    assert changed[100:130, 262:300].all() and not changed[103:200, 174:255].any()  # beside the face, not over it
    places, taken = [], [*boxes]
    for box in boxes:
        x, y = overlay._place(tuple(map(round, box)), (130, 80), (640, 360), taken, gap=2)
        assert 0 <= x <= 510 and 0 <= y <= 280
        assert not any(overlay.overlap((x, y, 130, 80), other) for other in places)
        places.append((x, y, 130, 80))
        taken.append((x, y, 130, 80))
    tiny_image = np.zeros((20, 30, 3), np.uint8)
    overlay.draw(tiny_image, [overlay.Shown((0, 0, 30, 20), "x", names, probs)])  # a panel larger than the picture
    assert tiny_image.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.mp4", "b.png"], "in a call of its own"),
        (["a.mp4", "--video=b.mp4"], "in a call of its own"),
        ([], "nothing to classify"),
        (["b.png", "--fps=3"], "--fps is for videos"),
        (["b.png", "--seconds=0"], "--seconds is for videos"),
        (["b.png", "--smooth=none"], "--smooth is for videos"),
        (["b.png", "--margin=0.3"], "--margin is for faces: give --faces too"),
        (["a.mp4", "--min-score=0.9"], "--min-score is for faces"),
        (["b.png", "--faces", "--margin=nan"], "--margin=nan: expected 0 to 2"),
        (["b.png", "--faces", "--min-face=19"], "--min-face=19: expected 0, or 20 and more"),
        (["b.png", "--faces", "--min-score=0.5"], r"--min-score=0.5: expected 0.7 to 1"),
        (["a.mp4", "--every=2", "--fps=3"], "not both"),
        (["a.mp4", "--every=0"], "expected --every=N from 1 on"),
        (["a.mp4", "--fps=0"], "--fps=RATE above 0"),
        (["a.mp4", "--fps=inf"], "--fps=RATE above 0"),
        (["a.mp4", "--seconds=nan"], "--seconds above 0"),
        (["a.mp4", "--smooth=mean"], "expected none, exponential:WEIGHT"),
        (["a.mp4", "--out=x.csv", "--csv"], "for the standard output"),
        (["a.mp4"], "no such video file"),
    ],
)
def test_bad_calls_are_one_line(small_run, arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["predict", f"--workdir={small_run}", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_memory_is_flat_over_a_long_video(tmp_path):
    import subprocess
    import sys
    from pathlib import Path

    script = Path(__file__).resolve().parents[1] / "scripts/long_video.py"
    told = subprocess.run([sys.executable, script, "--minutes=3"], capture_output=True, text=True, check=True).stdout
    found = json.loads(told.splitlines()[-1])
    assert found["rows"] == 4500
    assert found["MiB_at_the_end"] - found["MiB_after_a_third"] < 20
