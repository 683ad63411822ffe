"""Which records show the same picture, byte for byte or changed, and what that means: leaks and conflicting labels."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from emojax import files
from emojax.data import alignment, near_duplicates, outliers, splits, thumbnails
from emojax.data.checks import Progress
from emojax.data.near_duplicates import Pairs
from emojax.data.outliers import Outliers
from emojax.data.tables import SPLITS
from emojax.data.thumbnails import Looks
from emojax.types import Dataset, Split


@dataclasses.dataclass(frozen=True, slots=True)
class Copies:
    """The N records of all splits, end to end, and the C different contents (byte strings) they have.

    Attributes:
      split: int64 [N], number of the record's split in `names`, which go from train to test.
      names: the splits.
      content: int64 [N], number of the record's content.
      pairs: contents that show one picture although their bytes differ.
      alike: drawings of different classes that look the same, and may be two pictures that differ in little but what
        they express. They are no copies, no leaks and no conflicts.
      outliers: contents that stand out.
    """

    split: np.ndarray
    names: tuple[str, ...]
    content: np.ndarray
    pairs: Pairs
    alike: Pairs
    outliers: Outliers

    def groups(self) -> np.ndarray:
        """int64 [N]: records that show one picture, directly or through others, have one number."""
        parent = np.arange(int(self.content.max(initial=-1)) + 1)

        def root(i: int) -> int:
            while parent[i] != i:
                parent[i] = parent[parent[i]]
                i = parent[i]
            return i

        for i, j in self.pairs.index.tolist():
            parent[root(j)] = root(i)
        roots = np.array([root(i) for i in range(len(parent))], np.int64)
        return roots[self.content]

    def pictures(self, digests: Sequence[str]) -> list[str]:
        """N digests, one for all records that show one picture: the least of theirs. `digests`: of their bytes."""
        group, least = self.groups().tolist(), dict[int, str]()
        for number, digest in zip(group, digests, strict=True):
            least[number] = min(digest, least.get(number, digest))
        return [least[number] for number in group]

    def leaked(self, *, changed: bool = True) -> np.ndarray:
        """bool [N]: a record of an earlier split has the same bytes, or (`changed`) shows the same picture."""
        hits = [self.shown_in(k, changed=changed) & (self.split > k) for k in range(len(self.names))]
        return np.any(hits, axis=0)

    def shown_in(self, split: int, *, changed: bool = True) -> np.ndarray:
        """bool [N]: a record of split number `split` has the same bytes, or (`changed`) shows the same picture."""
        there = np.zeros(int(self.content.max(initial=-1)) + 1, bool)
        there[self.content[self.split == split]] = True
        shown = there.copy()
        if changed:
            for own, other in (self.pairs.index.T, self.pairs.index.T[::-1]):
                np.logical_or.at(shown, own, there[other])
        return shown[self.content]

    def origin(self, record: int) -> int:
        """The first record of the earliest split that shows the same picture as `record`."""
        index = self.pairs.index
        own = self.content[record]
        near = np.concatenate([[own], index[index[:, 0] == own, 1], index[index[:, 1] == own, 0]])
        found = np.flatnonzero(np.isin(self.content, near))
        found = found[found != record]
        return int(found[np.lexsort((found, self.split[found]))[0]])


def find(
    dataset: Dataset, digests: Mapping[str, Sequence[str]], *, across: bool, cache: Path | None, progress: Progress
) -> Copies:
    """Looks at one record of each content and searches for copies.

    Pairs of drawings that have no class (the strongest of the label) in common are copies only if that is certain.
    Photographs that look the same are copies, whatever their classes: then one of the labels is wrong.

    Args:
      digests: split -> a digest of the bytes of each record.
      across: only pairs of different splits are looked for, which is all that leaks need; otherwise all.
      cache: JSON file that keeps pairs and outliers while contents and splits stay the same; made when missing.
      progress: called with (images done, images in all) now and then.
    """
    names = tuple(name for name in SPLITS if name in dataset.splits)
    names += tuple(name for name in dataset.splits if name not in names)
    split = np.concatenate([np.full(len(dataset.splits[name]), k, np.int64) for k, name in enumerate(names)])
    all_digests = [digest for name in names for digest in digests[name]]
    number: dict[str, int] = {}  # in the order of first occurrence, so contents are sorted by their first split
    content = np.array([number.setdefault(digest, len(number)) for digest in all_digests], np.int64)
    first = np.unique(content, return_index=True)[1]
    groups = split[first]
    key = _key(number, groups, across=across)
    label = np.concatenate([dataset.splits[name].label.argmax(1) for name in names])
    if known := _load(cache, key):
        pairs, odd = known
        return Copies(split, names, content, *_sorted_out(pairs, content, label), odd)
    if across and len(names) == 1:
        return Copies(split, names, content, near_duplicates.none(), near_duplicates.none(), Outliers())
    looks = _looks(dataset, names, first, split, progress)
    total = len(first)
    poll = functools.partial(progress, total, total)
    pairs = near_duplicates.search(looks.thumbs, groups=groups, poll=poll) if len(names) > 1 else None
    if not across:
        # Each search looks at the most similar candidates only; across splits, nothing that training finds is missed.
        pairs = near_duplicates.merged(near_duplicates.search(looks.thumbs, poll=poll), pairs)
    assert pairs is not None
    odd = outliers.find(looks, content)
    _save(cache, key, pairs, odd)
    return Copies(split, names, content, *_sorted_out(pairs, content, label), odd)


def _sorted_out(pairs: Pairs, content: np.ndarray, label: np.ndarray) -> tuple[Pairs, Pairs]:
    """(copies, drawings of different classes that only look the same); `label` int [N], the records' classes."""
    classes: dict[int, set[int]] = {int(i): set() for i in np.unique(pairs.index)}
    for i in np.flatnonzero(np.isin(content, pairs.index)).tolist():
        classes[int(content[i])].add(int(label[i]))
    shared = np.array([bool(classes[i] & classes[j]) for i, j in pairs.index.tolist()], bool)
    same = shared | ~pairs.drawn | alignment.certain(pairs.detail, pairs.worst)
    return pairs.take(same), pairs.take(~same)


