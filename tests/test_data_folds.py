"""Folds of a cross-validation: complete, stratified, whole groups, and never less even than scikit-learn's."""

import hashlib
import itertools

import numpy as np
import pytest

from emojax.data.folds import check, cut, folds, in_one_fold, notes
from emojax.data.labels import one_hot
from emojax.errors import DataError


def digests(names):
    return [hashlib.md5(str(name).encode()).hexdigest() for name in names]


def records(counts):
    classes = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    return classes, one_hot(classes, len(counts)), digests(range(len(classes)))


def table(classes, fold, k):
    """int [k, K] counts."""
    return np.stack([np.bincount(classes[fold == f], minlength=classes.max() + 1) for f in range(k)])


def unevenness(classes, fold, k):
    """Root mean square, over classes, of the deviation of the folds' shares of the class."""
    counts = table(classes, fold, k)
    return float(np.sqrt((counts / counts.sum(axis=0)).var(axis=0).mean()))


@pytest.mark.parametrize("counts", [(100, 37, 11, 250), (10, 10), (5, 5, 5), (3, 4, 200), (20,) * 21, (7,), (1, 1, 9)])
@pytest.mark.parametrize("k", [2, 5])
def test_counts_and_sizes_differ_by_at_most_one(counts, k):
    classes, label, content = records(counts)
    fold = folds(label, content=content, k=k, seed=0)
    found = table(classes, fold, k)
    assert fold.shape == classes.shape and found.sum() == len(classes)
    assert np.ptp(found, axis=0).max() <= 1 and np.ptp(found.sum(axis=1)) <= 1


def test_as_even_as_scikit_learn():
    selection = pytest.importorskip("sklearn.model_selection")
    classes, label, content = records((61, 38, 23, 114, 6))
    ours = table(classes, folds(label, content=content, k=5, seed=0), 5)
    cut = selection.StratifiedKFold(5, shuffle=True, random_state=42).split(classes, classes)
    theirs = np.stack([np.bincount(classes[held], minlength=5) for _, held in cut])
    np.testing.assert_array_equal(np.sort(ours, axis=0), np.sort(theirs, axis=0))


def people(seed, *, n=600, count=40, k=4, spread=1.0):
    """`count` people of very different numbers of pictures, each with a leaning towards some classes."""
    rng = np.random.default_rng(seed)
    group = rng.choice(count, n, p=rng.dirichlet(np.full(count, spread)))
    leaning = rng.dirichlet(np.full(k, 0.5), count)
    classes = np.array([rng.choice(k, p=leaning[g]) for g in group])
    return classes, one_hot(classes, k), digests(range(n)), [f"person {g}" for g in group]


def test_groups_stay_whole_and_no_less_even_than_in_scikit_learn():
    selection = pytest.importorskip("sklearn.model_selection")
    differences = []
    for seed, spread in itertools.product(range(6), (0.3, 1.0, 5.0)):
        classes, label, content, groups = people(seed, spread=spread)
        ours = folds(label, content=content, k=5, seed=0, groups=groups)
        assert len({(g, f) for g, f in zip(groups, ours, strict=True)}) == len(set(groups))
        theirs = np.zeros(len(classes), int)
        for f, (_, held) in enumerate(selection.StratifiedGroupKFold(5).split(classes, classes, groups)):
            theirs[held] = f
        differences.append(unevenness(classes, ours, 5) - unevenness(classes, theirs, 5))
    assert max(differences) < 0.005 and np.mean(differences) < -0.003, differences


def test_by_hand():
    """Four people with 4 glad, 2 sad, 2 sad and 4 glad pictures: an even cut separates a from d and b from c."""
    classes = np.array([0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0])
    groups = ["a"] * 4 + ["b"] * 2 + ["c"] * 2 + ["d"] * 4
    for seed in range(5):
        fold = folds(one_hot(classes, 2), content=digests(range(12)), k=2, seed=seed, groups=groups)
        assert fold[0] != fold[8] and fold[4] != fold[6]


def test_exchanges_find_what_dealing_misses():
    """Sizes 5, 4, 3, 3, 3 dealt largest first give 5 + 3 against 4 + 3 + 3; 5 + 4 against 3 + 3 + 3 is even."""
    sizes = (5, 4, 3, 3, 3)
    groups = [str(g) for g in np.repeat(np.arange(5), sizes)]
    fold = folds(np.ones((18, 1)), content=digests(range(18)), k=2, seed=0, groups=groups)
    assert np.bincount(fold).tolist() == [9, 9]


def test_identical_images_stay_together_also_across_classes_and_groups():
    _, label, content = records((30, 30))
    content = [content[i - i % 2] for i in range(60)]  # twins: 0 and 1, 2 and 3, ...
    groups = [f"person {i // 7}" if i < 40 else "" for i in range(60)]
    fold = folds(label, content=content, k=3, seed=0, groups=groups)
    assert (fold[::2] == fold[1::2]).all()
    # The twins 6 and 7, 20 and 21, 34 and 35 chain two persons each.
    assert [len(set(fold[start:stop])) for start, stop in ((0, 14), (14, 28), (28, 40))] == [1, 1, 1]
    # Pictures without a person are no group: they are dealt out to all folds.
    assert set(fold[40:]) == {0, 1, 2}


