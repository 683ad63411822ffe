"""What a checkpoint says about itself, and the digest by which a damaged array is noticed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from emojax import __version__, config_json, parallel
from emojax.config import Config
from emojax.errors import CheckpointError, ConfigError, DamagedError

_THREADS = min(8, os.cpu_count() or 1)


@dataclasses.dataclass(frozen=True, slots=True)
class Meta:
    """What a checkpoint says about itself, besides arrays.

    Attributes:
      config: the resolved config of the run.
      class_names: in label order.
      image_size: side of the images at this step, pixels.
      fingerprint: digest of the data order (ids, labels, batch size, seed).
      loop: the training loop's own variables (best value so far, evaluations without improvement, ...).
      judged: the weights that were evaluated: weights, ema or swa.
      digests: array path → digest of dtype, shape and bytes; filled in by `save`.
      shapes: array path → shape; filled in by `save`.
      version: emojax version that wrote it.
      rank: as `Checkpointer.save` was given it; None = no claim.
    """

    config: Config
    class_names: tuple[str, ...]
    image_size: int
    fingerprint: str
    loop: dict[str, Any]
    judged: str = "weights"
    digests: dict[str, str] = dataclasses.field(default_factory=dict)
    shapes: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    version: str = __version__
    rank: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Its values and a seal, the digest over all of them."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values |= {"config": config_json.to_json(self.config), "class_names": list(self.class_names)}
        return values | {"seal": seal(values)}

    @classmethod
    def from_json(cls, values: dict[str, Any], where: str) -> Meta:
        """What `to_json` gave. Raises `DamagedError` when that has changed since, `CheckpointError` when another
        version of emojax wrote it."""
        values = dict(values)
        if values.keys() < {f.name for f in dataclasses.fields(cls)}:
            raise CheckpointError(f"{where} was written by an emojax of before the seal, which this one cannot check")
        if values.pop("seal", None) != seal(values):
            raise DamagedError(f"{where} is damaged: its description is not the one that was saved")
        try:
            config = config_json.from_json(values["config"], where=f"{where}: config")
        except ConfigError as error:  # sealed so: it is no damage
            raise CheckpointError(str(error)) from error
        return cls(**(values | {"config": config, "class_names": tuple(values["class_names"])}))


def seal(values: dict[str, Any]) -> str:
    """Digest of a description in JSON's own types, by which a later change is noticed."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]


def digests(arrays: Mapping[str, Any]) -> dict[str, str]:
    """Path -> `digest` of each array. Arrays that are spread over processes are gathered in their order; then several
    threads sum, which hashlib leaves the interpreter free for."""
    hosts = [parallel.to_host(x) if isinstance(x, jax.Array) else x for x in arrays.values()]
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(arrays, pool.map(digest, hosts), strict=True))


def digest(host: np.ndarray) -> str:
    """128 bits over dtype, shape and bytes of an array."""
    host = np.ascontiguousarray(host)
    total = hashlib.sha256(f"{host.dtype.str}{host.shape}".encode())
    total.update(host.reshape(-1).view(np.uint8).data)
    return total.hexdigest()[:32]
