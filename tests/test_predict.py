"""`emojax predict` on pictures: folders, lists, files that grow, kills, faces."""

import csv
import io
import json
import signal
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny
from matplotlib import cbook
from PIL import Image

import emojax
from emojax import cli
from emojax.data import walk
from emojax.errors import DataError


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """30 pictures in nested folders with odd names, one of which is none, and other files."""
    place = tmp_path_factory.mktemp("album")
    rng = np.random.default_rng(0)
    for i in range(30):
        folder = place / ("a" if i % 3 else "b, with\nname") / str(i % 2)
        folder.mkdir(parents=True, exist_ok=True)
        colour = list(tiny.COLOURS.values())[i % 3]
        Image.fromarray((np.array(colour) + rng.integers(-9, 9, (20, 20, 3))).clip(0, 255).astype(np.uint8)).save(
            folder / f"{i:02d}.{'PNG' if i % 4 else 'jpg'}"
        )
    (place / "a/0/02.png.txt").write_text("no picture")
    (place / "a/broken.png").write_bytes(b"no picture")
    return place


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_walking_is_sorted_and_complete(album, tmp_path):
    found = list(walk.pictures([str(album)]))
    expected = sorted(p for p in album.rglob("*") if p.is_file() and p.suffix.lower() in (".png", ".jpg"))
    assert found == [str(p) for p in expected] and len(found) == 31
    with pytest.raises(DataError, match="has no pictures"):
        list(walk.pictures([str(tmp_path)]))
    with pytest.raises(DataError, match="no such file or folder"):
        list(walk.pictures([str(tmp_path / "none")]))


def test_links_to_folders_are_not_followed(tmp_path):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "in/a.png")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in", target_is_directory=True)
    (tmp_path / "in/b.png").symlink_to(tmp_path / "in/a.png")
    assert [p[-5:] for p in walk.pictures([str(tmp_path / "in")])] == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("data", "paths"),
    [
        (b"a.png\nb c.png\r\n\nlast.png", ["a.png", "b c.png", "last.png"]),
        (b"a\nb.png\0c.png\0", ["a\nb.png", "c.png"]),
        (b"\xff.png\n", ["\udcff.png"]),
        (b"", []),
    ],
)
def test_lists_by_lines_and_by_nul(data, paths):
    assert list(walk.lines(io.BytesIO(data))) == paths


def test_a_list_without_end_of_line_does_not_fill_the_memory():
    with pytest.raises(DataError, match="one path per line"):
        list(walk.lines(io.BytesIO(b"x" * (1 << 20))))


class Endless(io.RawIOBase):
    """A list of `count` paths, made as they are read."""

    def __init__(self, count):
        self.parts, self.rest = iter(range(count)), b""

    def read(self, size=-1):
        while len(self.rest) < size and (i := next(self.parts, None)) is not None:
            self.rest += b"folder/of/many/pictures/%08d.png\n" % i
        block, self.rest = self.rest[:size], self.rest[size:]
        return block


def test_memory_of_many_paths_is_bounded():
    from emojax.cli.predict import _chunks
    from emojax.seen import Seen

    count = 70_000
    tracemalloc.start()
    total = sum(len(part) for part in _chunks(walk.pictures(["-"], Endless(count)), Seen()))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == count
    # 16 bytes a path, and an ordinary set of the 65,536 newest ones, which takes 16 MB however many there are.
    assert most < 16 * count + 20e6


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_files_hold_what_the_classifier_says(small_run, album, tmp_path, suffix, capsys):
    out = tmp_path / f"rows.{suffix}"
    assert cli.main(["predict", f"--workdir={small_run}", str(album), f"--out={out}"]) == 2
    told = capsys.readouterr()
    assert "pictures/s" in told.err and "1 of 31 pictures could not be read" in told.err and not told.out
    pictures = list(walk.pictures([str(album)]))
    expected = emojax.load(small_run).predict(pictures)
    if suffix == "jsonl":
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        rows = [{**row, **{f"p:{n}": p for n, p in row.get("probs", {}).items()}} for row in rows]
    else:
        rows = rows_of(out) if suffix == "csv" else pq.read_table(out).to_pylist()
    assert [row["image"] for row in rows] == pictures
    for row, probs, weight in zip(rows, expected.probs, expected.weight, strict=True):
        if not weight:
            assert row["error"].startswith("not a JPEG") and not row.get("class")
            continue
        np.testing.assert_allclose([float(row[f"p:{name}"]) for name in tiny.COLOURS], probs, atol=2e-6)
        assert row["class"] == list(tiny.COLOURS)[probs.argmax()]
    before = out.read_bytes()
    assert cli.main(["predict", f"--workdir={small_run}", str(album), str(album / "a"), f"--out={out}"]) == 2
    assert out.read_bytes() == before  # nothing is done twice
    assert "1 of 31 pictures in" in (told := capsys.readouterr().err) and "read by an earlier call" in told
    assert cli.main(["predict", f"--workdir={small_run}", "--views=flip", str(album), f"--out={out}"]) == 2
    assert "views differ" in capsys.readouterr().err


