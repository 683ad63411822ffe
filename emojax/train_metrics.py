"""What training steps measure, as a `clu.metrics.Collection`: sums over weights, so that merging is exact."""

# No `from __future__ import annotations` here: CLU reads the annotations of a Collection as classes.
import dataclasses
from typing import Any, Self

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics as clu_metrics
from jaxtyping import Array, Float


@flax.struct.dataclass
class WeightedMean(clu_metrics.Metric):
    """sum(weight * value) / sum(weight), mergeable; NaN while no weight was seen. Float32 scalars."""

    total: Any
    weight: Any

    @classmethod
    def empty(cls) -> Self:
        """Nothing seen yet."""
        return cls(total=jnp.zeros((), jnp.float32), weight=jnp.zeros((), jnp.float32))

    @classmethod
    def of(cls, value: Float[Array, " B"], weight: Float[Array, " B"]) -> Self:
        """Weight 0 hides even a NaN: a padded row may hold anything."""
        value = jnp.where(weight > 0, value.astype(jnp.float32), 0)
        return cls(total=(value * weight).sum(), weight=weight.sum())

    def merge(self, other: Any) -> Self:
        """Both together."""
        return type(self)(total=self.total + other.total, weight=self.weight + other.weight)

    def compute(self) -> Any:
        """The mean, a scalar."""
        return self.total / self.weight


@flax.struct.dataclass
class MeanLoss(WeightedMean):
    """Weighted mean of the model output `loss [B]`."""

    @classmethod
    def from_model_output(cls, *, loss: Any, weight: Any, **_: Any) -> Self:
        """From `loss` and `weight`."""
        return cls.of(loss, weight)


@flax.struct.dataclass
class MeanAccuracy(WeightedMean):
    """Weighted share of `logits [B, K]` whose argmax is that of `label [B, K]` (the heavier class of a mixed image)."""

    @classmethod
    def from_model_output(cls, *, logits: Any, label: Any, weight: Any, **_: Any) -> Self:
        """From `logits`, `label` and `weight`."""
        hit = jnp.argmax(logits, axis=-1) == jnp.argmax(label, axis=-1)
        return cls.of(hit.astype(jnp.float32), weight)


@flax.struct.dataclass
class Last(clu_metrics.Metric):
    """The latest number; NaN in what it merges with means "none", so that a skipped update leaves it."""

    value: Any

    @classmethod
    def empty(cls) -> Self:
        """None yet."""
        return cls(value=jnp.full((), jnp.nan, jnp.float32))

    def merge(self, other: Any) -> Self:
        """The later one, unless it is none."""
        return type(self)(value=jnp.where(jnp.isnan(other.value), self.value, other.value))

    def compute(self) -> Any:
        """The number."""
        return self.value


@flax.struct.dataclass
class LastGradNorm(Last):
    """L2 norm of the gradient."""

    @classmethod
    def from_model_output(cls, *, grad_norm: Any, **_: Any) -> Self:
        """From `grad_norm`."""
        return cls(value=jnp.asarray(grad_norm, jnp.float32))


@flax.struct.dataclass
class LastLearningRate(Last):
    """Learning rate."""

    @classmethod
    def from_model_output(cls, *, learning_rate: Any, **_: Any) -> Self:
        """From `learning_rate`."""
        # A schedule of Python numbers is weakly typed, and a weak type in the carried metrics compiles the step twice.
        return cls(value=jnp.asarray(learning_rate, jnp.float32))


@flax.struct.dataclass
class Skipped(clu_metrics.Metric):
    """Updates that were left out because a number was not finite: all of them, and the last ones without a gap."""

    count: Any
    row: Any

    @classmethod
    def empty(cls) -> Self:
        """None so far."""
        return cls(count=jnp.zeros((), jnp.float32), row=jnp.zeros((), jnp.float32))

    @classmethod
    def from_model_output(cls, **_: Any) -> Self:
        """Of an update that was made."""
        return cls.empty()

    def merge(self, other: Any) -> Self:
        """`other` is the update after these."""
        return type(self)(count=self.count + other.count, row=jnp.where(other.row > 0, self.row + other.row, 0.0))

    def compute(self) -> Any:
        """How many were left out."""
        return self.count


@flax.struct.dataclass
class TrainMetrics(clu_metrics.Collection):
    """What training steps report: mean loss and accuracy, the last gradient norm and learning rate, skipped updates.

    Inside `jax.jit`: `TrainMetrics.single_from_model_output(loss=[B], logits=[B, K], label=[B, K], weight=[B],
    grad_norm=scalar, learning_rate=scalar)` and `a.merge(b)`, b being the later one. On the host: `compute()`.
    """

    loss: MeanLoss
    accuracy: MeanAccuracy
    grad_norm: LastGradNorm
    learning_rate: LastLearningRate
    skipped: Skipped

    @classmethod
    def skip(cls) -> Self:
        """One update that was left out."""
        one = jnp.ones((), jnp.float32)
        return dataclasses.replace(cls.empty(), skipped=Skipped(count=one, row=one))

    def fresh(self) -> Self:
        """Nothing seen yet, but for the updates that were skipped last, without a gap."""
        return self.empty().after(self.skipped.row)

    def after(self, skipped: Any) -> Self:
        """These numbers, where the latest updates, so many, were skipped."""
        row = jnp.asarray(skipped, jnp.float32)
        return dataclasses.replace(self, skipped=dataclasses.replace(self.skipped, row=row))

    def to_json(self) -> list[str]:
        """Its numbers, for `from_json`; hexadecimal, as JSON has no NaN. Waits for the device."""
        return [float(x).hex() for x in jax.tree.leaves(jax.device_get(self))]

    @classmethod
    def from_json(cls, numbers: list[str]) -> Self:
        """What `to_json` was called on, to the bit."""
        leaves, tree = jax.tree.flatten(cls.empty())
        return tree.unflatten(
            [np.asarray(float.fromhex(x), leaf.dtype) for x, leaf in zip(numbers, leaves, strict=True)]
        )

    def compute(self) -> dict[str, float]:
        """Waits for the device, then {name: float}; NaN where every weight was 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            numbers = clu_metrics.Collection.compute(jax.device_get(self))
        return {name: float(value) for name, value in numbers.items()}
