"""A model of some classes judged on data of others: which classes are the same, which are joined, which go.

Only names decide, never positions. Classes are matched by their known spellings (`schemas.canonical`) or, when asked,
at a coarser level (Ekman's, Mikels', polarity), where the model's probabilities and the data's labels are added up.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from emojax.data import schemas, selection
from emojax.errors import DataError
from emojax.types import Dataset, Predictions, Split

ABSENT = ("mask", "keep")
"""What becomes of the model's classes that the data lack: left out of its answer, or possible (and wrong) answers."""


@dataclasses.dataclass(frozen=True, slots=True)
class Crossing:
    """Classes that a model and a data set are compared in.

    Attributes:
      class_names: the C classes that are judged.
      model: C tuples of ids of the model's classes, whose probabilities are added up.
      data: C tuples of ids of the data's classes; () where the data have no such class.
      notes: what was mapped, joined and left out.
    """

    class_names: tuple[str, ...]
    model: tuple[tuple[int, ...], ...]
    data: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...]

    def restrict(self, dataset: Dataset) -> Dataset:
        """`dataset` with labels over the judged classes; records of other classes are left out, and told."""
        splits, notes = {}, []
        for name, split in dataset.splits.items():
            splits[name], gone = selection.regroup(split, self.data)
            told = [f"{count:,} {dataset.class_names[k]}" for k, count in gone.items()]
            notes += [f"{name}: left out {', '.join(told)}"] if told else []
        return dataclasses.replace(
            dataset, class_names=self.class_names, splits=splits, notes=(*dataset.notes, *self.notes, *notes)
        )

    def unlabelled(self, split: Split, classes: int) -> Split:
        """`split` with a uniform label over the model's `classes`, as the inference wants it."""
        return dataclasses.replace(split, label=np.full((len(split), classes), 1 / classes, np.float32))

    def judge(self, predictions: Predictions, label: np.ndarray) -> Predictions:
        """The model's probabilities over the judged classes, rows sum to 1, beside the labels float32 [N, C]."""
        probs = np.stack([predictions.probs[:, list(ids)].sum(1) for ids in self.model], 1).astype(np.float64)
        probs = (probs + 1e-30) / (probs + 1e-30).sum(1, keepdims=True)  # all that is left may have underflowed
        return dataclasses.replace(predictions, probs=probs.astype(np.float32), label=label)


def match(model: Sequence[str], data: Sequence[str], *, level: str = "name", absent: str = "mask") -> Crossing:
    """Matches the classes of a model with those of a data set.

    Args:
      model, data: class names in label order.
      level: "name", or a key of `schemas.LEVELS`.
      absent: one of `ABSENT`.

    Raises `DataError` when one side has bare numbers for classes, also when the other has the same ones (every data set
    numbers its classes in its own way), and when fewer than two classes are left.
    """
    for side, whose in ((model, "model's"), (data, "data's")):
        if schemas.numbers_only(side):
            raise DataError(
                f"the {whose} classes are bare numbers ({', '.join(side)}), which differ in every data set; "
                "name the data's classes in the order of their numbers by --classes (with the model's own numbers "
                "where they are the same), or their layout by --format"
            )
    keys = {"model": _keys(model, level), "data": _keys(data, level)}
    shared = [key for key in keys["model"] if key in keys["data"]]
    if len(shared) < 2:
        fitting = [name for name in ("name", *schemas.LEVELS) if name != level and _shared(model, data, name) >= 2]
        hint = f"; --level={' or --level='.join(fitting)} would compare them" if fitting else ""
        raise DataError(
            f"the model's classes ({', '.join(model)}) and the data's ({', '.join(data)}) have "
            f"{'only ' + shared[0] if shared else 'none'} in common at the level {level!r}{hint}"
        )
    judged = shared if absent == "mask" else list(keys["model"])
    names = [_name(key, [model[i] for i in keys["model"][key]], level) for key in judged]
    return Crossing(
        class_names=tuple(names),
        model=tuple(tuple(keys["model"][key]) for key in judged),
        data=tuple(tuple(keys["data"].get(key, ())) for key in judged),
        notes=_notes(
            model, data, keys["model"], keys["data"], names=dict(zip(judged, names, strict=True)), absent=absent
        ),
    )


def _keys(names: Sequence[str], level: str) -> dict[str, list[int]]:
    """{class at the level: ids of the names there}, in the order of the names."""
    found: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        key = schemas.at_level(name, level)
        if key is not None:
            found.setdefault(key, []).append(i)
    return found


def _shared(model: Sequence[str], data: Sequence[str], level: str) -> int:
    return len(_keys(model, level).keys() & _keys(data, level).keys())


def _name(key: str, own: list[str], level: str) -> str:
    return own[0] if len(own) == 1 and level == "name" else key


def _notes(
    model: Sequence[str],
    data: Sequence[str],
    model_keys: dict[str, list[int]],
    data_keys: dict[str, list[int]],
    *,
    names: dict[str, str],
    absent: str,
) -> tuple[str, ...]:
    pairs = [
        f"{' + '.join(data[i] for i in data_keys[key])} → {name}" for key, name in names.items() if key in data_keys
    ]
    joined = [
        f"{' + '.join(model[i] for i in ids)} → {names[k]}"
        for k, ids in model_keys.items()
        if k in names and len(ids) > 1
    ]
    known = {i for key in names for i in data_keys.get(key, ())}
    dropped = [name for i, name in enumerate(data) if i not in known]
    lacking = [model[i] for key, ids in model_keys.items() if key not in data_keys for i in ids]
    outside = [name for name in model if not any(model[i] == name for ids in model_keys.values() for i in ids)]
    model_title, data_title = (f" ({title})" if (title := schemas.identify(x)) else "" for x in (model, data))
    notes = [f"classes of the data{data_title} → of the model{model_title}: {', '.join(pairs)}"]
    notes += [f"joined answers of the model: {', '.join(joined)}"] if joined else []
    notes += [f"classes of the data that the model does not know, left out: {', '.join(dropped)}"] if dropped else []
    if lacking:
        how = "kept out of its answers" if absent == "mask" else "possible answers, always wrong"
        notes += [f"classes of the model that the data lack, {how}: {', '.join(lacking)}"]
    notes += [f"classes of the model without a place at this level, kept out: {', '.join(outside)}"] if outside else []
    return tuple(notes)
