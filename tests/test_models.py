"""Networks: sizes, names, starting values, and what every knob does."""

import dataclasses
import functools
import json
import math
import re
from pathlib import Path

import jax
import jax.ad_checkpoint
import jax.numpy as jnp
import numpy as np
import pytest

from emojax import models, paths
from emojax.config import ModelConfig
from emojax.errors import ConfigError
from emojax.models import layers, norms

GOLDEN = Path(__file__).parent / "golden" / "models.json"
TINY = {
    "resnet": ModelConfig(name="resnet18", depths=(1, 2), widths=(8, 16), stem="small2"),
    "bottleneck": ModelConfig(name="resnet50", depths=(1, 1), widths=(4, 8), stem="small"),
    "convnext": ModelConfig(name="convnext_atto", depths=(2, 1), widths=(8, 16), stem="small"),
}
COUNTS = {  # torchvision 0.29 and timm 1.0 at 1000 classes
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "convnext_atto": 3_695_520,
    "convnext_femto": 5_217_784,
    "convnext_pico": 9_045_672,
    "convnext_nano": 15_593_560,
    "convnext_tiny": 28_589_128,
    "convnext_small": 50_223_688,
    "convnext_base": 88_591_464,
    "convnext_large": 197_767_336,
    "convnext_xlarge": 350_196_968,
    # The paper's 0.27, 0.46, 0.66 and 0.85 million at 10 classes, 990 more classes, and a first convolution of 7 x 7.
    **{f"resnet{n}": c + 990 * 65 + 40 * 48 for n, c in ((20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018))},
}


def shapes(config, classes=1000):
    model = models.build(config, classes)
    params, stats = jax.eval_shape(lambda key: model.init(key, 64), jax.random.key(0))
    return [{p: list(a.shape) for p, a in paths.flatten(tree).items()} for tree in (params, stats)]


def make(family, **knobs):
    """(model, params with every value away from its start, model_state, images of 16 px)."""
    model = models.build(dataclasses.replace(TINY[family], **knobs), 5)
    params, stats = model.init(jax.random.key(0), 16)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda a: a + np.float32(0.1) * rng.standard_normal(a.shape, np.float32), params)
    return model, params, stats, jnp.asarray(rng.standard_normal((6, 16, 16, 3), np.float32))


def apply(model, params, stats, image, *, train, key=None):
    """`model.apply`, compiled: op by op, the many small programs take longer than the one large one."""
    return jax.jit(lambda *args: model.apply(*args[:3], train=train, key=args[3]))(params, stats, image, key)


def grads(model, params, stats, image, key=None):
    def loss(params):
        output, new = model.apply(params, stats, image, train=True, key=key)
        return jnp.square(output.logits).sum(), (output, new)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)


def assert_close(a, b, tolerance=1e-5):
    a, b = paths.flatten(a), paths.flatten(b)
    assert a.keys() == b.keys()
    for path in a:
        np.testing.assert_allclose(a[path], b[path], rtol=tolerance, atol=tolerance, err_msg=path)


def test_every_name_has_a_count():
    """The others' counts stand in test_models_small.py and test_models_large.py."""
    assert {name for name in models.names() if re.match(r"resnet\d|convnext", name)} == set(COUNTS)


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_count(name):
    assert sum(np.prod(s, dtype=int) for s in shapes(ModelConfig(name=name))[0].values()) == COUNTS[name]


def test_parameter_tables():
    """Paths and shapes are what checkpoints, freezing and imports rely on: a change here breaks users' files."""
    golden = json.loads(GOLDEN.read_text())
    for name, table in golden.items():
        assert dict(zip(("params", "model_state"), shapes(ModelConfig(name=name)), strict=True)) == table, name


@pytest.mark.parametrize("family", TINY)
def test_start_is_float32_seeded_and_independent_of_image_size(family):
    model = models.build(TINY[family], 5)
    a, b, c = model.init(jax.random.key(0), 16), model.init(jax.random.key(0), 32), model.init(jax.random.key(1), 16)
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(a))
    assert_close(a, b, 0)
    path = "stem/conv/kernel"
    assert not np.allclose(paths.flatten(a[0])[path], paths.flatten(c[0])[path])


