"""docs/fer2013.md says what its JSON says, the README what both say, and no number is rounded up to its bar."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from emojax import predictions_csv
from emojax.types import Predictions

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import fer2013_cells  # noqa: E402 - the scripts are no package
import fer2013_page  # noqa: E402
import fer2013_pairs  # noqa: E402
import fer2013_road  # noqa: E402
import fer2013_search  # noqa: E402

RECORD, SEARCH, VARIANTS = (
    json.loads(path.read_text()) for path in (fer2013_page.RECORD, fer2013_page.SEARCH, fer2013_page.VARIANTS)
)


def test_the_page_is_the_one_of_its_json():
    assert fer2013_page.PAGE.read_text(encoding="utf-8") == fer2013_page.page(RECORD, SEARCH, VARIANTS)


@pytest.mark.parametrize("recipe", RECORD)
def test_numbers_add_up(recipe):
    """Means of the runs, of minutes those on one kind of processor; accuracies of the confusion; the README's row."""
    found = RECORD[recipe]
    assert [run["seed"] for run in found["runs"]] == found["seeds"]
    for key in ("val_accuracy", "val_accuracy_no_duplicates", "macro_f1"):
        assert found[key] == pytest.approx(sum(run[key] for run in found["runs"]) / len(found["runs"]))
    minutes = [run["minutes"] for run in found["runs"] if run["processor"] == found["runs"][0]["processor"]]
    assert found["minutes"] == pytest.approx(sum(minutes) / len(minutes))
    for run in found["runs"]:
        counts = run["confusion"]
        right = sum(counts[i][i] for i in range(len(counts)))
        assert right / run["n"] == pytest.approx(run["val_accuracy"])
        assert run["interval"][0] < run["val_accuracy"] < run["interval"][1]
        assert max(accuracy for _, accuracy, _ in run["curve"]) == pytest.approx(run["val_accuracy"])
    row = next(line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith(f"| `{recipe}`"))
    for key in ("val_accuracy", "val_accuracy_no_duplicates"):
        assert f"{int(1000 * found[key]) / 1000:.3f}" in row
    near = sum(run["val_accuracy_no_near_copies"] for run in found["runs"]) / len(found["runs"])
    assert f"without near copies {int(1000 * near) / 1000:.3f}" in row
    for run in found["runs"]:  # a number without near copies is of today's gate, or says of which
        assert ("gate" in run) == (run["near_copies"] != {3579: 892, 3199: 779}[run["n"]]), run["seed"]


@pytest.mark.parametrize("name", SEARCH)
def test_the_arms_of_the_search_add_up(name):
    found, base = SEARCH[name], SEARCH["base"]
    assert (
        set(SEARCH)
        == set(fer2013_road._ARMS)
        == {
            *fer2013_search.ARMS,
            *fer2013_search.ENSEMBLES,
            "votes",
        }
    )
    changed = {**fer2013_search.ARMS, "again": fer2013_search.AGAIN, "votes": found["knobs"]}  # of another commit
    assert found["knobs"] == list(changed.get(name, ())) and (found["knobs"] or name.startswith(("base", "ensemble")))
    for one, other in ((found, base), (found["no_near_copies"], base["no_near_copies"])):
        assert one["n"] == other["n"]
        if name != "base":
            for key in ("accuracy", "macro_f1", "loss"):
                middle, low, high = one["more_than_base"][key]
                assert low < middle < high and middle == pytest.approx(one[key] - other[key])


def test_what_the_page_says_of_the_search_is_so():
    gains = {name: found["more_than_base"]["accuracy"] for name, found in SEARCH.items() if name != "base"}
    assert [name for name, (_, low, _) in gains.items() if low > 0] == ["long", "long_augment", "ensemble_long"]


def test_a_variant_is_compared_with_the_recipe_picture_by_picture():
    (found,) = VARIANTS.values()
    base = next(run for run in RECORD[found["of"]]["runs"] if run["seed"] == found["runs"][0]["seed"])
    assert found["more"]["accuracy"][0] == pytest.approx(found["val_accuracy"] - base["val_accuracy"])
    left = found["more_without_near_copies"]
    for low, high in (left["accuracy"][1:], left["macro_f1"][1:], left["loss"][1:], found["more"]["accuracy"][1:]):
        assert low < 0 < high, "the page says that it may be better or not"
    assert found["more"]["loss"][2] < 0, "and that the loss is lower where near copies count"
    assert found["minutes"] > 100


