"""docs/fer2013.md says what its JSON says, the README what both say, and no number is rounded up to its bar."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import fer2013_page  # noqa: E402 - the scripts are no package

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


def test_a_bar_is_not_reached_by_rounding():
    assert fer2013_page._bar(0.68996, 0.69, 0.73) == ["0.6899", "0.69", "0.73", "no"]
    assert fer2013_page._bar(0.69, 0.69, 0.73)[3] == "yes"
    assert fer2013_page._bar(0.0200, 0.02, 0.01, less=True)[3] == "no"
    assert fer2013_page._bar(None, 0.8, 0.86)[0] == "not measured"
