"""What files say about classes -> label distributions float32 [N, K]."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from emojax.errors import DataError

Where = Callable[[int], str]
"""Position of a record -> "file:line", for messages."""

_MISSING = ("", "nan", "none", "null", "na")
_INTEGER = re.compile(r"[+-]?\d{1,18}")


def infer_names(values: Sequence[Any]) -> tuple[str, ...]:
    """Distinct labels as class names: in numeric order when all are integers >= 0, else sorted as text."""
    found = {str(value).strip() for value in set(values)}
    found = {name for name in found if name.lower() not in _MISSING and not re.fullmatch(r"-\d+", name)}
    numeric = all(_INTEGER.fullmatch(name) for name in found)
    return tuple(sorted(found, key=int) if numeric else sorted(found))


def class_ids(values: Sequence[Any], *, names: tuple[str, ...], where: Where) -> np.ndarray:
    """int64 [N] class ids of labels that are class names or integer ids (a name wins over an id).

    Raises `DataError` at the first label that is missing, unknown or out of range, naming its place.
    """
    known = {name: i for i, name in enumerate(names)}
    cache: dict[Any, int] = {}
    out = np.empty(len(values), np.int64)
    for i, value in enumerate(values):
        if value not in cache:  # a NaN is never found: it is refused on first sight
            cache[value] = _class_id(value, known, names, where(i))
        out[i] = cache[value]
    return out


def _class_id(value: Any, known: dict[str, int], names: tuple[str, ...], where: str) -> int:
    text = "" if value is None else str(value).strip()
    if text in known:
        return known[text]
    if text.lower() in _MISSING:
        raise DataError(f"{where}: the label is {'empty' if text == '' else text}; expected {_choices(names)}")
    if _INTEGER.fullmatch(text):
        if 0 <= int(text) < len(names):
            return int(text)
        raise DataError(
            f"{where}: label {text} is out of range; expected {_choices(names)} or an id 0 to {len(names) - 1}"
        )
    raise DataError(f"{where}: label {text!r} is not a class; expected {_choices(names)}")


def _choices(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:12])
    return f"one of {shown}" + (f" … ({len(names)} classes)" if len(names) > 12 else "")


def one_hot(ids: np.ndarray, count: int) -> np.ndarray:
    """float32 [N, count] from int [N]."""
    out = np.zeros((len(ids), count), np.float32)
    out[np.arange(len(ids)), ids] = 1
    return out


def from_votes(votes: Sequence[Sequence[Any]], *, names: tuple[str, ...], where: Where) -> np.ndarray:
    """float32 [N, K] distributions from vote counts (any weights >= 0, at least one > 0 in a row).

    Raises `DataError` at the first row of another length, with a value that is negative or not finite, or all zero.
    """
    out = checked_votes(votes, names=names, where=where)
    sums = out.sum(1)
    _refuse(~(sums > 0), "are all zero", votes, where)
    return (out / sums[:, None]).astype(np.float32)


def checked_votes(votes: Sequence[Sequence[Any]], *, names: tuple[str, ...], where: Where) -> np.ndarray:
    """float64 [N, K] vote counts, rows may be all zero; otherwise as strict as `from_votes`."""
    out = np.zeros((len(votes), len(names)), np.float64)
    for i, row in enumerate(votes):
        if row is None or len(row) != len(names):
            found = 0 if row is None else len(row)
            raise DataError(f"{where(i)}: {found} votes, but there are {len(names)} classes ({', '.join(names)})")
        try:
            out[i] = [float(v) if v is not None else np.nan for v in row]
        except (TypeError, ValueError) as error:
            raise DataError(f"{where(i)}: votes must be numbers, found {list(row)}") from error
    _refuse(~np.isfinite(out).all(1), "are not all finite numbers", votes, where)
    _refuse((out < 0).any(1), "contain a negative number", votes, where)
    return out


def _refuse(bad: Any, reason: str, votes: Sequence[Sequence[Any]], where: Where) -> None:
    if bad.any():
        i = int(np.flatnonzero(bad)[0])
        raise DataError(f"{where(i)}: the votes {list(votes[i])} {reason}; leave the row out or correct it")