def test_resnet_starts_as_torchvision_does():
    config = ModelConfig(name="resnet18", depths=(1, 1), widths=(64, 128))
    params = paths.flatten(models.build(config, 1000).init(jax.random.key(0), 64)[0])
    kernel = np.asarray(params["stage2/block1/conv2/conv/kernel"])  # 147,456 values
    assert abs(kernel.std() / (2 / (9 * 128)) ** 0.5 - 1) < 0.01 and np.abs(kernel).max() > 4 * kernel.std()
    head, bound = np.asarray(params["head/dense/kernel"]), 128**-0.5
    assert np.abs(head).max() <= bound and abs(head.std() * 3**0.5 / bound - 1) < 0.01
    assert 0 < np.abs(params["head/dense/bias"]).max() <= bound
    for path, value in params.items():
        if path.endswith("scale"):
            assert (value == 1).all(), path
        elif path.endswith("norm/bias"):
            assert (value == 0).all()


def test_convnext_starts_as_published():
    params = paths.flatten(models.build(ModelConfig(name="convnext_atto"), 10).init(jax.random.key(0), 64)[0])
    for path, value in params.items():
        if path.endswith("kernel") and value.size > 10_000:
            assert abs(value.std() / 0.02 - 1) < 0.05, path
        elif not path.endswith("kernel"):
            expected = {"gamma": 1e-6, "scale": 1.0, "bias": 0.0}[path.rpartition("/")[2]]
            np.testing.assert_array_equal(value, np.float32(expected), err_msg=path)


@pytest.mark.parametrize("family", ["resnet", "convnext"])
def test_bfloat16_keeps_parameters_statistics_and_logits_float32(family):
    model, params, stats, image = make(family, compute="bfloat16")
    (_, (output, new)), gradient = grads(model, params, stats, image)
    for leaf in jax.tree.leaves((output.logits, output.features, new, gradient)):
        assert leaf.dtype == jnp.float32 and np.isfinite(leaf).all()
    exact, *_ = make(family)
    expected = apply(exact, params, stats, image, train=True)[0].logits
    error = np.abs(output.logits - expected).max()
    assert 0 < error < 0.05 * np.abs(expected).max() + 0.05


@pytest.mark.parametrize(("family", "remat"), [("resnet", "blocks"), ("convnext", "blocks"), ("convnext", "products")])
def test_recomputing_changes_neither_names_nor_numbers(family, remat):
    plain, params, stats, image = make(family, drop_path=0.3)
    again = make(family, drop_path=0.3, remat=remat)[0]
    assert_close(plain.init(jax.random.key(0), 16), again.init(jax.random.key(0), 16), 0)
    key = jax.random.key(7)
    (_, (a, stats_a)), grads_a = grads(plain, params, stats, image, key)
    (_, (b, stats_b)), grads_b = grads(again, params, stats, image, key)
    assert_close({"x": a.logits, "s": stats_a}, {"x": b.logits, "s": stats_b})
    assert_close(grads_a, grads_b, 1e-3)


@pytest.mark.parametrize("family", TINY)
def test_less_is_kept_where_more_is_computed_again(family, capsys):
    kept = []
    for remat in ("", "products", "blocks"):
        model, params, stats, image = make(family, remat=remat, compute="bfloat16")
        loss = functools.partial(lambda model, *a: model.apply(*a, train=True)[0].logits.sum(), model)
        jax.ad_checkpoint.print_saved_residuals(loss, params, stats, image)
        maps = re.findall(r"^[a-z]+(\d+)\[([\d,]+)\] (?!from the argument)", capsys.readouterr().out, re.MULTILINE)
        kept.append(sum(int(bits) * math.prod(map(int, shape.split(","))) for bits, shape in maps))
    assert kept[1] < 0.75 * kept[0] and kept[2] < 0.75 * kept[1], kept


