"""TensorFlow Datasets, read without TensorFlow: data sets prepared in a random-access format (array_record)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from emojax.config import DataConfig
from emojax.data.storage import Unreadable
from emojax.data.tables import SPLITS, Table, assemble, split_name
from emojax.errors import DataError
from emojax.types import Dataset


@dataclasses.dataclass(frozen=True, slots=True)
class TfdsImages:
    """The encoded images of one split: `images[i]` reads record i."""

    source: Any
    column: str

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, i: int) -> bytes:
        try:
            return self.source[int(i)][self.column]
        except Exception as error:  # the reader raises whatever the storage layer underneath does
            raise Unreadable(f"reading failed: {error}") from error


def read(name: str, *, config: DataConfig) -> Dataset:
    """`tfds:NAME`, downloaded and prepared by TFDS if need be, or `tfds:/folder/of/a/prepared/set`.

    The set needs an image feature `config.image_column` and a class feature `config.label_column`.
    """
    builder = _builder(name)
    features = builder.info.features
    for column in (config.image_column, config.label_column):
        if column not in features:
            raise DataError(f"tfds:{name}: no feature {column!r}; the features are {', '.join(features)}")
    found: dict[str, str] = {}
    for split in builder.info.splits:
        if key := split_name(split):
            found.setdefault(key, split)
    if "train" not in found:
        raise DataError(f"tfds:{name}: no training split; the splits are {', '.join(builder.info.splits)}")
    tables = {key: _table(builder, found[key], config) for key in SPLITS if key in found}
    return assemble(builder.info.name, tables, config=config, notes=(f"TFDS {builder.info.full_name}",))


def _builder(name: str) -> Any:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataError("tfds: needs tensorflow-datasets: pip install 'emojax[tfds]'") from error
    try:
        if Path(name).is_absolute() or name.startswith("."):
            return tfds.builder_from_directory(Path(name))
        builder = tfds.builder(name, file_format="array_record")
        builder.download_and_prepare()
        return builder
    except Exception as error:  # TFDS raises its own, the storage's and ImportError for parts that want TensorFlow
        raise DataError(f"tfds:{name}: cannot be opened without TensorFlow: {error}") from error


def _table(builder: Any, split: str, config: DataConfig) -> Table:
    import tensorflow_datasets as tfds

    image, label = config.image_column, config.label_column
    try:
        source = builder.as_data_source(split=split, decoders={image: tfds.decode.SkipDecoding()})
        values = [source[i][label] for i in range(len(source))]
    except Exception as error:  # as above
        raise DataError(f"tfds:{builder.info.name}: split {split} cannot be read: {error}") from error
    return Table(
        images=TfdsImages(source, image),
        ids=[f"{split}:{i}" for i in range(len(source))],
        label=[value.decode() if isinstance(value, bytes) else int(value) for value in values],
        names=tuple(getattr(builder.info.features[label], "names", None) or ()),
        where=lambda i: f"tfds:{builder.info.name}: {split}[{i}]",
    )
