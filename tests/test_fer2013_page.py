"""docs/fer2013.md says what its JSON says, the README what both say, and no number is rounded up to its bar."""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import fer2013_page  # noqa: E402 - the scripts are no package
import fer2013_search  # noqa: E402

RECORD, SEARCH = (json.loads(path.read_text()) for path in (fer2013_page.RECORD, fer2013_page.SEARCH))


def test_the_page_is_the_one_of_its_json():
    assert fer2013_page.PAGE.read_text(encoding="utf-8") == fer2013_page.page(RECORD, SEARCH)


@pytest.mark.parametrize("recipe", RECORD)
def test_numbers_add_up(recipe):
    """Means of the runs; accuracies of the confusion; the README's row."""
    found = RECORD[recipe]
    assert [run["seed"] for run in found["runs"]] == found["seeds"]
    for key in ("val_accuracy", "val_accuracy_no_duplicates", "macro_f1", "minutes"):
        assert found[key] == pytest.approx(sum(run[key] for run in found["runs"]) / len(found["runs"]))
    for run in found["runs"]:
        counts = run["confusion"]
        right = sum(counts[i][i] for i in range(len(counts)))
        assert right / run["n"] == pytest.approx(run["val_accuracy"])
        assert run["interval"][0] < run["val_accuracy"] < run["interval"][1]
        assert max(accuracy for _, accuracy in run["curve"]) == pytest.approx(run["val_accuracy"])
    row = next(line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith(f"| `{recipe}`"))
    for key in ("val_accuracy", "val_accuracy_no_duplicates"):
        assert f"{int(1000 * found[key]) / 1000:.3f}" in row


def test_what_the_page_says_of_the_search_is_so():
    """No gain in accuracy of the wider network and of more pixels, for more minutes."""
    for name in ("wide", "pixels"):
        middle, low, high = SEARCH[name]["more_than_base"]["accuracy"]
        assert low < middle < high and middle <= 0
        assert SEARCH[name]["minutes"] > 1.5 * SEARCH["base"]["minutes"]
        assert middle == pytest.approx(SEARCH[name]["accuracy"] - SEARCH["base"]["accuracy"])
    assert set(SEARCH) == set(fer2013_page._ARMS)
    for name, knobs in fer2013_search.ARMS.items():
        assert SEARCH[name]["knobs"] == list(knobs)


def test_dev_shares_no_picture_with_train(tmp_path):
    pictures = [bytes([i // 2 if i < 40 else i]) * 9 for i in range(200)]  # twenty of them twice
    table = pa.table({"image": [{"bytes": x, "path": ""} for x in pictures], "label": [i % 7 for i in range(200)]})
    parquet.write_table(table.replace_schema_metadata({"label_names": "a,b,c,d,e,f,g"}), tmp_path / "train.parquet")
    fer2013_search.cut(tmp_path, tmp_path / "dev")
    train, dev = (parquet.read_table(tmp_path / f"dev/{name}.parquet") for name in ("train", "val"))
    assert len(train) + len(dev) == 200 and 5 < len(dev) < 40
    parts = [{x["bytes"] for x in part["image"].to_pylist()} for part in (train, dev)]
    assert not parts[0] & parts[1] and train.schema.metadata[b"label_names"] == b"a,b,c,d,e,f,g"


def test_a_bar_is_not_reached_by_rounding():
    assert fer2013_page._bar(0.68996, 0.69, 0.73) == ["0.6899", "0.69", "0.73", "no"]
    assert fer2013_page._bar(0.69, 0.69, 0.73)[3] == "yes"
    assert fer2013_page._bar(0.0200, 0.02, 0.01, less=True)[3] == "no"
    assert fer2013_page._bar(None, 0.8, 0.86)[0] == "not measured"
