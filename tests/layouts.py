"""Miniature trees of the published layouts, drawn here: no picture of any data set."""

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

AFFECTNET = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
FERPLUS = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
MIKELS = ("amusement", "anger", "awe", "contentment", "disgust", "excitement", "fear", "sadness")
FER2013 = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
USAGE = ("Training", "PublicTest", "PrivateTest")


def pixels(seed: int, size: int = 16, channels: int = 3) -> np.ndarray:
    shape = (size, size, channels) if channels > 1 else (size, size)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def draw(path: Path, seed: int, size: int = 16) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed, size)).save(path)
    return path


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def table(path: Path, rows, header=None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([*([header.split(",")] if header else []), *rows])
    return path


def affectnet_csv(root: Path, *, header: bool = True, lists: str = "", per_class: int = 2) -> Path:
    """Faces in pictures of 16 pixels: box 4,2,8,6. Besides: two faces in one file, codes 8 to 10, a box of width -1."""
    marks = ";".join(f"{x};{y}" for x, y in _landmarks())
    for split, name, seed in (("train", "training.csv", 0), ("val", "validation.csv", 500)):
        rows = []
        for code in range(11):
            for i in range(per_class):
                file = f"{100 + code}/{split}{i}.{'png' if i % 2 else 'JPG'}"  # mixed extensions
                draw(root / "Manually_Annotated_Images" / file, seed + 20 * code + i)
                valence = -2 if i else 0.5
                rows.append((file, 4, 2, 8, 6, marks, code, valence, 0.1))
        rows.append((f"100/{split}0.JPG", 8, 8, 4, 4, marks, 1, 0, 0))  # a second face in the same picture
        rows.append((f"101/{split}0.JPG", 0, 0, -1, 5, marks, 1, 0, 0))
        rows.append((f"101/{split}1.png", "NULL", "NULL", "NULL", "NULL", "NULL", 10, -2, -2))
        table(root / lists / name, rows, AFFECTNET if header else None)
    return root


def _landmarks():
    """68 points with the right eye 2 pixels lower than the left, 2 pixels apart: the eyes' line falls by 45 degrees."""
    points = [(8, 5)] * 68
    points[36:42] = [(7, 4)] * 6
    points[42:48] = [(9, 6)] * 6
    return points


def affectnet_npy(root: Path, per_class: int = 2) -> Path:
    for split, seed in (("train_set", 0), ("val_set", 500)):
        (root / split / "annotations").mkdir(parents=True)
        for code in range(8):
            for i in range(per_class):
                number = 10 * code + i
                draw(root / split / "images" / f"{number}.jpg", seed + number)
                for kind, value in (("exp", str(code)), ("val", "0.1"), ("aro", "-0.2"), ("lnd", "1;2")):
                    np.save(root / split / "annotations" / f"{number}_{kind}.npy", np.array(value))
    return root


def numbered(root: Path, splits, codes, per_class: int = 2) -> Path:
    for s, split in enumerate(splits):
        for k, code in enumerate(codes):
            for i in range(per_class):
                draw(root / split / str(code) / f"{split}_{code}_{i}.png", 1000 * s + 10 * k + i)
    return root


def affectnet_listed(root: Path) -> Path:
    rows = []
    for k, name in enumerate(("anger", "happy", "neutral", "sad")):
        for i in range(3):
            draw(root / name / f"image{i}.png", 10 * k + i)
            # The label need not be that of the folder: the last of each is another class.
            rows.append((len(rows), f"{name}/image{i}.png", "surprise" if i == 2 else name, 0.7))
    return table_root(root, "labels.csv", rows, ",pth,label,relFCs")


def table_root(root: Path, name: str, rows, header: str) -> Path:
    table(root / name, rows, header)
    return root


def rafdb(root: Path, *, classes: int = 7, aligned: bool = True, counts=(3, 2)) -> Path:
    lines = []
    for split, count in zip(("train", "test"), counts, strict=True):
        for label in range(1, classes + 1):
            for i in range(count):
                stem = f"{split}_{label:03d}{i:02d}"
                lines.append(f"{stem}.jpg {label}")
                file = f"aligned/{stem}_aligned.jpg" if aligned else f"original/{stem}.jpg"
                draw(root / "Image" / file, 100 * label + i + (50 if split == "test" else 0))
    text(root / "EmoLabel" / "list_patition_label.txt", "\n".join(lines) + "\n")
    return root


def rafdb_kaggle(root: Path) -> Path:
    numbered(root / "DATASET", ("train", "test"), range(1, 8))
    for split in ("train", "test"):
        rows = [(f"{split}_{code}_{i}.png", code) for code in range(1, 8) for i in range(2)]
        table(root / f"{split}_labels.csv", rows, "image,label")
    return root


def fer2013_rows(per_class: int = 2):
    """(emotion, "pixels", Usage), in Kaggle's order: Training, PublicTest, PrivateTest."""
    for u, usage in enumerate(USAGE):
        for i in range(7 * per_class):
            face = pixels(1000 * u + i, 48, 1)
            yield i % 7, " ".join(map(str, face.reshape(-1).tolist())), usage


def fer2013_csv(root: Path) -> Path:
    return table_root(root, "fer2013.csv", fer2013_rows(), "emotion,pixels,Usage")


def fer2013_icml(root: Path) -> Path:
    rows = [(emotion, usage, points) for emotion, points, usage in fer2013_rows()]
    table(root / "icml_face_data.csv", rows, "emotion, Usage, pixels")
    return fer2013_train(root)


def fer2013_train(root: Path) -> Path:
    rows = list(fer2013_rows())
    table(root / "train.csv", [(e, p) for e, p, usage in rows if usage == "Training"], "emotion,pixels")
    return table_root(root, "test.csv", [(p,) for _, p, usage in rows if usage != "Training"], "pixels")


def fer2013_folders(root: Path, *, named: bool = True) -> Path:
    for u, usage in enumerate(USAGE):
        for k, name in enumerate(FER2013):
            for i in range(2):
                file = f"{usage}_{100 * k + i}.jpg" if named else f"{usage[:2]}{k}{i}.jpg"
                draw(root / ("train" if usage == "Training" else "test") / name / file, 1000 * u + 10 * k + i)
    return root


VOTES = {
    # what ten people said, in FER+'s order -> what the rules make of it, worked out by hand
    "clear": (10, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    "two": (0, 6, 4, 0, 0, 0, 0, 0, 0, 0),
    "outlier": (0, 0, 0, 5, 3, 1, 1, 0, 0, 0),
    "half": (0, 0, 0, 0, 5, 5, 0, 0, 0, 0),
    "four": (2, 2, 2, 2, 0, 0, 0, 0, 2, 0),
    "unknown": (0, 1, 0, 0, 0, 0, 0, 0, 9, 0),
    "singles": (1, 1, 1, 1, 1, 1, 1, 1, 1, 1),
    "doubt": (0, 0, 0, 0, 0, 0, 6, 0, 4, 0),
}


def ferplus_table(root: Path, *, icml: bool = False) -> Path:
    """One row for each of `VOTES` in each part, and one without a file name in each."""
    rows, faces = [], []
    for u, usage in enumerate(USAGE):
        for i, votes in enumerate([*VOTES.values(), (0,) * 8 + (0, 10)]):
            name = f"fer{u}{i:06d}.png" if i < len(VOTES) else ""
            rows.append((usage, name, *votes))
            faces.append((i % 7, " ".join(map(str, pixels(100 * u + i, 48, 1).reshape(-1).tolist())), usage))
    table(root / "fer2013new.csv", rows, FERPLUS)
    if icml:
        return table_root(root, "icml_face_data.csv", [(e, u, p) for e, p, u in faces], "emotion, Usage, pixels")
    return table_root(root, "fer2013.csv", faces, "emotion,pixels,Usage")


def ferplus_folders(root: Path, *, box: bool = True) -> Path:
    for u, part in enumerate(("FER2013Train", "FER2013Valid", "FER2013Test")):
        rows = []
        for i, votes in enumerate(VOTES.values()):
            name = f"fer{u}{i:06d}.png"
            draw(root / "data" / part / name, 100 * u + i, 48)
            rows.append((name, *(["(0, 0, 48, 48)"] if box else []), *votes))
        table(root / "data" / part / "label.csv", rows)
    return root


def ckplus(root: Path, *, subjects: int = 4) -> Path:
    """Every subject shows the seven emotions; one more sequence has no label, another an empty label folder."""
    for s in range(subjects):
        name = f"S{5 + s:03d}"
        for number in range(1, 10):
            place = f"{name}/{number:03d}"
            for frame in range(1, 7):
                file = f"{name}_{number:03d}_{frame:08d}"
                draw(root / "cohn-kanade-images" / place / f"{file}.png", 10_000 * s + 100 * number + frame)
            text(root / "cohn-kanade-images" / place / ".DS_Store", "")
            if number <= 7:
                text(root / "Emotion" / place / f"{file}_emotion.txt", f"   {number}.0000000e+00\n")
            elif number == 8:
                (root / "Emotion" / place).mkdir(parents=True)
    return root


def fi(root: Path, per_class: int = 10) -> Path:
    for k, name in enumerate(MIKELS):
        for i in range(per_class):
            draw(root / name / f"{name}_{i}.jpg", 100 * k + i)
    return root


def fi_table(root: Path, *, header: bool = True) -> Path:
    rows = []
    for k, name in enumerate(MIKELS):
        polarity = "positive" if name in ("amusement", "awe", "contentment", "excitement") else "negative"
        for i in range(10):
            draw(root / "images" / f"{k}_{i}.jpg", 100 * k + i)
            rows.append((f"images/{k}_{i}.jpg", name.capitalize(), polarity))
    return table_root(root, "fi.csv", rows, "name,emotion,polarity" if header else None)


def emotionroi(root: Path) -> Path:
    lists = {"training": [], "testing": []}
    for k, name in enumerate(("anger", "disgust", "fear", "joy", "sadness", "surprise")):
        for i in range(5):
            draw(root / "images" / name / f"{i}.jpg", 10 * k + i)
            lists["testing" if i == 4 else "training"].append(f"{name}/{i}.jpg")
    for split, names in lists.items():
        text(root / "training_testing_split" / f"{split}.txt", "\n".join(names) + "\n")
    return root


def emotion6(root: Path, *, swapped: bool = False) -> Path:
    """Image i of class k: 0.7 for it, 0.2 for the next, 0.1 for neutral."""
    order = ["anger", "disgust", "fear", "joy", "sadness", "surprise", "neutral"]
    written = [*order[1:], order[0]] if swapped else order
    lines = ["\t".join(["[image_filename]", "[valence]", "[arousal]", *(f"[prob. {name}]" for name in written)])]
    for k, name in enumerate(order[:6]):
        for i in range(10):
            draw(root / "images" / name / f"{i}.jpg", 100 * k + i)
            shares = {name: 0.7, order[(k + 1) % 6]: 0.2, "neutral": 0.1}
            lines.append("\t".join([f"{name}/{i}.jpg", "2.5", "3.8", *(str(shares.get(n, 0)) for n in written)]))
    text(root / "ground_truth.txt", "\n".join(lines) + "\n")
    return root


def emoset(root: Path, *, items: int = 4, shift: int = 0) -> Path:
    order = ("amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness")
    info = {"label2idx": {name: (k + shift) % 8 for k, name in enumerate(order)}}
    text(root / "info.json", json.dumps(info))
    for s, split in enumerate(("train", "val", "test")):
        entries = []
        for k, name in enumerate(order):
            for i in range(2):
                stem = f"{name}/{name}_{split}{i}"
                draw(root / "image" / f"{stem}.jpg", 1000 * s + 10 * k + i)
                values = {"emotion": name} | ({"brightness": 0.5} if i else {})  # attributes are optional
                text(root / "annotation" / f"{stem}.json", json.dumps(values))
                image, note = f"image/{stem}.jpg", f"annotation/{stem}.json"
                entries.append([name, *([f"id{i}"] if items == 4 else []), image, note])
        text(root / f"{split}.json", json.dumps(entries))
    return root


def saved_to_disk(root: Path, splits=("train", "test"), *, names=("angry", "happy", "sad"), shards: int = 2) -> Path:
    """As `datasets.DatasetDict.save_to_disk` writes: Arrow streams, state.json and dataset_info.json."""
    import io

    import pyarrow as pa

    features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    for s, split in enumerate(splits):
        (root / split).mkdir(parents=True)
        files = []
        for shard in range(shards):
            data = []
            for i in range(12):
                buffer = io.BytesIO()
                Image.fromarray(pixels(1000 * s + 100 * shard + i)).save(buffer, format="PNG")
                data.append({"bytes": buffer.getvalue(), "path": None})
            found = pa.table({"image": data, "label": [i % len(names) for i in range(12)]})
            found = found.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
            files.append({"filename": f"data-{shard:05d}-of-{shards:05d}.arrow"})
            with pa.OSFile(str(root / split / files[-1]["filename"]), "wb") as sink:
                with pa.ipc.new_stream(sink, found.schema) as stream:
                    stream.write_table(found)
        state = {"_data_files": files, "_fingerprint": "x", "_format_columns": None, "_split": split}
        text(root / split / "state.json", json.dumps(state))
        text(root / split / "dataset_info.json", json.dumps({"features": features}))
    text(root / "dataset_dict.json", json.dumps({"splits": list(splits)}))
    return root