@pytest.mark.parametrize("family", TINY)
def test_output_shapes_and_prediction_state(family):
    model, params, stats, image = make(family)
    output, same = apply(model, params, stats, image, train=False)[0], []
    width = {"resnet": 16, "bottleneck": 32, "convnext": 16}[family]
    assert output.logits.shape == (6, 5) and output.features.shape == (6, width)
    assert [tap.shape[0] for tap in output.aux] == [6]
    jax.eval_shape(lambda: same.append(model.apply(params, stats, image, train=False)[1] is stats))
    assert same == [True]
    assert (stats == {}) == (family == "convnext")
    one = apply(model, params, stats, image[:1], train=False)[0].logits
    np.testing.assert_allclose(one, output.logits[:1], rtol=1e-4, atol=1e-4)  # images do not see each other


def test_batch_norm_by_hand():
    """Statistics move by a tenth, the variance unbiased; the batch is normalised with the biased one."""
    x = jnp.asarray([[1.0, 10.0], [3.0, 10.0], [8.0, 13.0]])
    norm = norms.BatchNorm()
    variables = norm.init(jax.random.key(0), x, False)
    for steps in (1, 2):  # the second time about a running mean that is not 0
        y, new = norm.apply(variables, x, True, mutable=["batch_stats"])
        expected = (x - x.mean(0)) / np.sqrt(np.var(x, axis=0) + 1e-5)
        np.testing.assert_allclose(y, expected, atol=2e-5)
        stats, kept = new["batch_stats"], 0.9**steps
        np.testing.assert_allclose(stats["mean"], (1 - kept) * np.mean(x, axis=0), rtol=1e-5)
        np.testing.assert_allclose(stats["var"], kept + (1 - kept) * np.var(x, axis=0, ddof=1), rtol=1e-4)
        variables = {**variables, **new}
    predicted = norm.apply(variables, x, False)
    np.testing.assert_allclose(predicted, (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5), rtol=1e-5)


def test_drop_path():
    x = jnp.ones((4000, 2, 2, 3))

    def apply(rate, train):
        return layers.DropPath(rate).apply({}, x, train, rngs={"dropout": jax.random.key(3)})

    assert apply(0.5, False) is x and apply(0.0, True) is x
    assert (apply(1.0, True) == 0).all()
    y = np.asarray(apply(0.25, True))
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
    assert (y == y[:, :1, :1, :1]).all(), "an image keeps or loses its whole branch"
    assert abs(y.mean() - 1) < 4 * (0.25 / 0.75 / 4000) ** 0.5
    assert layers.drop_path_rates(0.3, (1, 2, 1)) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert layers.drop_path_rates(0.3, (1,)) == [0.3]


@pytest.mark.parametrize("family", ["resnet", "convnext"])
@pytest.mark.parametrize("knob", ["dropout", "drop_path"])
def test_dropping_needs_a_key_and_only_happens_in_training(family, knob):
    model, params, stats, image = make(family, **{knob: 0.5})
    step = jax.jit(lambda key, train: model.apply(params, stats, image, train=train, key=key)[0], static_argnums=1)

    def run(seed, train):
        return np.asarray(step(jax.random.key(seed), train).logits)

    assert not np.allclose(run(0, True), run(1, True))
    np.testing.assert_array_equal(run(0, True), run(0, True))
    np.testing.assert_array_equal(run(0, False), run(1, False))


def test_layer_scale():
    assert not any("gamma" in path for path in shapes(dataclasses.replace(TINY["convnext"], layer_scale=0.0))[0])
    params = models.build(dataclasses.replace(TINY["convnext"], layer_scale=0.25), 5).init(jax.random.key(0), 16)[0]
    assert (paths.flatten(params)["stage1/block1/gamma"] == 0.25).all()


@pytest.mark.parametrize("stem", ["imagenet", "small", "small2"])
def test_resnet_stems(stem):
    model = models.build(dataclasses.replace(TINY["resnet"], stem=stem), 5)
    params, stats = model.init(jax.random.key(0), 32)
    size = {"imagenet": 7, "small": 3, "small2": 3}[stem]
    assert paths.flatten(params)["stem/conv/kernel"].shape == (size, size, 3, 8)
    for side in (1, 33):  # any size passes
        image = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
        assert jax.eval_shape(lambda x: model.apply(params, stats, x, train=True)[0], image).logits.shape == (2, 5)


