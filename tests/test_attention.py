"""Attention blocks: numbers worked out by hand, and self-attention as torch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emojax import paths
from emojax.models import attention


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def silu(x):
    return x * sigmoid(x)


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def call(module, params, x):
    """The module on x with {path: value}; every path must be the module's own."""
    tree = jax.eval_shape(module.init, jax.random.key(0), jnp.asarray(x))["params"]
    shapes = {path: leaf.shape for path, leaf in paths.flatten(tree).items()}
    assert {p: np.shape(v) for p, v in params.items()} == shapes
    params = paths.map_with_path(lambda path, _: jnp.asarray(params[path]), tree)
    return jax.jit(module.apply)({"params": params}, jnp.asarray(x))


@pytest.mark.parametrize(("channels", "size"), [(1, 1), (2, 1), (8, 3), (256, 5), (768, 5), (1024, 5), (1536, 5)])
def test_eca_size_of_the_filter(channels, size):
    x = jax.ShapeDtypeStruct((1, 2, 2, channels), jnp.float32)
    tree = jax.eval_shape(attention.EfficientChannel().init, jax.random.key(0), x)
    assert tree["params"]["kernel"].shape == (size, 1, 1)


def test_eca_by_hand():
    """Means 1 .. 8; the filter (1, 0, -2) gives every channel its left neighbour less twice its right one."""
    spread = np.asarray([[-1.0, 1.0], [3.0, -3.0]])[None, :, :, None]  # no mean of its own
    x = (np.arange(1, 9) + spread).astype(np.float32)
    y = call(attention.EfficientChannel(), {"kernel": np.float32([1, 0, -2]).reshape(3, 1, 1)}, x)
    gate = sigmoid([0 - 4, 1 - 6, 2 - 8, 3 - 10, 4 - 12, 5 - 14, 6 - 16, 7 - 0])
    np.testing.assert_allclose(y, x * gate, rtol=1e-5)


def test_se_by_hand():
    """Channel means 2, 0, 0, 0 and maxima 5, 0, 0, 0: squeezed to 2 * 0.5 + 5 * 0.2 = 2."""
    x = np.zeros((1, 2, 2, 4), np.float32)
    x[0, :, :, 0] = [[5, 1], [1, 1]]
    squeeze = np.zeros((1, 1, 8, 1), np.float32)
    squeeze[0, 0, :, 0] = [0.5, 9, 9, 9, 0.2, 9, 9, 9]
    excite = np.float32([1, 2, 3, 4]).reshape(1, 1, 1, 4)
    y = call(attention.SqueezeExcite(), {"squeeze/kernel": squeeze, "excite/kernel": excite}, x)
    np.testing.assert_allclose(y[0, :, :, 0], x[0, :, :, 0] * sigmoid(2 * sigmoid(2)), rtol=1e-5)
    assert (y[..., 1:] == 0).all()


def test_cbam_by_hand():
    """Channel weights of the mean alone, then each pixel by the middle tap of its mean and maximum over channels."""
    x = np.zeros((1, 1, 2, 8), np.float32)
    x[0, 0, 0], x[0, 0, 1] = 1.0, 3.0
    x[0, 0, :, 0] = [8, 0]  # mean 4, maximum 8
    squeeze = np.zeros((1, 1, 8, 1), np.float32)
    squeeze[0, 0, 0] = 0.5  # 2 after squeezing; the maximum would give 4
    excite = np.float32([0, *[1] * 7]).reshape(1, 1, 1, 8)
    spatial = np.zeros((7, 7, 2, 1), np.float32)
    spatial[3, 3, :, 0] = [1, -1]
    params = {"squeeze/kernel": squeeze, "excite/kernel": excite, "spatial/kernel": spatial}
    y = call(attention.ChannelThenSpatial(), params, x)
    weighed = x[0, 0] * np.asarray([0.5, *[sigmoid(silu(2.0))] * 7])
    pixels = sigmoid(weighed.mean(-1) - weighed.max(-1))
    np.testing.assert_allclose(y[0, 0], weighed * pixels[:, None], rtol=1e-5)


