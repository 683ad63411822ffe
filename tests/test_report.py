"""The report folder: JSON, Markdown and figures; atomic files."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest

from emojax import files, intervals, metrics, report
from emojax.report import markdown
from emojax.types import Predictions

NAMES = ("glad", "so|so `x`", "<b>sad</b>\n*very* $1$ [x](y)")
RUN = report.RunInfo(
    dataset="faces",
    step=1200,
    result="best checkpoint",
    selected_by="macro_f1",
    seed=3,
    views="flip",
    seconds=754.0,
    notes=("val cut from train, 10 %", "images: <someone>"),
    skipped=(("a|b.png", "truncated\nfile"), ("c.png", "not an image")),
    command="python -m emojax.main --config=configs/x.py --workdir=runs/x",
    config_differences=("optim.learning_rate: 0.001 -> 0.01",),
)


def predictions(n: int = 60) -> Predictions:
    rng = np.random.default_rng(0)
    return Predictions(
        probs=rng.dirichlet(np.ones(3), n).astype(np.float32),
        label=np.eye(3, dtype=np.float32)[rng.integers(0, 3, n)],
        weight=np.ones(n, np.float32),
        id=np.array([f"faces/{i:03}|.png" for i in range(n)]),
        slices={"lamp|": np.array(["on", "off", "off"] * (n // 3))},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "report"
    p = predictions()
    for split in ("test", "val"):
        report.write(
            folder,
            split=split,
            report=metrics.evaluate(p, NAMES),
            bounds=intervals.of(p),
            predictions=p,
            history=[],
            run=RUN,
        )
    return folder


def test_files(folder: Path) -> None:
    figures = {
        f"{s}-{f}.png" for s in ("val", "test") for f in ("confusion", "per-class", "reliability", "risk-coverage")
    }
    tables = {f"{s}.{f}" for s in ("val", "test") for f in ("json", "md")} | {
        "val-predictions.csv",
        "test-predictions.csv",
    }
    expected = {"summary.md", "history.png"} | tables | figures
    assert {path.name for path in folder.iterdir()} == expected  # and no temporary file is left


def test_json(folder: Path) -> None:
    value = json.loads((folder / "val.json").read_text("utf-8"))
    expected = metrics.evaluate(predictions(), NAMES)
    assert {name: value[name] for name in metrics.NUMBERS} == expected.numbers()
    assert (
        value["class_names"] == list(NAMES) and value["n"] == 60 and value["confusion"][0] == [*expected.confusion[0]]
    )
    assert value["step"] == 1200 and value["selected_by"] == "macro_f1" and value["seconds"] == 754
    assert value["skipped_count"] == 2 and value["skipped"][1] == {"id": "c.png", "reason": "not an image"}
    assert value["dataset"] == "faces" and value["notes"] == list(RUN.notes) and value["views"] == "flip"
    assert set(value["slices"]["lamp|"]) == {"on", "off"}


def cells(line: str) -> int:
    return len(re.findall(r"(?<!\\)\|", line)) - 1


def test_markdown(folder: Path) -> None:
    text = (folder / "val.md").read_text("utf-8")
    for part in ("Macro-F1 (selected by)", "## Skipped images", "12:34 min", "--workdir=runs/x", "0.001 -> 0.01"):
        assert part in text
    for name in re.findall(r"\]\(([^)]*\.png)\)", text):
        assert (folder / name).is_file()
    assert "<b>" not in text and r"so\|so \`x\`" in text and "&lt;b&gt;sad" in text
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 8
    for table in tables:
        assert len({cells(line) for line in table}) == 1, table


def test_index_links_what_exists(folder: Path) -> None:
    text = (folder / "summary.md").read_text("utf-8")
    links = re.findall(r"\]\(([^)]*)\)", text)
    assert {"val.md", "val.json", "test.md", "test.json", "history.png"} == set(links)
    assert all((folder / link).is_file() for link in links)
    assert text.index("| val |") < text.index("| test |")


def test_nothing_wrong_and_nothing_skipped(tmp_path: Path) -> None:
    p = predictions()
    p = dataclasses.replace(p, probs=p.label, slices={})
    run = dataclasses.replace(RUN, skipped=(), notes=(), command="", config_differences=(), seconds=None)
    report.write(
        tmp_path,
        split="val",
        report=metrics.evaluate(p, NAMES),
        bounds=intervals.of(p),
        predictions=p,
        history=[],
        run=run,
    )
    text = (tmp_path / "val.md").read_text("utf-8")
    assert "every image was classified correctly" in text and "Skipped" not in text and "Command" not in text
    assert "No class has an F1 below 0.6." in text and "100.0 %" in text


def test_escape() -> None:
    assert markdown.escape("a|b\n`c` <i>&\t*x*") == r"a\|b \`c\` &lt;i&gt;&amp; \*x\*"
    assert markdown.code("a ``` b").startswith("````\n")


def test_plain_values() -> None:
    value = {
        1: np.float32(0.5),
        "nan": float("nan"),
        "inf": np.float64(math.inf),
        "array": np.array([[1, 2]]),
        "tuple": (True, None, Path("x")),
        "set": {"b", "a"},
        "row": metrics.SliceNumbers(n=1, accuracy=1.0, balanced_accuracy=1.0, macro_f1=float("nan")),
    }
    assert files.plain(value) == {
        "1": 0.5,
        "nan": None,
        "inf": None,
        "array": [[1, 2]],
        "tuple": [True, None, "x"],
        "set": ["a", "b"],
        "row": {"n": 1, "accuracy": 1.0, "balanced_accuracy": 1.0, "macro_f1": None},
    }


def test_json_file_is_strict_utf8(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.json"
    files.write_json(path, {"name": "frö 笑", "undecodable": "\udcff", "nan": float("nan")})
    text = path.read_bytes().decode("utf-8")
    assert "frö 笑" in text and json.loads(text)["nan"] is None


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.txt"
    files.write_text(path, "old")

    def broken(handle: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="disk full"):
        files.write_text(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_permissions_are_ordinary(tmp_path: Path) -> None:
    path, other = tmp_path / "x.txt", tmp_path / "y.txt"
    other.write_text("")
    files.write_text(path, "x")
    assert path.stat().st_mode == other.stat().st_mode
    path.chmod(0o600)
    files.write_text(path, "y")
    assert path.stat().st_mode & 0o777 == 0o600