def leaks(dataset: Dataset, found: Copies) -> tuple[dict[str, frozenset[str]], tuple[str, ...]]:
    """({split: ids of its leaked records}, a note for every split that has some)."""
    changed, same = found.leaked(), found.leaked(changed=False)
    leaked, notes = {}, []
    for k, name in enumerate(found.names):
        mine = found.split == k
        leaked[name] = frozenset(dataset.splits[name].id[changed[mine]].tolist())
        if count := len(leaked[name]):
            where = " or ".join(found.names[:k])
            exact = int(same[mine].sum())
            how = f"{exact:,} byte for byte, {count - exact:,} cropped, mirrored or encoded again"
            notes.append(f"{count:,} of {mine.sum():,} {name} images are also in {where} ({how})")
    return leaked, tuple(notes)


def leaks_into(
    trained: Dataset, other: Dataset, names: Sequence[str], *, labels: bool, cache: Path | None, progress: Progress
) -> tuple[dict[str, frozenset[str]], tuple[str, ...]]:
    """({split: ids of the records of `other` that show a picture of `trained`'s train or val}, a note for each split).

    Val counts because the weights were chosen on it; not for the run's own val: the same images by the same name.

    Args:
      names: the splits of `other` to look at; both data sets were read with the digests of their images.
      labels: both have the same classes, so that a difference of class tells two similar drawings apart, see `find`.
      cache: as for `find`.
    """

    def bare(split: Split) -> Split:
        return split if labels else dataclasses.replace(split, label=np.ones((len(split), 1), np.float32))

    parts = [bare(other.splits[name]) for name in names]
    if not parts:
        return {}, ()
    whole = {name: bare(trained.splits[name]) for name in ("train", "val")}
    whole["other"] = functools.reduce(splits.joined, parts)
    digests = {name: trained.contents[name] for name in ("train", "val")}
    digests["other"] = [digest for name in names for digest in other.contents[name]]
    found = find(dataclasses.replace(trained, splits=whole), digests, across=True, cache=cache, progress=progress)
    ends = np.cumsum([len(part) for part in parts])[:-1]
    mine = found.split == found.names.index("other")
    train, same_train, val, same_val = (
        np.split(found.shown_in(found.names.index(name), changed=changed)[mine], ends)
        for name in ("train", "val")
        for changed in (True, False)
    )
    leaked, notes = {}, []
    for k, (name, part) in enumerate(zip(names, parts, strict=True)):
        own = name == "val" and sorted(other.contents[name]) == sorted(trained.contents["val"])
        chosen = np.zeros_like(val[k]) if own else val[k] & ~train[k]
        leaked[name] = frozenset(part.id[train[k] | chosen].tolist())
        note = f"{train[k].sum():,} of {len(part):,} {name} images are also in the run's training data"
        note += _exact(train[k], same_train[k])
        if chosen.any():
            note += f", {chosen.sum():,} more in its val{_exact(chosen, same_val[k])}, which chose the weights"
        notes.append(note if own or chosen.any() else f"{note}, none more in its val")
    return leaked, tuple(notes)