def test_global_context_is_a_sum_over_pixels_weighed_by_sigmoids():
    """Four pixels of 1 at weight sigmoid(0): the context is 2. (2, 1) after squeezing becomes (1, -1) in the norm; from
    a mean it would be (0.5, 1), so (-1, 1), and from a softmax (1, 1), so 0.
    """
    x = np.ones((1, 2, 2, 32), np.float32)
    params = {
        "mask/kernel": np.zeros((1, 1, 32, 1), np.float32),
        "mask/bias": np.zeros(1, np.float32),
        "squeeze/kernel": np.zeros((1, 1, 32, 2), np.float32),
        "squeeze/bias": np.float32([0, 1]),
        "norm/scale": np.float32([1, 1]),
        "norm/bias": np.float32([0, 0]),
        "excite/kernel": np.zeros((1, 1, 2, 32), np.float32),
        "excite/bias": np.full(32, 0.25, np.float32),
    }
    params["squeeze/kernel"][0, 0, 0, 0] = 1
    params["excite/kernel"][0, 0, :, 5] = [1, 10]
    y = call(attention.GlobalContext(), params, x)
    expected = np.full(32, 1.25)
    expected[5] += silu(1) + 10 * silu(-1)
    np.testing.assert_allclose(y, np.broadcast_to(expected, x.shape), rtol=1e-4)


def test_gate_of_the_pooled_vector_is_the_gate_of_the_map():
    """Seed 003 weighs the map by its mean and pools afterwards; the head weighs the mean."""
    x = normal(0, 2, 3, 3, 32)
    params = {
        "squeeze/kernel": normal(1, 32, 2),
        "squeeze/bias": normal(2, 2),
        "excite/kernel": normal(3, 2, 32),
        "excite/bias": normal(4, 32),
    }
    mean = x.mean((1, 2))
    hidden = np.maximum(mean @ params["squeeze/kernel"] + params["squeeze/bias"], 0)
    weight = sigmoid(hidden @ params["excite/kernel"] + params["excite/bias"])
    expected = (x * weight[:, None, None]).mean((1, 2))
    np.testing.assert_allclose(call(attention.Gate(), params, mean), expected, rtol=1e-4, atol=1e-6)


def self_attention(length, width=16, count=8):
    """A function [.., T, D] -> [.., T, D] with random parameters."""
    params = {
        "qkv/kernel": normal(0, width, 3 * width),
        "qkv/bias": normal(1, 3 * width),
        "project/kernel": normal(2, width, width),
        "project/bias": normal(3, width),
    }
    return lambda x: np.asarray(call(attention.SelfAttention(count), params, x.reshape(-1, length, width)))


@pytest.mark.parametrize("length", [1, 49])
def test_regression_10_attention_over_one_pooled_vector_is_linear_and_over_tokens_is_not(length):
    """f(a x + (1 - a) y) = a f(x) + (1 - a) f(y): softmax over a single key is 1, whatever the query."""
    f = self_attention(length)
    x, y, a = normal(4, 3, length, 16), normal(5, 3, length, 16), 0.3
    line = a * f(x) + (1 - a) * f(y)
    error = np.abs(f((a * x + (1 - a) * y).astype(np.float32)) - line).max() / np.abs(line).max()
    assert error < 1e-5 if length == 1 else error > 0.05


@pytest.mark.peers
def test_self_attention_is_that_of_torch():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.MultiheadAttention(32, num_heads=8, batch_first=True)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_()
    x = normal(0, 3, 6, 32)
    params = {
        "qkv/kernel": theirs.in_proj_weight.detach().numpy().T,
        "qkv/bias": theirs.in_proj_bias.detach().numpy(),
        "project/kernel": theirs.out_proj.weight.detach().numpy().T,
        "project/bias": theirs.out_proj.bias.detach().numpy(),
    }
    tensor = torch.from_numpy(x)
    expected = theirs(tensor, tensor, tensor)[0].detach().numpy()
    np.testing.assert_allclose(call(attention.SelfAttention(8), params, x), expected, rtol=1e-4, atol=1e-4)
