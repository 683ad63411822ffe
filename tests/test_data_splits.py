"""The stratified cut: disjoint, complete, even, and independent of order and names."""

import hashlib

import numpy as np
import pytest

from emojax.data.labels import one_hot
from emojax.data.splits import cut

BOTH = {"val": 0.1, "test": 0.2}


def records(counts):
    ids = np.repeat(np.arange(len(counts)), counts)
    names = [f"class{k}/{i}.png" for i, k in enumerate(ids)]
    return one_hot(ids, len(counts)), names, [hashlib.md5(n.encode()).hexdigest() for n in names]


def parts(counts, fractions=None, seed=0):
    label, names, content = records(counts)
    return label, cut(label, names, content=content, fractions=fractions or BOTH, seed=seed)


@pytest.mark.parametrize("counts", [(100, 37, 11, 250), (3, 4, 5), (1, 2, 3, 50), (20,) * 40, (7,)])
@pytest.mark.parametrize("fractions", [{"val": 0.1}, BOTH, {"val": 0.6, "test": 0.3}])
def test_disjoint_complete_and_stratified_within_one(counts, fractions):
    label, found = parts(counts, fractions)
    everything = np.concatenate(list(found.values()))
    np.testing.assert_array_equal(np.sort(everything), np.arange(sum(counts)))
    for k, n in enumerate(counts):
        have = {part: int(label[positions, k].sum()) for part, positions in found.items()}
        assert have["train"] >= 1
        for part, share in fractions.items():
            if n >= 3:
                assert have[part] >= 1
            if n >= 10:
                assert abs(have[part] - n * share) <= 1
    if min(counts) >= 20:
        for part, share in fractions.items():
            assert abs(len(found[part]) - sum(counts) * share) <= 1


def test_order_and_names_do_not_matter():
    label, names, content = records((50, 30))
    before = cut(label, names, content=content, fractions=BOTH, seed=3)
    order = np.random.default_rng(0).permutation(80)
    renamed = [f"other/{i}" for i in range(80)]
    after = cut(label[order], renamed, content=[content[i] for i in order], fractions=BOTH, seed=3)
    for part, positions in before.items():
        assert set(positions) == set(order[after[part]])


def test_a_new_file_hardly_moves_the_others():
    label, names, content = records((200, 100))
    before = cut(label, names, content=content, fractions=BOTH, seed=0)
    new = cut(np.concatenate([label, label[:1]]), [*names, "new"], content=[*content, "f" * 32], fractions=BOTH, seed=0)
    assert sum(len(set(before[part]) - set(new[part])) for part in before) <= 4


def test_seeds_differ():
    one, two = parts((100, 100), seed=0)[1], parts((100, 100), seed=1)[1]
    assert set(one["val"]) != set(two["val"])


def test_identical_images_stay_together():
    label, names, content = records((60, 60))
    content = [c if i % 3 else content[i - i % 6] for i, c in enumerate(content)]  # pairs of twins
    for seed in range(20):
        found = cut(label, names, content=content, fractions=BOTH, seed=seed)
        where = {i: part for part, positions in found.items() for i in positions}
        twins = {}
        for i, c in enumerate(content):
            twins.setdefault((c, int(label[i].argmax())), set()).add(where[i])
        assert all(len(places) == 1 for places in twins.values())


def test_the_cut_is_that_of_the_first_release():
    """Runs are compared on the same val images: this may never change."""
    label, names, content = records((8, 8))
    found = cut(label, names, content=content, fractions=BOTH, seed=0)
    assert {part: positions.tolist() for part, positions in found.items() if part != "train"} == {
        "val": [3, 9],
        "test": [6, 7, 12],
    }
