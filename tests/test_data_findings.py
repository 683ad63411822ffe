"""What the check before training found, by hand, and again from its cache."""

import json
import shutil

import tiny
from PIL import Image

from emojax import cli, data
from emojax.cli import data_check
from emojax.config import DataConfig
from emojax.data import findings


def counts(dataset):
    return {kind: {split: part.n for split, part in parts.items()} for kind, parts in dataset.findings.items()}


def test_every_kind_of_finding(tmp_path):
    root = tiny.make_folder(tmp_path / "data", size=48)
    shutil.copy(root / "train/red/00.png", root / "test/red/leak.png")
    shutil.copy(root / "train/red/01.png", root / "train/blue/twin.png")
    shutil.copy(root / "train/red/02.png", root / "train/red/copy.png")
    Image.new("RGB", (48, 48), (255, 255, 255)).save(root / "train/green/white.png")
    Image.new("RGB", (400, 100), (30, 200, 30)).save(root / "train/green/big.png")
    (root / "val/green/bad.png").write_bytes(b"no picture")
    config, cache = DataConfig(path=str(root)), tmp_path / "data_check.json"
    found = data.open_dataset(config, cache=cache)
    expected = {
        "unreadable": (0, 1, 0), "sizes": (1, 0, 0), "flat": (2, 0, 0), "same_bytes": (2, 0, 0), "leaks": (0, 0, 1),
        "conflicts": (2, 0, 0),
    }  # fmt: skip
    assert set(found.findings) == set(findings.KINDS)
    for kind, numbers in expected.items():
        assert tuple(counts(found)[kind][split] for split in ("train", "val", "test")) == numbers, kind
    assert found.findings["leaks"]["test"].examples == (("test/red/leak.png", "copy of train/train/red/00.png"),)
    assert ("train/green/big.png", "400 x 100 pixels") in found.findings["sizes"]["train"].examples
    assert dict(found.findings["conflicts"]["train"].examples)["train/blue/twin.png"] == (
        "blue; train/train/red/01.png: red"
    )
    assert data.open_dataset(config, cache=cache).findings == found.findings, "from the cache of the first look"
    config.leak_check = 0
    assert set(data.open_dataset(config).findings) == {"unreadable"}, "nobody looked for the others"


def test_knobs_say_how_data_without_a_recipe_are_read(tmp_path, capsys):
    """A note of `data check` says "say so by config.data.format": so that can be said."""
    root = tiny.make_folder(tmp_path / "data")
    command = ["data", "check", f"--data={root}", "--json"]
    assert cli.main([*command, "--config.data.format=affectnet"]) == 2
    assert "config.data.format = affectnet expects" in capsys.readouterr().err
    assert cli.main([*command, "--config.data.format=folder", "--config.data.classes=('red','green','blue')"]) == 0
    assert list(json.loads(capsys.readouterr().out)["classes"]) == ["red", "green", "blue"]
    assert cli.main([*command, "--config.data.forma=folder"]) == 2
    assert "config.data.forma: there is no such knob; did you mean data.format" in capsys.readouterr().err
    assert cli.main([*command, "--config.seed=1"]) == 2
    assert "--config.seed=1 needs a recipe" in capsys.readouterr().err


def test_a_middle_grey_among_dark_pictures_is_odd_and_not_bright():
    assert findings.KINDS["brightness"] == data_check._TITLES["brightness"] == "odd brightness"
