"""What training steps measure, as a `clu.metrics.Collection`: sums over weights, so that merging is exact."""

# No `from __future__ import annotations` here: CLU reads the annotations of a Collection as classes.
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


def _grad_norm(*, grad_norm: Any, **_: Any) -> Any:
    return jnp.asarray(grad_norm, jnp.float32)


def _learning_rate(*, learning_rate: Any, **_: Any) -> Any:
    # A schedule of Python numbers is weakly typed, and a weak type in the carried metrics compiles the step twice.
    return jnp.asarray(learning_rate, jnp.float32)


@flax.struct.dataclass
class TrainMetrics(clu_metrics.Collection):
    """What training steps report: mean loss and accuracy, and the last gradient norm and learning rate.

    Inside `jax.jit`: `TrainMetrics.single_from_model_output(loss=[B], logits=[B, K], label=[B, K], weight=[B],
    grad_norm=scalar, learning_rate=scalar)` and `a.merge(b)`, b being the later one. On the host: `compute()`.
    """

    loss: MeanLoss
    accuracy: MeanAccuracy
    grad_norm: clu_metrics.LastValue.from_fun(_grad_norm)  # pyright: ignore[reportInvalidTypeForm]
    learning_rate: clu_metrics.LastValue.from_fun(_learning_rate)  # pyright: ignore[reportInvalidTypeForm]

    def compute(self) -> dict[str, float]:
        """Waits for the device, then {name: float}; NaN where every weight was 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            numbers = clu_metrics.Collection.compute(jax.device_get(self))
        return {name: float(value) for name, value in numbers.items()}
