"""Cutting validation and test records out of the training records."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from emojax.types import Joined, Split


def cut(
    label: np.ndarray, ids: Sequence[str], *, content: Sequence[str], fractions: Mapping[str, float], seed: int
) -> dict[str, np.ndarray]:
    """Positions of each part of a set of N records, stratified by class (the argmax of the label).

    Args:
      label: float [N, K].
      ids: N unique names.
      content: N digests of the images' bytes.
      fractions: part -> share, in (0, 1), in sum below 1; "train" takes what is left.
      seed: another seed, another cut.

    Within a class, records are ranked by a hash of (seed, content), and each part takes the next ones. So the cut does
    not depend on the order or the names of the files, a new file hardly moves the others, and identical images of a
    class stay in one part. Each part gets its share of each class within one record, apart from three rules: a class of
    two or more keeps one in train, a class of three or more gives at least one to each part, and a run of identical
    images is never divided unless it is the whole rest of its class.

    Returns {"train": int64 [N_train], part: int64 [N_part], ...}, each ascending; disjoint, and complete together.
    """
    classes = label.argmax(1)
    taken: dict[str, list[int]] = {part: [] for part in fractions}
    due = dict.fromkeys(fractions, 0.0)
    given = dict.fromkeys(fractions, 0)
    for k in range(label.shape[1]):
        members = sorted(np.flatnonzero(classes == k).tolist(), key=lambda i: (_rank(seed, content[i]), ids[i]))
        start, waiting = 0, len(fractions)
        for part, fraction in fractions.items():
            # The rounding error of one class is carried to the next, so that the parts' totals are right too.
            due[part] += len(members) * fraction
            count = round(due[part]) - given[part]
            given[part] += count
            waiting -= 1
            least, reserved = (1, 1 + waiting) if len(members) >= 3 else (0, 1)
            count = max(0, min(max(count, least), len(members) - start - reserved))
            stop = _whole_runs([content[i] for i in members], start, start + count)
            taken[part] += members[start:stop]
            start = stop
    parts = {part: np.sort(np.array(positions, np.int64)) for part, positions in taken.items()}
    rest = np.ones(len(label), bool)
    for positions in parts.values():
        rest[positions] = False
    return {"train": np.flatnonzero(rest), **parts}


def _rank(seed: int, content: str) -> bytes:
    return hashlib.sha256(f"{seed}:{content}".encode()).digest()


def _whole_runs(content: list[str], start: int, stop: int) -> int:
    """`stop`, moved behind a run of equal contents that it would divide, while at least one record stays behind it."""
    end = stop
    while start < end < len(content) and content[end] == content[end - 1]:
        end += 1
    return end if end < len(content) else stop


def joined(first: Split, second: Split) -> Split:
    """Both splits as one, `first` in front; where both use a record name, the second one's is told apart."""
    taken = set(first.id.tolist())
    names = [f"{second.name}/{name}" if name in taken else name for name in second.id.tolist()]
    shared = [key for key in first.slices if key in second.slices]
    return Split(
        name=first.name,
        images=Joined(first.images, second.images),
        label=np.concatenate([first.label, second.label]),
        weight=np.concatenate([first.weight, second.weight]),
        id=np.array([*first.id.tolist(), *names], dtype=np.str_),
        slices={key: np.concatenate([first.slices[key], second.slices[key]]) for key in shared},
    )
