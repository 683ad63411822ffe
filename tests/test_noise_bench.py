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


def test_planted_votes_are_ten_for_at_most_two_classes():
    import noise_runs

    label = noise_runs.digits()["train"][1]
    splits = noise_runs.planted("votes", 0)
    votes = splits["train"][1]
    assert np.all(votes.sum(1) == 10) and (votes > 0).sum(1).max() == 2
    right = votes[np.arange(1000), label]
    assert 6.8 < right.mean() < 7.2 and 0.03 < (right < 5).mean() < 0.2
    one = noise_runs.one_of(votes, 0)
    assert np.all(votes[np.arange(1000), one] > 0) and abs((one == label).mean() - 0.7) < 0.05
    assert np.all(splits["test"][1].max(1) == 10)


def test_mirrored_digits_are_mirrored_in_every_split_and_noisy_in_train():
    import noise_runs

    plain, found = noise_runs.digits(), noise_runs.planted("mirror", 0)
    for name, (image, _) in found.items():
        np.testing.assert_array_equal(image[::2], plain[name][0][::2])
        np.testing.assert_array_equal(image[1::2], plain[name][0][1::2, :, ::-1])
    assert (found["train"][1] != plain["train"][1]).sum() == 200
    np.testing.assert_array_equal(found["val"][1], plain["val"][1])


def test_a_method_that_is_not_there_is_refused(monkeypatch, capsys):
    import noise_bench

    monkeypatch.setattr("sys.argv", ["noise_bench.py", "noisy", "--methods=elrr"])
    with pytest.raises(SystemExit) as error:
        noise_bench.main()
    assert error.value.code == 2 and "no elrr there; known are bootstrap_hard" in capsys.readouterr().err


def test_the_page_is_that_of_the_record():
    import noise_page

    record = files.parse_json(noise_page.RECORD.read_bytes())
    assert noise_page.PAGE.read_text() == noise_page.page(record)
    assert all(reached for _, reached in noise_page.bars(record).values())


def test_points_by_hand():
    import noise_page

    def runs(*accuracy, shifted=0.0, title="CE"):
        return {"title": title, "runs": [{"accuracy": a, "mean_class": a, "shifted": shifted} for a in accuracy]}

    record = {
        "clean": {"ce": runs(0.98, 1.0)},
        "noisy": {
            "ce": runs(0.9, 0.92),
            "elr": runs(0.96, 0.98, title="ELR"),
            "gce": runs(0.99, 0.99, title="GCE"),
            "forget": runs(1.0, 1.0, title="told"),
        },
        "skewed": {"ce": runs(0.7, 0.8, shifted=0.77)},
        # dev prefers ELR to GCE, which is better on test, and to what is told the share of wrong labels
        "search": {
            "a": runs(0.9, title="CE"),
            "b": runs(0.97, title="ELR"),
            "c": runs(0.96, title="GCE"),
            "d": runs(0.99, title="told"),
            "e": runs(0.98, title="a setting of ELR that no table has"),
        },
    }
    assert noise_page.chosen(record) == "elr"
    found = noise_page.bars(record)
    assert [round(value, 6) for value, _ in found.values()] == [8.0, 2.0, 2.0]
    assert [reached for _, reached in found.values()] == [True, True, False]
