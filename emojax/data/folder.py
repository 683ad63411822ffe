"""Folders of images: `split/class/...` or `class/...`."""

# ruff: noqa: PTH118
from __future__ import annotations

import os
from pathlib import Path

from emojax.config import DataConfig
from emojax.data.storage import EXTENSIONS, Files, Root, printable
from emojax.data.tables import SPLITS, Table, assemble, split_name
from emojax.errors import DataError
from emojax.types import Dataset


def read(path: Path, *, config: DataConfig) -> Dataset:
    """Images in `split/class/...` (as soon as there is a folder `train` or `training`) or in `class/...`.

    Files below a class folder count at any depth; names that start with a dot never do. Links may not lead outside.
    Class names: `config.classes`, else the sorted folder names of the training split. The order is by name, so it does
    not depend on the file system.
    """
    root = Root(path)
    layout, notes = _layout(path)
    tables: dict[str, Table] = {}
    names = config.classes
    others = 0
    for split, folder in layout.items():
        classes = _folders(path / folder)
        if not classes:
            raise DataError(f"{path / folder}: expected one folder per class, found none")
        names = names or tuple(printable(name) for name in classes)
        origin = "config.data.classes" if config.classes else f"the training split ({', '.join(names)})"
        if unknown := [name for name in classes if printable(name) not in names]:
            raise DataError(f"{path / folder / unknown[0]}: this class folder is not in {origin}")
        files, owner = [], []
        for name in classes:
            images, rest = _walk(root, os.path.join(folder, name))
            files += images
            owner += [printable(name)] * len(images)
            others += rest
        ids = [printable(file) for file in files]
        tables[split] = Table(
            images=Files.of(root.real, files), ids=ids, label=owner, names=names, where=ids.__getitem__
        )
    if others:
        notes.append(f"{others} files are not images by their extension and were left out")
    return assemble(path.resolve().name, tables, config=config, notes=notes)


def _layout(path: Path) -> tuple[dict[str, str], list[str]]:
    """({split: folder}, notes); {"": ""} when the class folders are at the top."""
    folders = _folders(path)
    if not folders:
        raise DataError(f"{path}: expected class folders or train/, val/, test/ with class folders; found no folder")
    found: dict[str, str] = {}
    for folder in folders:
        name = split_name(folder)
        if name in found:
            raise DataError(f"{path}: two folders for the split {name}: {found[name]} and {folder}")
        if name:
            found[name] = folder
    if "train" not in found:
        if 0 < len(found) < len(folders):
            raise DataError(
                f"{path}: {', '.join(found.values())} looks like a split, but there is no train folder and there are "
                f"other folders ({', '.join(f for f in folders if not split_name(f))}); rename one or the other"
            )
        if not found:
            return {"": ""}, []
    ignored = [printable(folder) for folder in folders if not split_name(folder)]
    notes = [f"folders beside the splits were left out: {', '.join(ignored)}"] if ignored else []
    return {name: found[name] for name in SPLITS if name in found}, notes


def _folders(path: Path) -> list[str]:
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _walk(root: Root, folder: str) -> tuple[list[str], int]:
    """(sorted images below `folder`, number of other files). What is named like an image but is none, such as a folder
    `x.jpg`, is listed too, so that the check reports it."""
    root.check_links(folder)
    images, others, pending = [], 0, [folder]
    while pending:
        current = pending.pop()
        with os.scandir(os.path.join(root.real, current)) as entries:
            for entry in entries:
                name = os.path.join(current, entry.name)
                if entry.name.startswith("."):
                    continue
                if entry.is_symlink():
                    root.check_links(name)
                if entry.name.lower().endswith(EXTENSIONS):
                    images.append(name)
                elif entry.is_dir(follow_symlinks=False):
                    pending.append(name)
                else:
                    others += 1
    return sorted(images), others
