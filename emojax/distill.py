"""Learning from a teacher: softened probabilities, and where its feature maps are active."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from emojax.config import DistillConfig
from emojax.errors import ConfigError
from emojax.types import ModelOutput

Distill = Callable[[ModelOutput, ModelOutput, Float[Array, " B"]], Float[Array, " B"]]
"""(student's output, teacher's output, task loss [B]) → combined loss [B]."""


def make(config: DistillConfig, penalty: Callable[[Float[Array, "B K"]], Float[Array, " B"]]) -> Distill:
    """alpha times `loss` + (1 - alpha) times the task's loss + attention times `attention_transfer` + the penalty on
    the student's logits, per example: alpha divides the label's part, and nothing else, with the teacher. The teacher
    gets no gradient.

    The result raises `ConfigError` where `attention` is on and the model has no taps.
    """

    def combined(student: ModelOutput, teacher: ModelOutput, task: Float[Array, " B"]) -> Float[Array, " B"]:
        teacher = jax.lax.stop_gradient(teacher)
        taught = loss(student.logits, teacher.logits, temperature=config.temperature)
        value = config.alpha * taught + (1 - config.alpha) * task + penalty(student.logits)
        if not config.attention:
            return value
        if not student.aux:
            raise ConfigError("config.distill.attention: expected 0, since this model offers no maps to compare")
        return value + config.attention * attention_transfer(student.aux, teacher.aux)

    return combined


def loss(student: Float[Array, "B K"], teacher: Float[Array, "B K"], *, temperature: float) -> Float[Array, " B"]:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)) of logits, per example.

    T^2 keeps the size of the gradient when T changes. Source: Hinton et al. 2015, arXiv:1503.02531.
    """
    log_t = jax.nn.log_softmax(teacher / temperature)
    log_s = jax.nn.log_softmax(student / temperature)
    return temperature**2 * jnp.sum(jnp.exp(log_t) * (log_t - log_s), axis=-1)


def attention_transfer(
    student: tuple[Float[Array, "B _ _ _"], ...], teacher: tuple[Float[Array, "B _ _ _"], ...]
) -> Float[Array, " B"]:
    """Mean squared difference of the attention maps, summed over the taps (Zagoruyko & Komodakis 2016,
    arXiv:1612.03928). The maps of one tap have one size; their numbers of channels may differ."""
    pairs = zip(student, teacher, strict=True)
    return sum((jnp.square(_attention(s) - _attention(t)).mean(-1) for s, t in pairs), start=jnp.zeros(()))


def _attention(x: Float[Array, "B H W C"]) -> Float[Array, "B HW"]:
    """mean_c x^2 of every pixel, as a vector of length 1; a map of zeros stays zero."""
    active = jnp.square(x.astype(jnp.float32)).mean(-1).reshape(len(x), -1)
    return active * jax.lax.rsqrt(jnp.maximum(jnp.square(active).sum(-1, keepdims=True), 1e-24))