def test_lists_from_standard_input_name_what_is_missing(small_run, album, tmp_path, capsys, monkeypatch):
    names = [*map(str, sorted((album / "a/0").glob("*.PNG"))), "none.png", "none.png"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(names).encode())))
    out = tmp_path / "rows.csv"
    assert cli.main(["predict", f"--workdir={small_run}", "-", f"--out={out}"]) == 2
    rows = rows_of(out)
    assert [row["image"] for row in rows] == names[:-1] and rows[-1]["error"] == "No such file or directory"


def test_a_row_says_why_a_picture_could_not_be_read_with_faces_or_without(small_run, tmp_path, capsys):
    place = tmp_path / "in"
    place.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    Image.fromarray(noise).save(place / "cut.jpg")
    whole = (place / "cut.jpg").read_bytes()
    (place / "cut.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    (place / "empty.png").write_bytes(b"")
    (place / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (place / "text.png").write_text("no picture")
    for faces in ([], ["--faces"]):
        assert cli.main(["predict", f"--workdir={small_run}", "--json", str(place), *faces]) == 2
        told = capsys.readouterr()
        found = [json.loads(line)["error"] for line in told.out.splitlines()]
        assert [error.split(":")[0] for error in found] == [
            "damaged image",
            "empty file (0 bytes)",
            "No such file or directory",
            "not a JPEG, PNG, WebP, BMP, GIF or TIFF image",
        ]
        assert "4 of 4 pictures could not be read" in told.err


def test_a_list_without_pictures_is_as_wrong_as_a_folder_without(small_run, tmp_path, capsys, monkeypatch):
    (tmp_path / "empty").mkdir()
    for text in ("", "\n\n", f"{tmp_path / 'empty'}\n"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        assert cli.main(["predict", f"--workdir={small_run}", "-"]) == 2
        assert "standard input: expected paths of pictures" in capsys.readouterr().err


def test_the_table_of_a_list_is_as_wide_as_its_names(small_run, album, capsys, monkeypatch):
    names = sorted(map(str, (album / "a/0").glob("*.PNG")))
    assert max(map(len, names)) > 24
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(names).encode())))
    assert cli.main(["predict", f"--workdir={small_run}", "-"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.index("class") == max(map(len, names)) + 2
    assert all(row[head.index("class") - 1] == " " != row[head.index("class")] for row in rows)


def test_faces_of_photographs(small_run, tmp_path, capsys):
    with Image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) as image:
        face = image.convert("RGB")
    both = Image.new("RGB", (1100, 620), "gray")
    both.paste(face, (10, 10))
    both.paste(face.resize((256, 300)), (700, 50))
    both.save(tmp_path / "both.png")
    Image.new("RGB", (90, 70), "navy").save(tmp_path / "nobody.png")
    (tmp_path / "z.png").write_bytes(b"no picture")
    out = tmp_path / "rows.csv"
    command = ["predict", f"--workdir={small_run}", "--faces", str(tmp_path)]
    assert cli.main([*command, f"--out={out}"]) == 2
    told = capsys.readouterr().err
    assert "no face found in 1 of 3 pictures" in told and "1 of 3 pictures could not be read" in told
    big, small, none, broken = rows_of(out)
    assert (big["faces"], big["face"], small["face"], none["faces"]) == ("2", "1", "2", "0")
    assert none["error"] == "no face found" and not none["class"] and broken["error"].startswith("not a JPEG")
    assert float(big["box_width"]) > 1.5 * float(small["box_width"]) and float(small["box_left"]) > 700
    assert big["class"] in tiny.COLOURS and float(big["score"]) > 0.9 and float(big["left_eye_x"]) < 280
    whole = out.read_bytes()
    for length in range(whole.index(b"\n") + 1, len(whole), 197):  # a picture is done when all its faces are there
        out.write_bytes(whole[:length])
        assert cli.main([*command, f"--out={out}"]) in (0, 2) and out.read_bytes() == whole
    capsys.readouterr()
    assert cli.main(command) == 2
    shown = capsys.readouterr().out
    assert "both.png #1" in shown and "both.png #2" in shown and "(no face found)" in shown
    cli.main([*command, "--json"])
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert first["faces"] == 2 and set(first["points"]) >= {"left_eye", "nose"} and len(first["box"]) == 4


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_killed_again_and_again_nothing_is_lost_or_doubled(small_run, tmp_path, suffix):
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for i in range(3000):
        Image.fromarray(rng.integers(0, 255, (12, 12, 3), np.uint8)).save(tmp_path / f"in/{i:05d}.png")
    out = tmp_path / f"rows.{suffix}"
    growing = out if suffix == "csv" else tmp_path / f"rows.{suffix}.partial"
    command = [sys.executable, "-m", "emojax.cli", "predict", f"--workdir={small_run}", str(tmp_path / "in")]
    kills, size = 0, 0
    while True:
        process = subprocess.Popen([*command, f"--out={out}"], stderr=subprocess.DEVNULL)
        while process.poll() is None and not (growing.exists() and growing.stat().st_size > size + 20_000):
            time.sleep(0.005)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills, size = kills + 1, growing.stat().st_size if growing.exists() else size
    assert process.returncode == 0 and kills >= 2
    rows = rows_of(out) if suffix == "csv" else pq.read_table(out).to_pylist()
    assert [row["image"] for row in rows] == list(walk.pictures([str(tmp_path / "in")]))