def _exact(hit: np.ndarray, same: np.ndarray) -> str:
    return f" ({(hit & same).sum():,} byte for byte)" if hit.any() else ""


def _looks(dataset: Dataset, names: Sequence[str], first: np.ndarray, split: np.ndarray, progress: Progress) -> Looks:
    """A look at the first record of each content; `first` int64 [C] counts through all splits."""
    parts, before = [], 0
    for k, name in enumerate(names):
        start = int(np.searchsorted(split, k))
        wanted = first[split[first] == k] - start
        parts.append(
            thumbnails.look(
                dataset.splits[name].images,
                wanted,
                progress=lambda done, _, before=before: progress(before + done, len(first)),
            )
        )
        before += len(wanted)
    return Looks(np.concatenate([p.thumbs for p in parts]), np.concatenate([p.size for p in parts]))


def _key(contents: Mapping[str, int], groups: np.ndarray, *, across: bool) -> str:
    digest = hashlib.sha256(f"copies {near_duplicates.VERSION} {across}\n".encode())
    digest.update("\n".join(contents).encode())
    digest.update(groups.astype("<i8").tobytes() if across else b"")
    return digest.hexdigest()


def _load(cache: Path | None, key: str) -> tuple[Pairs, Outliers] | None:
    try:
        stored = files.parse_json(cache.read_text(encoding="utf-8")) if cache else {}
        if stored.get("key") != key:
            return None
        index = np.array(stored["index"], np.int64).reshape(-1, 2)
        detail, worst = (np.array(stored[name], np.float32) for name in ("detail", "worst"))
        mirrored, drawn = (np.array(stored[name], bool) for name in ("mirrored", "drawn"))
        pairs = Pairs(index, mirrored, detail, worst, drawn)
        sizes, brightness = ({int(i): str(t) for i, t in stored[name].items()} for name in ("sizes", "brightness"))
        return pairs, Outliers(sizes, brightness, tuple(map(int, stored["flat"])))
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return None  # no cache, or not ours: the search is simply made again


def _save(cache: Path | None, key: str, pairs: Pairs, odd: Outliers) -> None:
    if cache is None:
        return
    values = {name: getattr(pairs, name).tolist() for name in Pairs.__slots__} | dataclasses.asdict(odd)
    with contextlib.suppress(OSError):  # a cache that cannot be written is no error
        files.write_text(cache, json.dumps({"key": key, **values}, separators=(",", ":")))
