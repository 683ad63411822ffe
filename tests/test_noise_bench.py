"""The benchmark of planted faults: what is planted, and that its page says what was measured."""

from pathlib import Path

import numpy as np
import pytest

from emojax import files

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))


def test_planted_noise_is_symmetric_and_of_the_size_that_is_said():
    import noise_runs

    label = noise_runs.digits()["train"][1]
    first, second = (noise_runs.noisy(label, seed) for seed in (0, 1))
    assert (first != label).sum() == (second != label).sum() == 200
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, noise_runs.noisy(label, 0))
    offsets = np.bincount((first - label)[first != label] % 10, minlength=10)
    assert offsets[0] == 0 and offsets[1:].min() >= 10  # about 22 each
    for name in ("val", "test"):
        np.testing.assert_array_equal(noise_runs.planted("noise", 0)[name][1], noise_runs.digits()[name][1])


def test_planted_skew_is_20_to_1():
    import noise_runs

    image, label = noise_runs.planted("skew", 3)["train"]
    counts = sorted(np.bincount(label, minlength=10))
    assert (counts[0], counts[-1], len(image)) == (3, 60, sum(counts))
    assert np.allclose(np.diff(np.log(counts)), np.log(20) / 9, atol=0.16)
    rarest = {int(np.bincount(noise_runs.planted("skew", seed)["train"][1]).argmin()) for seed in range(5)}
    assert len(rarest) > 1


def test_the_page_is_that_of_the_record():
    import noise_page

    record = files.parse_json(noise_page.RECORD.read_bytes())
    assert noise_page.PAGE.read_text() == noise_page.page(record)
    assert all(reached for _, reached in noise_page.bars(record).values())


def test_points_by_hand():
    import noise_page

    def runs(*accuracy, shifted=0.0):
        return {"runs": [{"accuracy": a, "mean_class": a, "shifted": shifted} for a in accuracy]}

    record = {
        "clean": {"ce": runs(0.98, 1.0)},
        "noisy": {"ce": runs(0.9, 0.92), "elr": runs(0.96, 0.98)},
        "skewed": {"ce": runs(0.7, 0.8, shifted=0.77)},
    }
    found = noise_page.bars(record)
    assert [round(value, 6) for value, _ in found.values()] == [8.0, 2.0, 2.0]
    assert [reached for _, reached in found.values()] == [True, True, False]
