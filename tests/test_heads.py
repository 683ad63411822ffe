"""Heads: sizes, numbers worked out by hand, starting values, and the same heads in torch."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emojax import models, paths
from emojax.config import ModelConfig
from emojax.errors import ConfigError
from emojax.models import emote, heads, layers

NAMES = tuple(heads.HEADS)


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def make(x, *, norm=True, classes=5, **knobs):
    """(head, random variables whose variances are positive)."""
    module = heads.make(ModelConfig(**knobs), classes, norm=norm)()
    tree = jax.eval_shape(functools.partial(module.init, train=False), jax.random.key(0), jnp.asarray(x))
    rng = np.random.default_rng(1)

    def value(path, leaf):
        noise = 0.3 * rng.standard_normal(leaf.shape).astype(np.float32)
        return jnp.asarray(1 + np.abs(noise) if path.endswith(("var", "scale")) else noise)

    return module, {kind: paths.map_with_path(value, part) for kind, part in tree.items()}


def run(module, variables, x, *, train=False, pooled=None, seed=0):
    """(logits, features, taps), compiled."""

    @jax.jit
    def step(variables, x, key):
        rngs = {"dropout": key}
        if train:
            return module.apply(variables, x, True, pooled, rngs=rngs, mutable=["batch_stats"])[0]
        return module.apply(variables, x, False, pooled)

    return step(variables, jnp.asarray(x), jax.random.key(seed))


@functools.cache
def forward(name):
    """(images, variables, what the head makes of them); one compilation for several tests."""
    x = normal(0, 4, 3, 2, 16)
    module, variables = make(x, head=name, classes=7)
    return x, variables, run(module, variables, x)


# Sizes.


def count(classes, **knobs):
    """(all parameters, those under head/ without the body's last norm)."""
    model = models.build(ModelConfig(**knobs), classes)
    tree = paths.flatten(jax.eval_shape(lambda key: model.init(key, 64)[0], jax.random.key(0)))
    sizes = {path: math.prod(leaf.shape) for path, leaf in tree.items()}
    head = sum(n for path, n in sizes.items() if path.startswith("head/") and not path.startswith("head/norm/"))
    return sum(sizes.values()), head


@pytest.mark.parametrize(
    ("size", "total", "head"),
    [
        ("tiny", 44_168_353, 16_348_225),
        ("small", 65_802_913, 16_348_225),
        ("base", 107_675_825, 20_109_361),
        ("large", 227_646_673, 31_416_337),
    ],
)
def test_regression_08_parameter_counts_of_emotenet(size, total, head):
    assert count(7, name=f"convnext_{size}", head="emote") == (total, head)


def test_regression_08_parameter_counts_of_the_lite_emotenet():
    assert count(7, name="convnext_tiny", head="emote_lite")[1] == 1_973_260


@pytest.mark.parametrize(
    ("knobs", "total"),
    [
        ({}, 25_620_552),
        ({"head_attention": "tokens"}, 42_410_056),
        ({"head_attention": "pooled"}, 42_410_056),
        ({"head_attention": "gate", "head_hidden": (1024, 512)}, 26_668_744),
    ],
)
def test_regression_08_parameter_counts_of_the_enhanced_resnet50(knobs, total):
    assert count(8, name="resnet50", head="mlp", **knobs)[0] == total


def test_regression_08_parameter_counts_of_the_convnext_runs():
    assert count(21, name="convnext_tiny", head="deep")[0] == 28_428_405
    assert count(8, name="convnext_large", head="linear")[0] == 196_242_632


# Parts of the emote heads.


@pytest.mark.parametrize(("theta", "mixed"), [((0.5, 0.5), 4.0), ((math.log(3), 0.0), 3.0)])
def test_learned_pooling_by_hand(theta, mixed):
    """Mean 2, maximum 6, shares softmax(theta): a half each, or three quarters of the mean."""
    x = np.float32([[6, 0], [2, 0]]).reshape(1, 2, 2, 1)
    np.testing.assert_allclose(
        emote.LearnedPool().apply({"params": {"theta": jnp.asarray(theta)}}, x), [[mixed, 6]], rtol=1e-6
    )


def test_dilated_convolution_by_hand():
    """A single 1 at (1, 2), dilation 2: the tap (row, column) is seen by the pixel 2 (tap - 1) before it."""
    x = np.zeros((1, 5, 5, 1), np.float32)
    x[0, 1, 2] = 1
    kernel = np.arange(1.0, 10).astype(np.float32).reshape(3, 3, 1, 1)
    params = {"kernel": kernel, "bias": np.float32([0.5])}
    y = emote.DilatedConv(1, 2, jnp.float32).apply({"params": params}, x)[0, :, :, 0]
    expected = np.full((5, 5), 0.5)
    expected[1, [0, 2, 4]] += [6, 5, 4]
    expected[3, [0, 2, 4]] += [3, 2, 1]
    np.testing.assert_allclose(y, expected)


# Heads.


def test_regression_10_only_attention_over_tokens_sees_the_map():
    """Two maps with the same mean: the mode `pooled` cannot tell them apart."""
    a = normal(0, 2, 3, 3, 16)
    b = a + np.asarray([1, -1, 0, 0, 2, -2, 0, 0, 0], np.float32).reshape(1, 3, 3, 1)
    for mode in ("pooled", "tokens"):
        module, variables = make(a, norm=False, head="mlp", head_attention=mode)
        difference = np.abs(run(module, variables, a)[1] - run(module, variables, b)[1]).max()
        assert difference < 1e-5 if mode == "pooled" else difference > 1e-2, mode


def test_the_heads_of_attention_must_divide_the_width():
    with pytest.raises(ConfigError, match=r"config\.model\.head_attention: 8 heads must divide .*, found 12"):
        make(np.zeros((1, 2, 2, 12), np.float32), head="mlp", head_attention="tokens")


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_a_map_of_one_pixel(name):
    x = normal(0, 3, 1, 1, 16)
    attend = {"head_attention": "tokens"} if name == "mlp" else {}
    module, variables = make(x, head=name, **attend)
    params, stats = variables.pop("params"), variables

    @jax.jit
    def gradient(params, x):
        def loss(params, x):
            (logits, *_), _ = module.apply({"params": params, **stats}, x, True, mutable=["batch_stats"])
            return jnp.square(logits).sum()

        return jax.grad(loss, (0, 1))(params, x)

    for path, value in paths.flatten(dict(zip("px", gradient(params, jnp.asarray(x)), strict=True))).items():
        assert np.isfinite(value).all(), path


@pytest.mark.parametrize("name", NAMES)
def test_output_shapes_and_taps(name):
    _, variables, (logits, features, taps) = forward(name)
    assert logits.shape == (4, 7) and features.shape == (4, 2048 if "emote" in name else 16)
    assert [tap.shape[-1] for tap in taps] == ([16, 16, 1024] if name == "emote" else [16])
    assert all(tap.shape[:3] == (4, 3, 2) for tap in taps)
    assert "dense" in variables["params"]


@pytest.mark.parametrize("name", ["emote", "emote_lite"])
def test_emote_heads_normalise_every_pixel_of_a_body_without_last_norm(name):
    x, variables, (_, _, taps) = forward(name)
    scale, bias = (np.asarray(variables["params"]["norm"][leaf]) for leaf in ("scale", "bias"))
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * scale + bias
    np.testing.assert_allclose(taps[0], expected, rtol=1e-4, atol=1e-5)
    assert "norm" not in make(x, head=name, norm=False)[1]["params"]


def test_no_projection_where_the_body_is_as_wide_as_the_head():
    for width in (16, 1024):
        x = jax.ShapeDtypeStruct((1, 2, 2, width), jnp.float32)
        module = heads.make(ModelConfig(head="emote"), 5, norm=True)()
        tree = jax.eval_shape(functools.partial(module.init, train=False), jax.random.key(0), x)
        assert ("project" in tree["params"]) == (width == 16)


@pytest.mark.parametrize("name", ["linear", "mlp", "deep"])
def test_pooled_heads_take_the_summary_of_the_body(name):
    x, summary = normal(0, 3, 2, 2, 16), normal(1, 3, 16)
    module, variables = make(x, norm=False, head=name)
    logits, features, _ = run(module, variables, x, pooled=jnp.asarray(summary))
    np.testing.assert_array_equal(features, summary)
    np.testing.assert_array_equal(run(module, variables, 0 * x, pooled=jnp.asarray(summary))[0], logits)


def test_mlp_by_hand():
    """D = 4, hidden 2, in prediction: batch norms with mean 1 and variance 4, and all else simple."""
    x = np.float32([[3, 5, 1, 1], [5, 5, 1, 1]]).reshape(1, 2, 1, 4)  # pooled: 4 5 1 1; normalised: 1.5 2 0 0
    module, variables = make(x, norm=False, head="mlp", classes=1)
    assert variables["params"].keys() == {"norm1", "dense1", "norm2", "dense"}
    for name, width in (("norm1", 4), ("norm2", 2)):
        variables["params"][name] = {"scale": jnp.ones(width), "bias": jnp.zeros(width)}
        variables["batch_stats"][name] = {"mean": jnp.ones(width), "var": jnp.full(width, 4 - 1e-5)}
    kernel = jnp.asarray([[2.0, 1], [0, -1], [7, 7], [7, 7]])  # 3, -0.5, and 1 more: 4, 0.5 - 1
    variables["params"]["dense1"] = {"kernel": kernel, "bias": jnp.asarray([1.0, -0.5])}
    variables["params"]["dense"] = {"kernel": jnp.asarray([[10.0], [100.0]]), "bias": jnp.asarray([3.0])}
    logits, features, _ = run(module, variables, x)
    np.testing.assert_allclose(features, [[4, 5, 1, 1]])
    np.testing.assert_allclose(logits, [[3 + 10 * (4 - 1) / 2 + 100 * (0 - 1) / 2]], rtol=1e-5)


def test_hidden_layers():
    x = np.zeros((2, 2, 2, 16), np.float32)
    for name, hidden, expected in (
        ("mlp", (), [(16, 8), (8, 5)]),
        ("deep", (), [(16, 16), (16, 5)]),
        ("mlp", (12, 6), [(16, 12), (12, 6), (6, 5)]),
        ("deep", (12, 6), [(16, 12), (12, 6), (6, 5)]),
    ):
        params = make(x, head=name, head_hidden=hidden)[1]["params"]
        order = [*(f"dense{i + 1}" for i in range(len(expected) - 1)), "dense"]
        assert [params[layer]["kernel"].shape for layer in order] == expected


RATES = {
    "linear": [0.5],
    "cosine": [0.5],
    "mlp": [0.5, 0.25, 0.125],
    "deep": [0.5, 0.5, 0.5],
    "emote": [0.3, 0.5, 0.4],
    "emote_lite": [0.3, 0.5, 0.5, 0.4],
}


@pytest.mark.parametrize("name", NAMES)
def test_dropout_rates(name):
    """Every dropout of a head, in order; channels of a map go as a whole; nothing is dropped in prediction."""
    x = normal(0, 4, 3, 3, 16)
    knobs = {"head_hidden": (8, 8)} if name in ("mlp", "deep") else {}
    knobs |= {"feature_dropout": 0.3} if "emote" in name else {}
    module, variables = make(x, head=name, dropout=0.5, **knobs)
    rates, maps = [], []

    def watch(call, args, kwargs, context):
        y = call(*args, **kwargs)
        if isinstance(context.module, nn.Dropout) and context.method_name == "__call__":
            if context.module.deterministic:
                assert y is args[0]
            else:
                rates.append(context.module.rate)
                maps.extend([y] if y.ndim == 4 else [])
        return y

    @jax.jit
    def train(variables, x, key):
        module.apply(variables, x, True, rngs={"dropout": key}, mutable=["batch_stats"])
        return maps

    with nn.intercept_methods(watch):
        for y in train(variables, jnp.asarray(x), jax.random.key(0)):
            dropped = np.asarray(y == 0)
            assert (dropped == dropped[:, :1, :1]).all() and abs(dropped.mean() - 0.3) < 0.05
        jax.eval_shape(lambda x: module.apply(variables, x, False), jnp.asarray(x))
    assert rates == pytest.approx(RATES[name])


@pytest.mark.parametrize("name", ["mlp", "emote", "emote_lite"])
def test_bfloat16_keeps_logits_and_features_float32(name):
    x, variables, (exact, *_) = forward(name)
    module = heads.make(ModelConfig(head=name, compute="bfloat16"), 7, norm=True)()
    logits, features, taps = run(module, variables, jnp.asarray(x, jnp.bfloat16))
    assert logits.dtype == features.dtype == jnp.float32
    assert {tap.dtype for tap in taps} == {jnp.dtype(jnp.bfloat16)}
    error = np.abs(logits - exact).max() / np.abs(exact).max()
    assert 0 < error < 0.05


def test_attention_over_tokens_in_bfloat16():
    x = normal(0, 2, 3, 3, 16)
    knobs = {"head": "mlp", "head_attention": "tokens"}
    module, variables = make(x, compute="bfloat16", **knobs)
    logits, features, _ = run(module, variables, jnp.asarray(x, jnp.bfloat16))
    assert logits.dtype == features.dtype == jnp.float32
    exact = run(make(x, **knobs)[0], variables, x)[1]
    assert 0 < np.abs(features - exact).max() < 0.05 * np.abs(exact).max()


def test_heads_on_a_body():
    """Through `models.build`: names under head/, and the taps come out as `aux`."""
    model = models.build(ModelConfig(name="convnext_atto", depths=(1, 1), widths=(8, 16), head="emote"), 7)
    image = jax.ShapeDtypeStruct((2, 32, 24, 3), jnp.float32)

    def forward(key, image):
        params, stats = model.init(key, 32)
        return params, model.apply(params, stats, image, train=False)[0]

    params, output = jax.eval_shape(forward, jax.random.key(0), image)
    assert [tap.shape for tap in output.aux] == [(2, 4, 3, 16), (2, 4, 3, 16), (2, 4, 3, 1024)]
    assert "head/pyramid/branch3/conv/kernel" in paths.flatten(params)


# Starting values.


def shapes_of(config):
    """{path: shape} of the head on a body of 64 channels, for 50 classes."""
    module = heads.make(config, 50, norm=True)()
    x = jax.ShapeDtypeStruct((1, 2, 2, 64), jnp.float32)
    tree = jax.eval_shape(functools.partial(module.init, train=False), jax.random.key(0), x)["params"]
    return {path: leaf.shape for path, leaf in paths.flatten({"head": tree}).items()}


def start(**knobs):
    """{path: starting value}."""
    config = ModelConfig(**knobs)
    shapes = shapes_of(config)
    rule = functools.partial(heads.initial, shapes=shapes, config=config)
    return jax.jit(lambda key: layers.draw(key, shapes, rule))(jax.random.key(0))


def assert_normal(value, deviation):
    value = np.asarray(value)
    assert abs(value.std() / deviation - 1) < 4 / (2 * value.size) ** 0.5 + 1e-3
    assert np.abs(value).max() > 2.5 * deviation, "not cut off, not uniform"


def assert_uniform(value, bound):
    value = np.asarray(value)
    assert np.abs(value).max() <= bound
    assert value.size < 100 or abs(value.std() * 3**0.5 / bound - 1) < 5 / value.size**0.5


def assert_simple(values):
    """Norms 1 and 0, biases 0."""
    for path, value in values.items():
        if not path.endswith("kernel"):
            np.testing.assert_array_equal(value, float(path.endswith("scale")), err_msg=path)


def test_start_of_the_mlp():
    values = start(head="mlp", head_hidden=(48,), head_attention="tokens")
    assert_simple(values)
    assert_normal(values["head/dense1/kernel"], (2 / (64 + 48)) ** 0.5)
    assert_normal(values["head/dense/kernel"], (2 / (48 + 50)) ** 0.5)
    assert_uniform(values["head/attention/qkv/kernel"], (6 / (64 + 3 * 64)) ** 0.5)
    assert_uniform(values["head/attention/project/kernel"], 64**-0.5)


def test_start_of_the_deep_head():
    values = start(head="deep")
    assert_simple(values)
    assert_normal(values["head/dense1/kernel"], 0.02)
    assert_normal(values["head/dense/kernel"], 0.02)


@pytest.mark.parametrize("name", ["emote", "emote_lite"])
def test_start_of_the_emote_heads(name):
    values = start(head=name)
    blocks = ("eca", "se", "cbam", "context", "calibration")
    new = {path: v for path, v in values.items() if path.split("/")[1] not in blocks and path != "head/pool/theta"}
    assert_simple(new)
    assert_normal(values["head/dense/kernel"], 0.001)
    assert_normal(values["head/dense1/kernel"], (2 / (768 if name == "emote" else 512)) ** 0.5)
    assert_normal(values["head/refine/conv/kernel"], (2 / 1024) ** 0.5)
    assert_uniform(values["head/eca/kernel"], 3**-0.5)  # 3 taps at 64 channels
    if name == "emote":
        np.testing.assert_array_equal(values["head/pool/theta"], 0.5)
        assert_normal(values["head/pyramid/branch2/conv/kernel"], (2 / (9 * 512)) ** 0.5)
        assert_uniform(values["head/calibration/squeeze/kernel"], 64**-0.5)
        assert_uniform(values["head/calibration/excite/bias"], 16**-0.5)
        assert np.abs(values["head/calibration/excite/bias"]).max() > 0
        assert_uniform(values["head/cbam/spatial/kernel"], 98**-0.5)
        np.testing.assert_array_equal(values["head/context/norm/scale"], 1)
        np.testing.assert_array_equal(values["head/calibration/norm/bias"], 0)


@pytest.mark.parametrize("name", ["mlp", "deep", "emote", "emote_lite"])
def test_head_scale_multiplies_the_last_layer_alone(name):
    plain, scaled = ModelConfig(head=name), ModelConfig(head=name, head_scale=0.25)
    shapes = shapes_of(plain)
    for path in shapes:
        kind, size = heads.initial(path, shapes, plain)
        factor = 0.25 if path.startswith("head/dense/") else 1
        assert heads.initial(path, shapes, scaled) == (kind, factor * size), path


def test_other_parameters_start_by_the_rule_of_the_body():
    shapes = {"head/dense/kernel": (8, 5), "stem/conv/kernel": (7, 7, 3, 8)}
    for name in ("own", "linear"):
        assert heads.initial("head/dense/kernel", shapes, ModelConfig(head=name)) is None
    assert heads.initial("stem/conv/kernel", shapes, ModelConfig(head="deep")) is None


# The config.


def test_own_is_what_the_body_says():
    own = heads.make(ModelConfig(), 5, norm=True)
    assert own().__class__ is heads.Linear
    assert heads.make(ModelConfig(), 5, norm=True, own=heads.Deep) is heads.Deep
    assert heads.make(ModelConfig(head="linear"), 5, norm=True, own=heads.Deep)().__class__ is heads.Linear


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"head": "wide"}, r"head: expected one of own, linear, cosine, mlp, deep, emote, emote_lite, found 'wide'"),
        ({"head": "mlp", "head_attention": "all"}, r"head_attention: expected one of none, tokens, pooled, gate"),
        (
            {"head": "deep", "head_attention": "gate"},
            r"head_attention: only read by config\.model\.head = mlp, .* deep",
        ),
        ({"head_hidden": (8,)}, r"head_hidden: only read by config\.model\.head = mlp or deep, .* own"),
        ({"head": "mlp", "head_hidden": (8, 0)}, r"head_hidden: expected whole numbers"),
        ({"head": "mlp", "feature_dropout": 0.1}, r"feature_dropout: only read by .* emote or emote_lite"),
        ({"head": "emote", "feature_dropout": 1.1}, r"feature_dropout: expected a rate in \[0, 1\]"),
        ({"head_scale": -1.0}, r"head_scale: expected 0 or more"),
    ],
)
def test_bad_knobs_are_named(knobs, message):
    with pytest.raises(ConfigError, match=r"config\.model\." + message):
        heads.make(ModelConfig(**knobs), 5, norm=True)


