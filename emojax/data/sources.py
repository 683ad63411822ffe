"""Opening a data set: read, check every image, cut missing splits."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from emojax.config import DataConfig
from emojax.data import checks, copies, findings, folds, splits
from emojax.data.checks import Progress
from emojax.data.formats import read
from emojax.data.tables import SPLITS
from emojax.errors import DataError
from emojax.types import Dataset, Found, Joined, Picked, Split


def open_dataset(
    config: DataConfig,
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
    listed: Callable[[int], None] | None = None,
) -> Dataset:
    """Reads the data that `config` describes; every image was decoded once when this returns.

    Args:
      cache: JSON file that keeps the results of the check, so that a resumed run does not repeat it; made when missing.
      progress: called with (images done, images in all) now and then, in the check and then in the look for copies.
      listed: called once before the first image is read with how many training records there will be at most: what
        it raises costs no waiting.

    Unreadable images are left out and listed in `Dataset.skipped`; but one that could be read at an earlier check with
    the same `cache` keeps its place and gets a note: a resumed run goes on as one that was not interrupted does. Copies
    across splits are listed in `Dataset.leaked` (with `config.leak_check`; a file beside `cache` keeps what was found).
    A set without `val` gets one cut from `train`; one without both `val` and `test` gets both. Splits of small images
    of one size are kept decoded in memory.
    Raises `DataError`, naming file, row or class, when the data cannot be used.
    """
    progress = progress or (lambda done, total: None)
    dataset, digests = open_with_digests(config, cache=cache, progress=progress, listed=listed)
    leaked, notes, known = None, tuple(checks.leaks(digests)), dict(dataset.findings)
    if config.leak_check:
        kept = cache.with_name("copies.json") if cache else None
        found = copies.find(dataset, digests, across=True, cache=kept, progress=progress)
        leaked, notes = copies.leaks(dataset, found)
        known |= findings.of_copies(dataset, found)
    return dataclasses.replace(dataset, notes=(*dataset.notes, *notes), leaked=leaked, findings=known)


def open_with_digests(
    config: DataConfig, *, cache: Path | None, progress: Progress, listed: Callable[[int], None] | None = None
) -> tuple[Dataset, dict[str, list[str]]]:
    """As `open_dataset`, before copies are looked for: (data set, {split: a digest of each image's bytes})."""
    dataset = read(config)
    for split in dataset.splits.values():
        if len(split) == 0:
            raise DataError(
                f"{config.path}: no images found" + (f" for {split.name}" if len(dataset.splits) > 1 else "")
            )
    _check_labels(dataset, config)
    if listed:
        listed(len(dataset.splits["train"]) + (len(dataset.splits.get("val", ())) if config.folds else 0))
    dataset, digests = _without_unreadable(dataset, config, cache, progress)
    if config.folds:
        dataset, digests = _one_fold(dataset, digests, config, cache, progress)
    dataset, digests = _with_all_splits(dataset, digests, config)
    _check_labels(dataset, config)
    compact = {name: _compact(split) for name, split in dataset.splits.items()}
    contents = {name: digests[name] for name in compact}
    made = dataclasses.replace(dataset, splits=compact, digest=_digest(dataset, contents), contents=contents)
    return made, digests


def _digest(dataset: Dataset, digests: dict[str, list[str]]) -> str:
    """SHA-256 (hex) over names, labels and image contents of all splits."""
    total = hashlib.sha256()
    for name, split in dataset.splits.items():
        total.update(f"{name} {split.label.shape}\n".encode())
        for record, content in zip(split.id, digests[name], strict=True):
            total.update(f"{record}\0{content}\0".encode())
        total.update(np.ascontiguousarray(split.label, "<f4").tobytes())
    return total.hexdigest()


def open_for_evaluation(config: DataConfig) -> Dataset:
    """Reads data for judging a trained model: nothing is cut, and classes without images are allowed.

    A set without splits becomes one split, "all". Unreadable images are left out as in `open_dataset`.
    """
    dataset = read(config)
    if list(dataset.splits) == ["train"]:
        whole = dataset.splits["train"]
        dataset = dataclasses.replace(dataset, splits={"all": whole.take(np.arange(len(whole)), name="all")})
    dataset, digests = _without_unreadable(dataset, config, None, lambda done, total: None)
    return dataclasses.replace(dataset, splits={n: _compact(s) for n, s in dataset.splits.items()}, contents=digests)


def _check_labels(dataset: Dataset, config: DataConfig) -> None:
    try:
        checks.check_labels(dataset)
    except DataError as error:  # the short name of a set is often just "data": say where it lies
        raise DataError(f"{config.path}: {error}") from error


def _without_unreadable(
    dataset: Dataset, config: DataConfig, cache: Path | None, progress: Progress
) -> tuple[Dataset, dict[str, list[str]]]:
    """(the data set without its unreadable images, {split: digests})."""
    total = sum(len(split) for split in dataset.splits.values())
    memory, before = checks.Cache(cache), 0
    kept: dict[str, Split] = {}
    digests: dict[str, list[str]] = {}
    skipped: list[tuple[str, str]] = []
    lost: set[str] = set()
    unreadable: dict[str, Found] = {}
    for name, split in dataset.splits.items():
        scan = checks.scan(split, cache=memory, progress=lambda done, _, before=before: progress(before + done, total))
        before += len(split)
        skipped += [(str(split.id[i]), reason) for i, reason in scan.reason.items()]
        stays = scan.lost if scan.pixels is None else {}  # in the array it would be black
        good = np.array([i for i in range(len(split)) if i in stays or i not in scan.reason], np.int64)
        whole = split if scan.pixels is None else dataclasses.replace(split, images=scan.pixels)
        kept[name] = whole if len(good) == len(split) else whole.take(good)
        digests[name] = [stays.get(i, scan.digest[i]) for i in good]
        lost.update(str(split.id[i]) for i in stays)
        gone = [(str(split.id[i]), reason) for i, reason in scan.reason.items() if i not in stays]
        unreadable[name] = Found(len(gone), tuple(gone[: findings.EXAMPLES]))
    memory.save()
    checks.check_bad(skipped, total=total, limit=config.bad_limit)
    left_out = tuple((name, reason) for name, reason in skipped if name not in lost)
    notes = tuple(
        f"{name} could be read before and no longer can: {reason}" for name, reason in skipped if name in lost
    )
    made = dataclasses.replace(
        dataset,
        splits=kept,
        skipped=left_out,
        notes=(*dataset.notes, *notes),
        findings={"unreadable": unreadable},
    )
    return made, digests


def _with_all_splits(
    dataset: Dataset, digests: dict[str, list[str]], config: DataConfig
) -> tuple[Dataset, dict[str, list[str]]]:
    """Cuts `val`, and `test` when both are missing and asked for, out of `train`."""
    if "val" in dataset.splits:
        return dataset, digests
    fractions = {"val": config.val_fraction}
    if "test" not in dataset.splits and config.test_fraction > 0:
        fractions["test"] = config.test_fraction
    train, content = dataset.splits["train"], digests["train"]
    column, groups = groups_of(train, dataset, config)
    try:
        parts = (
            splits.cut(train.label, train.id.tolist(), content=content, fractions=fractions, seed=config.split_seed)
            if groups is None
            else folds.cut(train.label, content=content, groups=groups, fractions=fractions, seed=config.split_seed)
        )
    except DataError as error:
        raise DataError(f"{config.path}: {error}") from error
    cut = {name: train.take(positions, name=name) for name, positions in parts.items()}
    found: Mapping[str, Split] = {**dataset.splits, **cut}
    shares = " and ".join(f"{name} ({share:.0%})" for name, share in fractions.items())
    whole = f"no {column} in two of them, " if groups else ""
    note = f"{shares} cut from the training records, {whole}stratified by class, split_seed {config.split_seed}"
    cut_digests = {name: [content[i] for i in positions] for name, positions in parts.items()}
    ordered = {name: found[name] for name in SPLITS if name in found}
    return dataclasses.replace(dataset, splits=ordered, notes=(*dataset.notes, note)), {**digests, **cut_digests}


def _one_fold(
    dataset: Dataset, digests: dict[str, list[str]], config: DataConfig, cache: Path | None, progress: Progress
) -> tuple[Dataset, dict[str, list[str]]]:
    """`train` and `val` together, cut anew: fold `config.fold` is `val`, the rest `train`. `test` stays as it is.

    Copies are in one fold, with `config.leak_check` changed ones too: no model judges a picture it was trained with.
    """
    whole, content = dataset.splits["train"], digests["train"]
    if "val" in dataset.splits:
        whole, content = splits.joined(whole, dataset.splits["val"]), content + digests["val"]
    _, groups = groups_of(whole, dataset, config)
    folds.check(whole.label, k=config.folds, class_names=dataset.class_names, where=config.path)
    pictures = content
    if config.leak_check:
        kept = cache.with_name("copies_folds.json") if cache else None
        both = dataclasses.replace(dataset, splits={"train": whole})
        pictures = copies.find(both, {"train": content}, across=False, cache=kept, progress=progress).pictures(content)
    number = folds.folds(whole.label, k=config.folds, seed=config.split_seed, content=pictures, groups=groups)
    if lost := folds.in_one_fold(whole.label, number):
        names = ", ".join(dataset.class_names[c] for c in lost)
        raise DataError(
            f"{config.path}: no cross-validation: all records of {names} fall into one fold, and the model that is "
            "judged on it would never have seen that class; they are one record, one group or copies of one image"
        )
    parts = {"train": np.flatnonzero(number != config.fold), "val": np.flatnonzero(number == config.fold)}
    rest = {name: split for name, split in dataset.splits.items() if name not in parts}
    cut: dict[str, Split] = {name: whole.take(where, name=name) for name, where in parts.items()}
    note = f"fold {config.fold + 1} of {config.folds} is val, stratified by class, split_seed {config.split_seed}"
    note += ", copies in one fold" if config.leak_check else ""
    uneven = folds.notes(whole.label, number, class_names=dataset.class_names)
    of_parts = {name: [content[i] for i in where] for name, where in parts.items()}
    notes = (*dataset.notes, note, *uneven)
    return dataclasses.replace(dataset, splits={**cut, **rest}, notes=notes), {**digests, **of_parts}


def groups_of(split: Split, dataset: Dataset, config: DataConfig) -> tuple[str, list[str] | None]:
    """The column whose equal values belong in one part, and its values; ("", None) without one."""
    column = config.group_column or dataset.group_column
    if not column:
        return "", None
    if column not in split.slices:
        raise DataError(f"{config.path}: config.data.group_column = {column!r}: the data have no such column")
    return column, split.slices[column].tolist()


def _compact(split: Split) -> Split:
    """`split` with views of views resolved: loader processes then get the pixels of this split only."""
    images, positions = split.images, np.arange(len(split))
    if not isinstance(images, Picked):
        return split
    while isinstance(images, Picked):
        images, positions = images.images, images.positions[positions]
    if isinstance(images, Joined) and isinstance(images.first, np.ndarray) and isinstance(images.second, np.ndarray):
        alike = images.first.shape[1:] == images.second.shape[1:]
        images = np.concatenate([images.first, images.second]) if alike else images
    return dataclasses.replace(
        split, images=images[positions] if isinstance(images, np.ndarray) else Picked(images, positions)
    )
