"""Two networks of one kind side by side: every array of one has a first axis of 2, and every path stays.

So freezing, decay, averages, checkpoints and exports treat twins as one network. They share neither parameters nor
statistics; only what looks at a whole gradient (clipping) or predicts sees both.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from emojax.types import ModelOutput, Tree


def stacked(first: Tree, second: Tree) -> Tree:
    """Two trees as one of twins."""
    return jax.tree.map(lambda a, b: jnp.stack([a, b]), first, second)


def one(tree: Tree, i: int) -> Tree:
    """Twin number i, 0 or 1."""
    return jax.tree.map(lambda x: x[i], tree)


def apply(
    run: Callable[[Tree, Tree, int], tuple[ModelOutput, Tree]], params: Tree, model_state: Tree
) -> tuple[ModelOutput, Tree]:
    """Both networks on the same images: `run(params, model_state, i)` is one of them.

    Returns:
      (output, new state). Its logits are the log of the mean of both's probabilities, its features the mean, its taps
      those of both, and `twins` holds the logits of each.
    """
    # One after the other, not vmapped: the products that are fast on CPUs choose by shapes without a further axis.
    (a, state_a), (b, state_b) = (run(one(params, i), one(model_state, i), i) for i in (0, 1))
    logs = [jax.nn.log_softmax(x.logits) for x in (a, b)]
    output = ModelOutput(
        logits=jnp.logaddexp(*logs) - jnp.log(2.0),
        features=(a.features + b.features) / 2,
        aux=(*a.aux, *b.aux),
        twins=(a.logits, b.logits),
    )
    return output, stacked(state_a, state_b)