# The same in torch.


class Torch:
    """Torch's layers with our parameters, on maps [B, C, H, W] and vectors [B, C]."""

    def __init__(self, torch, variables, train):
        self.nn, self.train = torch.nn.functional, train
        flat = {**paths.flatten(variables["params"]), **paths.flatten(variables["batch_stats"])}
        self.leaves = {path: torch.from_numpy(np.array(value)) for path, value in flat.items()}

    def conv(self, x, name, **options):
        kernel, bias = self.leaves[name + "/kernel"], self.leaves.get(name + "/bias")
        return self.nn.conv2d(x, kernel.permute(3, 2, 0, 1), bias, **options)

    def batch_norm(self, x, name):
        leaves = (self.leaves[f"{name}/{leaf}"] for leaf in ("mean", "var", "scale", "bias"))
        return self.nn.batch_norm(x, *leaves, training=self.train)

    def conv_norm(self, x, name, **options):
        return self.batch_norm(self.conv(x, name + "/conv", **options), name + "/norm")

    def layer_norm(self, x, name, eps=1e-5):
        scale, bias = self.leaves[name + "/scale"], self.leaves[name + "/bias"]
        return self.nn.layer_norm(x.movedim(1, -1), (x.shape[1],), scale, bias, eps).movedim(-1, 1)

    def dense(self, x, name):
        return self.nn.linear(x, self.leaves[name + "/kernel"].T, self.leaves[name + "/bias"])

    def eca(self, x):
        mean, kernel = x.mean((2, 3))[:, None], self.leaves["eca/kernel"].permute(2, 1, 0)
        return x * self.nn.conv1d(mean, kernel, padding=kernel.shape[-1] // 2).sigmoid()[:, 0, :, None, None]


@pytest.mark.peers
@pytest.mark.parametrize("train", [False, True])
def test_emote_is_that_of_torch(train):
    torch = pytest.importorskip("torch")
    x = normal(7, 3, 5, 4, 32)
    module, variables = make(x, head="emote")
    t, silu = Torch(torch, variables, train), torch.nn.functional.silu
    f = t.layer_norm(torch.from_numpy(x).permute(0, 3, 1, 2), "norm", 1e-6)
    mean, high = f.mean((2, 3), keepdim=True), f.amax((2, 3), keepdim=True)
    cbam = f * t.conv(silu(t.conv(mean, "cbam/squeeze")), "cbam/excite").sigmoid()
    pixels = torch.cat([cbam.mean(1, keepdim=True), cbam.amax(1, keepdim=True)], 1)
    cbam = cbam * t.conv(pixels, "cbam/spatial", padding=3).sigmoid()
    se = f * t.conv(silu(t.conv(torch.cat([mean, high], 1), "se/squeeze")), "se/excite").sigmoid()
    context = (f * t.conv(f, "context/mask").sigmoid()).sum((2, 3), keepdim=True)
    context = silu(t.layer_norm(t.conv(context, "context/squeeze"), "context/norm"))
    a = f + cbam + t.eca(f) + se + f + t.conv(context, "context/excite")
    inner = silu(t.batch_norm(t.conv(a, "calibration/squeeze"), "calibration/norm"))
    g = a * t.conv(inner, "calibration/excite").sigmoid()
    branches = [silu(t.conv_norm(g, f"pyramid/branch{d}", padding=d, dilation=d)) for d in (1, 2, 3)]
    p = silu(t.conv_norm(torch.cat(branches, 1), "pyramid/fuse1"))
    p = silu(t.conv_norm(p, "pyramid/fuse2"))
    u = silu(t.conv_norm(g, "refine")) + t.conv(g, "project") + p
    w = t.leaves["pool/theta"].softmax(0)
    v = torch.cat([w[0] * u.mean((2, 3)) + w[1] * u.amax((2, 3)), u.amax((2, 3))], 1)
    y = silu(t.layer_norm(t.dense(v, "dense1"), "norm1"))
    y = silu(t.layer_norm(t.dense(y, "dense2"), "norm2"))
    logits, features, taps = run(module, variables, x, train=train)
    for ours, theirs in zip(taps, (f, g, u), strict=True):
        np.testing.assert_allclose(ours, theirs.permute(0, 2, 3, 1), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(features, v, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(logits, t.dense(y, "dense"), rtol=1e-3, atol=1e-2)


@pytest.mark.peers
@pytest.mark.parametrize("train", [False, True])
def test_emote_lite_is_that_of_torch(train):
    torch = pytest.importorskip("torch")
    x = normal(7, 3, 5, 4, 32)
    module, variables = make(x, head="emote_lite")
    t, gelu = Torch(torch, variables, train), torch.nn.functional.gelu
    f = t.layer_norm(torch.from_numpy(x).permute(0, 3, 1, 2), "norm", 1e-6)
    u = gelu(t.conv_norm(t.eca(f), "refine"))
    y = torch.cat([u.mean((2, 3)), u.amax((2, 3))], 1)
    for i in (1, 2):
        y = gelu(t.layer_norm(t.dense(y, f"dense{i}"), f"norm{i}"))
    np.testing.assert_allclose(run(module, variables, x, train=train)[0], t.dense(y, "dense"), rtol=1e-3, atol=1e-3)


@pytest.mark.peers
def test_deep_is_that_of_torch():
    torch = pytest.importorskip("torch")
    x = normal(7, 3, 2, 2, 16)
    module, variables = make(x, head="deep", dropout=0.3)
    t = Torch(torch, {**variables, "batch_stats": {}}, train=False)
    y = t.layer_norm(t.layer_norm(torch.from_numpy(x.mean((1, 2))), "norm", 1e-6), "norm1")
    y = t.dense(torch.nn.functional.gelu(t.dense(y, "dense1")), "dense")
    np.testing.assert_allclose(run(module, variables, x)[0], y, rtol=1e-4, atol=1e-4)