def test_more_folds_than_records_of_a_class_are_refused():
    label = one_hot(np.array([0] * 9 + [1] * 3), 3)
    check(label, k=3, class_names=("glad", "sad", "none"), where="faces")
    with pytest.raises(
        DataError, match=r"faces: 4 folds cannot be stratified: too few records of sad \(3\); use fewer"
    ):
        check(label, k=4, class_names=("glad", "sad", "none"), where="faces")


def test_classes_that_cannot_be_cross_validated_are_found():
    label, groups = one_hot(np.array([0, 0, 0, 0, 1, 1]), 3), ["a", "b", "c", "d", "e", "e"]
    fold = folds(label, content=digests(range(6)), k=2, seed=0, groups=groups)
    assert in_one_fold(label, fold) == (1,)  # both records of class 1 are of one person; class 2 has none at all
    assert in_one_fold(label, np.array([0, 1, 0, 1, 0, 1])) == ()


def test_order_and_names_do_not_matter():
    for classes, label, content, groups in (people(0), (*records((50, 31)), None)):
        before = folds(label, content=content, k=4, seed=3, groups=groups)
        order = np.random.default_rng(0).permutation(len(classes))
        renamed = None if groups is None else [f"other {groups[i]}" for i in order]
        after = folds(label[order], content=[content[i] for i in order], k=4, seed=3, groups=renamed)
        np.testing.assert_array_equal(before[order], after)


def test_seeds_differ_and_repeat():
    _, label, content = records((40, 40))
    one, again, two = (folds(label, content=content, k=4, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (one != two).mean() > 0.5


def test_the_cut_is_that_of_the_first_release():
    """Runs are compared on the same val images: this may never change."""
    label = one_hot(np.repeat([0, 1], 6), 2)
    fold = folds(label, content=digests(range(12)), k=3, seed=0)
    assert fold.tolist() == [1, 0, 2, 2, 1, 0, 2, 1, 2, 0, 0, 1]


def test_a_class_smaller_than_k_is_noted():
    classes, label, content = records((2, 20))
    fold = folds(label, content=content, k=4, seed=0)
    assert table(classes, fold, 4)[:, 0].tolist().count(1) == 2
    lines = notes(label, fold, class_names=("contempt", "happy"))
    assert len(lines) == 1 and lines[0].startswith("class contempt (2 records) is missing from ")
    assert notes(label[classes == 1], fold[classes == 1], class_names=("contempt", "happy")) == ()


def test_cuts_keep_groups_whole_and_near_their_shares():
    _, label, content, names = people(0)
    fractions = {"val": 0.2, "test": 0.1}
    parts = cut(label, content=content, groups=names, fractions=fractions, seed=0)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(label)))
    held = [{names[i] for i in positions} for positions in parts.values()]
    assert all(held) and sum(map(len, held)) == len(set.union(*held))
    for part, share in {"train": 0.7, **fractions}.items():
        assert abs(len(parts[part]) / len(label) - share) < 0.05
        assert np.abs(label[parts[part]].sum(0) / label.sum(0) - share).max() < 0.1
    again = cut(label[::-1], content=content[::-1], groups=names[::-1], fractions=fractions, seed=0)
    for part, positions in parts.items():  # the order of the records does not matter
        assert sorted((len(label) - 1 - again[part]).tolist()) == positions.tolist()


def test_cuts_of_few_groups():
    label, names, fractions = (
        one_hot(np.arange(12) % 2, 2),
        [f"p{i // 4}" for i in range(12)],
        {"val": 0.1, "test": 0.1},
    )
    parts = cut(label, content=digests(range(12)), groups=names, fractions=fractions, seed=0)
    assert [len(part) for part in parts.values()] == [4, 4, 4]  # each part has one group, however small its share
    with pytest.raises(DataError, match="2 groups of records cannot be cut into train, val, test"):
        cut(label[:8], content=digests(range(8)), groups=names[:8], fractions=fractions, seed=0)


def test_errors():
    _, label, content = records((3, 3))
    with pytest.raises(DataError, match="at least 2 folds, found 1"):
        folds(label, content=content, k=1, seed=0)
    with pytest.raises(DataError, match=r"7 folds need at least 7 records .*there are 6"):
        folds(label, content=content, k=7, seed=0)
    with pytest.raises(DataError, match=r"3 folds need at least 3 groups of records .*there are 2"):
        folds(label, content=content, k=3, seed=0, groups=list("aabbab"))
    with pytest.raises(DataError, match="there are 1"):
        folds(label, content=["same"] * 6, k=2, seed=0)
    with pytest.raises(DataError, match="there are 0"):
        folds(label[:0], content=[], k=2, seed=0)
