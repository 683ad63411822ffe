"""The nouns that flow through emojax, and their invariants.

Axes: B batch, H height, W width, C channels, K classes, D features, N examples of a split.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from emojax.errors import DataError

Tree = Any
"""A pytree of arrays: nested dicts with string keys, or an optimizer state."""


def _pytree(*, meta: tuple[str, ...] = ()) -> Callable[[type], type]:
    """Class decorator: registers a dataclass as a JAX pytree; `meta` fields are static."""

    def register(cls: type) -> type:
        names = [f.name for f in dataclasses.fields(cls) if f.name not in meta]
        jax.tree_util.register_dataclass(cls, data_fields=names, meta_fields=list(meta))
        return cls

    return register


@_pytree()
@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """What one step reads.

    Attributes:
      image: uint8 [B, H, W, 3], sRGB.
      label: float32 [B, K]; every row is a distribution over the classes (one-hot, smoothed, mixed or votes).
      weight: float32 [B], >= 0; padding and unreadable images have weight 0 and change neither loss nor
        numbers. In training another record stands where one became unreadable, see `data.batches.TrainBatch`.
      index: int32 [B]; position of the (first) record in its split, -1 for padding.
    """

    image: Any
    label: Any
    weight: Any
    index: Any


@_pytree()
@dataclasses.dataclass(frozen=True, slots=True)
class ModelOutput:
    """What a model returns: logits float32 [B, K], pooled features [B, D], and extra heads or taps; how important each
    image is, float32 [B] in (0, 1), or None; and, of twins, the logits of both, else ()."""

    logits: Any
    features: Any
    aux: tuple[Any, ...] = ()
    importance: Any = None
    twins: tuple[Any, ...] = ()


@_pytree()
@dataclasses.dataclass(frozen=True, slots=True)
class TrainState:
    """Everything that changes while training, arrays only.

    Attributes:
      step: int32 scalar; number of optimizer updates done.
      params: tree of float32 arrays.
      model_state: tree of float32 arrays that are not trained (BatchNorm statistics); {} when there are none.
      opt_state: state of the optax chain.
      average: averages of the weights by name: "ema": {"params", "model_state"}, "swa": the same and "count"; {} when
        averaging is off.
      teacher: {"params": ..., "model_state": ...} from which the run distils, or {} while there is none.
      scale: float32 scalar; factor on the learning rate, 1 unless the schedule waits for plateaus.
      memory: "target": float32 [N, K], the running average of what was predicted for every training record, at first
        0 (early-learning regularisation); {} when no stage needs it.
    """

    step: Any
    params: Tree
    model_state: Tree
    opt_state: Tree
    average: Tree
    teacher: Tree
    scale: Any
    memory: Tree = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Predictions:
    """Probabilities for the examples of one split, on the host; every metric and figure is a function of this.

    Attributes:
      probs: float32 [N, K], rows sum to 1.
      label: float32 [N, K], rows sum to 1.
      weight: float32 [N]; 0 where the image could not be read.
      id: [N] record names, unique within a split.
      slices: name -> [N] strings; columns by which the report also splits its numbers.
    """

    probs: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    id: np.ndarray
    slices: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        n, k = self.probs.shape
        if self.label.shape != (n, k) or self.weight.shape != (n,) or len(self.id) != n:
            raise DataError(
                f"predictions disagree in shape: probs {self.probs.shape}, label {self.label.shape}, "
                f"weight {self.weight.shape}, id ({len(self.id)},)"
            )

    def take(self, rows: np.ndarray) -> Predictions:
        """The examples at `rows`, int [M] in that order, or bool [N]."""
        return Predictions(
            probs=self.probs[rows],
            label=self.label[rows],
            weight=self.weight[rows],
            id=np.asarray(self.id)[rows],
            slices={name: np.asarray(column)[rows] for name, column in self.slices.items()},
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Split:
    """One split of a data set, addressed by position.

    Attributes:
      name: "train", "val" or "test".
      images: sequence; `images[i]` returns encoded image bytes, or uint8 [H, W] or [H, W, 3]. Must pickle (it is sent
        to loader processes), so it holds paths or buffers and no open files.
      label: float32 [N, K], rows sum to 1.
      weight: float32 [N], >= 0.
      id: [N] unique record names: the path inside the data set, or file and row.
      slices: name -> [N] strings, see `Predictions`.
    """

    name: str
    images: Any
    label: np.ndarray
    weight: np.ndarray
    id: np.ndarray
    slices: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.label)

    def take(self, positions: np.ndarray, *, name: str | None = None) -> Split:
        """The records at `positions` (int [M]), in that order."""
        return Split(
            name=name or self.name,
            images=Picked(self.images, np.asarray(positions, np.int64)),
            label=self.label[positions],
            weight=self.weight[positions],
            id=self.id[positions],
            slices={key: column[positions] for key, column in self.slices.items()},
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Picked:
    """A view of a sequence: `Picked(images, positions)[i] == images[positions[i]]`."""

    images: Any
    positions: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, i: int) -> Any:
        return self.images[int(self.positions[i])]


@dataclasses.dataclass(frozen=True, slots=True)
class Joined:
    """Two sequences end to end."""

    first: Any
    second: Any

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, i: int) -> Any:
        return self.first[i] if i < len(self.first) else self.second[i - len(self.first)]


class Found(NamedTuple):
    """Records of a split about which something was found: how many, and the first ones as (id, what about it)."""

    n: int
    examples: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Dataset:
    """A data set that was opened, split and checked.

    Attributes:
      name: short name for reports.
      class_names: K names; position = class id, everywhere.
      splits: "train", "val" and, where it exists, "test".
      skipped: (record id, reason) of every image that could not be read and was left out.
      notes: lines for the log and the report (how the splits were made, attribution).
      digest: of the ids, labels and image contents of all splits; "" where the images were not read.
      contents: split -> N digests of its images; {} where they were not read.
      leaked: split -> ids of its records that show a picture of an earlier split ("val": of train; "test": of train or
        val; of other data than a run's: of its train or val), also cropped, mirrored or encoded again; None = nobody
        looked.
      group_column: slice column whose equal values (a person, a video) belong in one split; "" = none.
      findings: what was found (`data.findings.KINDS`) -> split -> records; kinds that nobody looked for are absent.
    """

    name: str
    class_names: tuple[str, ...]
    splits: Mapping[str, Split]
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    digest: str = ""
    contents: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    leaked: Mapping[str, frozenset[str]] | None = None
    group_column: str = ""
    findings: Mapping[str, Mapping[str, Found]] = dataclasses.field(default_factory=dict)