def test_depths_of_convnext_are_groups_of_three_blocks():
    """The twelve levels and the stem that the ConvNeXt paper decays the rates of its large networks by."""
    depth = models.build(ModelConfig(name="convnext_large"), 7).depth
    assert [depth(f"stage3/block{i}/gamma") for i in (1, 3, 4, 25, 27)] == [10, 10, 9, 2, 2]
    whole = {stage: {depth(f"stage{stage}/block{i}/gamma") for i in (1, 2, 3)} for stage in (1, 2, 4)}
    assert whole == {1: {12}, 2: {11}, 4: {1}}
    assert (depth("stem/conv/kernel"), depth("head/dense/kernel")) == (13, 0)


@pytest.mark.parametrize("family", TINY)
def test_depth_counts_blocks_from_the_head(family):
    model, params, *_ = make(family)
    depths = {path: model.depth(path) for path in paths.flatten(params)}
    blocks = len(model.depths) if family == "convnext" else sum(model.depths)  # at most three a stage: one group
    assert {d for p, d in depths.items() if p.startswith("head/")} == {0}
    assert {d for p, d in depths.items() if p.startswith("stem/")} == {blocks + 1}
    assert depths[next(p for p in depths if p.startswith("stage1/block1/"))] == blocks
    last = f"stage2/block{model.depths[-1]}/"
    assert {d for p, d in depths.items() if p.startswith(last)} == {1}
    if family == "convnext":
        assert depths["stage2/downsample/conv/kernel"] == depths["stage2/block1/gamma"]
    with pytest.raises(ConfigError, match="'body/kernel' is not a parameter"):
        model.depth("body/kernel")


@pytest.mark.parametrize("family", TINY)
def test_head_is_what_depends_on_the_classes(family):
    few, many = shapes(TINY[family], 5)[0], shapes(TINY[family], 9)[0]
    changed = {path for path in few if few[path] != many[path]}
    head = paths.compile_pattern(models.build(TINY[family], 5).head, knob="test")
    assert changed == {path for path in few if head.search(path)} == {"head/dense/kernel", "head/dense/bias"}


def test_later_changes_of_the_config_do_not_reach_the_network():
    config = dataclasses.replace(TINY["convnext"])
    model = models.build(config, 5)
    config.layer_scale = 0.0
    assert "stage1/block1/gamma" in paths.flatten(model.init(jax.random.key(0), 16)[0])


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"name": "resnet19"}, r"config\.model\.name: .*did you mean 'resnet18'"),
        ({"name": "vgg"}, r"config\.model\.name: expected one of resnet18, .*convnext_large, .*, found 'vgg'"),
        ({"stem": "small2", "name": "convnext_tiny"}, r"config\.model\.stem: expected one of 'imagenet', 'small'"),
        ({"stem": "big"}, r"config\.model\.stem"),
        ({"layer_scale": 0.1}, r"config\.model\.layer_scale: resnet18 does not read it"),
        ({"layer_scale": -1.0, "name": "convnext_tiny"}, r"config\.model\.layer_scale"),
        ({"depths": (1, 2)}, r"config\.model\.depths and widths: one number per stage"),
        ({"depths": (1, 0, 1, 1)}, r"config\.model\.depths"),
        ({"widths": (8, 16, 32, -1)}, r"config\.model\.widths"),
        ({"dropout": 1.5}, r"config\.model\.dropout"),
        ({"drop_path": -0.1}, r"config\.model\.drop_path"),
        ({"compute": "float16"}, r"config\.model\.compute: expected one of 'float32', 'bfloat16'"),
        ({"remat": "all"}, r"config\.model\.remat"),
    ],
)
def test_bad_knobs_are_named(knobs, message):
    with pytest.raises(ConfigError, match=message):
        models.build(ModelConfig(**knobs), 7)


def test_too_small_images_and_too_few_classes_are_refused():
    model = models.build(ModelConfig(name="convnext_atto"), 7)
    assert model.min_size == 32
    with pytest.raises(
        ConfigError, match=r"config\.image_size: convnext_atto needs images of at least 32 px, found 31"
    ):
        model.init(jax.random.key(0), 31)
    with pytest.raises(ConfigError, match="at least one class"):
        models.build(ModelConfig(), 0)