def test_dev_shares_no_picture_with_train(tmp_path):
    pictures = [bytes([i // 2 if i < 40 else i]) * 9 for i in range(200)]  # twenty of them twice
    table = pa.table({"image": [{"bytes": x, "path": ""} for x in pictures], "label": [i % 7 for i in range(200)]})
    parquet.write_table(table.replace_schema_metadata({"label_names": "a,b,c,d,e,f,g"}), tmp_path / "train.parquet")
    fer2013_search.cut(tmp_path, tmp_path / "dev")
    train, dev = (parquet.read_table(tmp_path / f"dev/{name}.parquet") for name in ("train", "val"))
    assert len(train) + len(dev) == 200 and 5 < len(dev) < 40
    parts = [{x["bytes"] for x in part["image"].to_pylist()} for part in (train, dev)]
    assert not parts[0] & parts[1] and train.schema.metadata[b"label_names"] == b"a,b,c,d,e,f,g"


def test_runs_are_compared_without_what_train_shows_too(tmp_path):
    names = [f"val/{i}.png" for i in range(6)]
    label = np.eye(2, dtype=np.float32)[[0, 1, 0, 1, 0, 1]]
    for name, wide, right in (("a", 0.8, [1, 1, 0, 0, 0, 1]), ("b", 0.6, [1, 1, 1, 1, 0, 0])):
        sure = np.where(np.array(right)[:, None] == 1, label, 1 - label) * wide + (1 - wide) / 2
        made = Predictions(sure.astype(np.float32), label, np.ones(6, np.float32), np.array(names))
        predictions_csv.write(tmp_path / name / "report/val-predictions.csv", made, ("x", "y"))
    found = fer2013_pairs.differences(tmp_path / "a", tmp_path / "b")
    assert found["accuracy"][0] == pytest.approx(1 / 6)
    left = frozenset(names[2:4])
    assert fer2013_pairs.differences(tmp_path / "a", tmp_path / "b", without=left)["accuracy"][0] == -0.25
    assert fer2013_pairs.numbers(tmp_path / "b", without=left)["accuracy"] == 0.5
    assert fer2013_pairs.numbers(tmp_path / "b", without=left)["n"] == 4
    both = fer2013_pairs.numbers(tmp_path / "a", tmp_path / "b", without=left)
    assert both["accuracy"] == 0.75, "of the last picture, the one that is right is surer"


@pytest.mark.parametrize(
    ("share", "digits", "up", "text"),
    [
        (0.703269, 2, False, "70.32"),
        (0.6999, 1, False, "69.9"),
        (0.69, 2, False, "69.00"),
        (0.025494, 1, True, "2.6"),
        (0.025, 1, True, "2.5"),
        (0.29, 0, False, "29"),
    ],
)
def test_numbers_are_cut_off_to_the_side_that_does_not_flatter(share, digits, up, text):
    assert fer2013_cells.cut(share, digits, up=up) == text


def test_minutes_are_judged_run_by_run():
    assert fer2013_page._time([{"minutes": 15.04}], 15)[3] == "no"
    assert fer2013_page._time([{"minutes": 9.9}, {"minutes": 55.6}], 15) == [
        "9.9, 55.6",
        "<= 15",
        "",
        "by 1 of 2",
        "",
        "2",
    ]
    assert fer2013_page._time([{"minutes": 9.9}], 15)[3] == "yes"


def test_a_bar_is_not_reached_by_rounding():
    assert fer2013_page._bar(0.68996, 0.69, 0.73) == ["0.6899", "0.69", "0.73", "no"]
    assert fer2013_page._bar(0.69, 0.69, 0.73)[3] == "yes"
    assert fer2013_page._bar(0.0200, 0.02, 0.01, less=True)[3] == "no"
    assert fer2013_page._bar(0.02549, 0.02, 0.01, less=True)[0] == "0.0255"
    assert fer2013_page._bar(None, 0.8, 0.86)[0] == "not measured"
