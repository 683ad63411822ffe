"""The small networks: sizes, maps, starts, heads, and logits against torchvision and timm."""

import functools
import runpy
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emojax import models, paths
from emojax.config import ModelConfig
from emojax.errors import CheckpointError, ConfigError
from emojax.models import layers, mobilenetv3, squeezenet
from emojax.models.pooling import max_pool

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "make_golden_logits.py"
golden = SimpleNamespace(**runpy.run_path(str(SCRIPT)))

INSPIRED = {  # classes -> parameters, from the seed's own code
    "mobilenet_inspired": {4: 3_211_076, 7: 3_214_151, 8: 3_215_176, 15: 3_222_351, 21: 3_228_501},
    "squeezenet_inspired": {4: 737_476, 7: 739_015, 8: 739_528, 15: 743_119, 21: 746_197},
    "resnet_inspired": {4: 11_178_564, 7: 11_180_103, 8: 11_180_616, 15: 11_184_207, 21: 11_187_285},
}
PUBLISHED = {"squeezenet1_1": 1_235_496, "mobilenetv3_small": 2_542_856, "mobilenetv3_large": 5_483_032}
"""Parameters at 1000 classes, torchvision 0.29."""
NAMES = [*INSPIRED, *PUBLISHED]


@functools.cache
def shapes(name, classes=7, **knobs):
    model = models.build(ModelConfig(name=name, **knobs), classes)
    trees = jax.eval_shape(lambda key: model.init(key, 64), jax.random.key(0))
    return [{path: a.shape for path, a in paths.flatten(tree).items()} for tree in trees]


def count(name, classes):
    return sum(np.prod(shape, dtype=int) for shape in shapes(name, classes)[0].values())


@functools.cache
def started(name, **knobs):
    model = models.build(ModelConfig(name=name, **knobs), 7)
    return model, *model.init(jax.random.key(0), 48)


def maps(name, size, **knobs):
    """Side of the last map of every stage."""
    module = models.build(ModelConfig(name=name, **knobs), 7).module

    def run(key, image):
        return module.init(key, image, False, capture_intermediates=lambda m, _: isinstance(m, layers.Stage))

    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    stages = jax.eval_shape(run, jax.random.key(0), image)["intermediates"]
    return [stages[f"stage{i + 1}"]["__call__"][0].shape[1] for i in range(len(stages))]


@pytest.mark.parametrize("name", INSPIRED)
def test_regression_08_parameter_counts_of_the_small_networks(name):
    assert {classes: count(name, classes) for classes in INSPIRED[name]} == INSPIRED[name]


def test_regression_08_squeeze_maps():
    assert maps("squeezenet_inspired", 224) == [56, 28, 14]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameter_counts(name):
    assert count(name, 1000) == PUBLISHED[name]


def test_maps_of_the_others():
    assert maps("mobilenet_inspired", 224) == [112, 56, 28, 14, 7]
    assert maps("resnet_inspired", 224) == [56, 28, 14, 7]
    assert maps("squeezenet1_1", 224) == [55, 27, 13]
    assert maps("mobilenetv3_small", 224) == [56, 28, 14, 7]
    assert maps("mobilenetv3_large", 224) == [112, 56, 28, 14, 7]


def test_maps_of_small_images():
    """The first convolution at stride 1, and without the first max-pool where there is one."""
    assert maps("mobilenet_inspired", 48, stem="small") == [48, 24, 12, 6, 3]
    assert maps("squeezenet_inspired", 48, stem="small") == [48, 24, 12]
    assert maps("resnet_inspired", 48, stem="small") == [48, 24, 12, 6]
    assert maps("squeezenet1_1", 48, stem="small") == [46, 23, 11]
    assert maps("mobilenetv3_small", 48, stem="small") == [24, 12, 6, 3]
    assert maps("squeezenet_inspired", 48) == [12, 6, 3]
    assert maps("squeezenet_inspired", 1) == [1, 1, 1]
    for name in INSPIRED:
        if name != "resnet_inspired":  # its small stem is a smaller convolution
            assert shapes(name, stem="small") == shapes(name)


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 6, 7, 13, 14])
def test_max_pool_by_hand(side):
    """Of rising numbers a window's maximum is its last pixel, or the map's last where the window reaches past it."""
    x = jnp.broadcast_to(jnp.arange(float(side))[None, :, None, None], (1, side, side, 1))
    padded = max_pool(x)[0, :, 0, 0]
    np.testing.assert_array_equal(padded, [min(2 * i + 1, side - 1) for i in range((side + 1) // 2)])
    ceil = max_pool(x, padding=0, ceil=True)[0, :, 0, 0]
    np.testing.assert_array_equal(ceil, [min(2 * i + 2, side - 1) for i in range(max(1, side // 2))])
    floor = max_pool(x, padding=0)[0, :, 0, 0]
    np.testing.assert_array_equal(floor, [min(2 * i + 2, side - 1) for i in range(max(1, (side - 1) // 2))])


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_has_a_place(name):
    """Depth grows from the head to the stem without a gap: freezing and layer-wise rates rely on it."""
    model = models.build(ModelConfig(name=name), 7)
    found = {path: model.depth(path) for path in shapes(name)[0]}
    assert set(found.values()) == set(range(sum(model.depths) + 2))
    assert {path for path, depth in found.items() if depth == 0} == {p for p in found if p.startswith("head/")}
    assert all(path.startswith("stem/") for path, depth in found.items() if depth == sum(model.depths) + 1)


@pytest.mark.parametrize("name", INSPIRED)
def test_inspired_networks_start_as_torch_layers_do(name):
    params = paths.flatten(started(name)[1])
    for path, value in params.items():
        module, _, leaf = path.rpartition("/")
        kernel = params.get(f"{module}/kernel")
        if kernel is None:
            np.testing.assert_array_equal(value, np.float32(leaf == "scale"), err_msg=path)
            continue
        bound = np.prod(kernel.shape[:-1]) ** -0.5  # a depthwise filter has 9 inputs
        assert np.abs(value).max() <= bound * (1 + 1e-6), path
        if value.size > 1000:
            assert abs(value.std() * 3**0.5 / bound - 1) < 0.1 and np.abs(value).max() > 0.98 * bound, path


@pytest.mark.peers
@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenetv3_small"])
def test_published_networks_start_as_torchvision_does(name):
    """Standard deviations of every tensor against a network that torchvision made."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    models_ = pytest.importorskip("torchvision").models
    net = models_.get_model(name.replace("netv3", "net_v3"), num_classes=7)
    state = {k: v.numpy() for k, v in net.state_dict().items() if v.ndim}
    model, params, _ = started(name)
    theirs, ours = paths.flatten(model.from_torch(state)[0]), paths.flatten(params)
    for path, value in ours.items():
        if value.size > 1000 and value.ndim > 1:
            assert abs(value.std() / theirs[path].std() - 1) < 0.1, path
            tail = np.abs(value).max() / value.std(), np.abs(theirs[path]).max() / theirs[path].std()
            assert (tail[0] < 1.8) == (tail[1] < 1.8), path  # uniform or normal
        elif value.ndim == 1:
            np.testing.assert_array_equal(value, theirs[path], err_msg=path)


TINY = {"depths": (1, 2), "widths": (8, 16)}
IMAGE = jnp.asarray(np.random.default_rng(0).standard_normal((4, 48, 48, 3)), jnp.float32)


def train(name, **knobs):
    """(loss, output, gradient, statistics before and after) of one step on images of 48 px."""
    model, params, stats = started(name, stem="small", dropout=0.2, **knobs)

    def loss(params):
        output, new = model.apply(params, stats, IMAGE, train=True, key=jax.random.key(1))
        chosen = jax.nn.log_softmax(output.logits)[jnp.arange(4), jnp.arange(4)]
        return -chosen.mean(), (output, new)

    (value, (output, new)), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return float(value), output, paths.flatten(gradient), paths.flatten(stats), paths.flatten(new)


SLOW = [pytest.param(name, {}, marks=pytest.mark.slow) for name in NAMES if name != "squeezenet_inspired"]


@pytest.mark.parametrize(("name", "sizes"), [("mobilenet_inspired", TINY), ("squeezenet_inspired", {}), *SLOW])
def test_training_at_48_px(name, sizes):
    """Every parameter gets a gradient and every statistic moves; the features are the mean of the last map."""
    _, output, gradient, before, after = train(name, **sizes)
    assert output.logits.shape == (4, 7)
    np.testing.assert_allclose(output.features, output.aux[0].mean((1, 2)), rtol=1e-4, atol=1e-5)
    for path, leaf in gradient.items():
        assert leaf.dtype == jnp.float32 and np.isfinite(leaf).all() and np.abs(leaf).max() > 0, path
    for path in before:
        assert after[path].dtype == jnp.float32 and (after[path] != before[path]).any(), path


@pytest.mark.slow
@pytest.mark.parametrize(("name", "sizes"), [("mobilenet_inspired", TINY), *SLOW])
def test_recomputation_and_bfloat16_leave_the_numbers_alone(name, sizes):
    value, _, gradient, _, _ = train(name, **sizes)
    again, _, regradient, _, _ = train(name, remat="blocks", **sizes)
    assert abs(again - value) < 1e-5
    largest = max(np.abs(leaf).max() for leaf in gradient.values())
    for path, leaf in gradient.items():
        np.testing.assert_allclose(regradient[path], leaf, rtol=1e-2, atol=1e-4 * largest, err_msg=path)
    rough, output, gradient, _, _ = train(name, compute="bfloat16", **sizes)
    assert output.logits.dtype == jnp.float32 and 0 < abs(rough - value) < 0.05 * value
    assert all(leaf.dtype == jnp.float32 for leaf in gradient.values())


def test_final_relu():
    model, params, stats = started("squeezenet_inspired")
    params = {**params, "head": {"dense": {**params["head"]["dense"], "bias": jnp.asarray([5.0, -5.0] + [0.0] * 5)}}}
    plain = models.build(ModelConfig(name="squeezenet_inspired", final_relu=0), 7)
    with_relu, without = (
        np.asarray(jax.jit(functools.partial(m.apply, train=False))(params, stats, IMAGE)[0].logits)
        for m in (model, plain)
    )
    assert (with_relu >= 0).all() and (with_relu[:, 1] == 0).all() and (without[:, 1] < -3).all()
    np.testing.assert_allclose(with_relu[:, 0], without[:, 0], rtol=1e-5)  # positive on every pixel


@pytest.mark.parametrize("name", ["squeezenet_inspired", "mobilenetv3_small"])
def test_own_and_linear_heads(name):
    """Without dropout the squeeze head less its ReLU is linear; the other one has a hidden layer."""
    assert {p for p in shapes(name, head="linear")[0] if p.startswith("head/")} == {
        "head/dense/bias",
        "head/dense/kernel",
    }
    own = {p: s for p, s in shapes(name)[0].items() if p.startswith("head/")}
    if name == "squeezenet_inspired":
        assert own["head/dense/kernel"] == (512, 7) and len(own) == 2
    else:
        assert own["head/dense1/kernel"] == (576, 1024) and own["head/dense/kernel"] == (1024, 7)


@pytest.mark.parametrize("make", [squeezenet.Classifier, mobilenetv3.Classifier])
def test_dropout_of_the_published_heads(make):
    """Off outside training; at rate 1 only the last bias is left."""
    head = make(
        **{"classes": 2, "dropout": 1.0, **({"relu": False} if make is squeezenet.Classifier else {"width": 4})}
    )
    x = jnp.ones((2, 3, 3, 5))
    params = jax.tree.map(jnp.ones_like, head.init(jax.random.key(0), x, False))
    logits, features, _ = head.apply(params, x, False)
    expected = 5 + 1 if make is squeezenet.Classifier else 4 * 6 + 1  # hard_swish(5 + 1) is 6
    assert (logits == expected).all() and (features == 1).all()
    assert (head.apply(params, x, True, rngs={"dropout": jax.random.key(0)})[0] == 1).all()


@pytest.mark.parametrize(
    ("name", "knobs", "found"),
    [
        ("mobilenet_inspired", {"stem": "small2"}, "config.model.stem"),
        ("squeezenet_inspired", {"depths": (1, 1, 1)}, "config.model.depths"),
        ("squeezenet1_1", {"widths": (8,)}, "config.model.widths"),
        ("mobilenetv3_small", {"depths": (1,)}, "config.model.depths"),
        ("squeezenet_inspired", {"drop_path": 0.1}, "config.model.drop_path"),
        ("mobilenet_inspired", {"drop_path": 0.1}, "config.model.drop_path"),
        ("mobilenetv3_small", {"layer_scale": 0.1}, "config.model.layer_scale"),
    ],
)
def test_knobs_without_meaning_are_refused(name, knobs, found):
    with pytest.raises(ConfigError, match=found):
        models.build(ModelConfig(name=name, **knobs), 7)


def test_sizes_of_the_inspired_networks_can_be_chosen():
    tiny = shapes("mobilenet_inspired", depths=(1, 2), widths=(8, 12))[0]
    assert tiny["stem/conv/kernel"] == (3, 3, 3, 4) and tiny["stage2/block2/pointwise/conv/kernel"] == (1, 1, 12, 12)
    assert "stage2/block3/dwconv/conv/kernel" not in tiny
    assert "stage4/block1/conv1/conv/kernel" in shapes("resnet_inspired", depths=(1, 1, 1, 1))[0]
    assert "stage4/block2/conv1/conv/kernel" not in shapes("resnet_inspired", depths=(1, 1, 1, 1))[0]


PEERS = {
    "squeezenet1_1": "squeezenet1_1",
    "squeezenet_inspired": "squeezenet1_0",
    "mobilenetv3_small": "mobilenet_v3_small",
    "mobilenetv3_large": "mobilenet_v3_large",
    "resnet_inspired": "resnet18",
}


def peer(name):
    """(torch network with drawn weights, its state)."""
    torch = pytest.importorskip("torch")
    if name == "mobilenet_inspired":
        net = pytest.importorskip("timm").create_model("mobilenetv1_100", num_classes=7)
    else:
        net = pytest.importorskip("torchvision").models.get_model(PEERS[name], num_classes=7)
    if name == "squeezenet_inspired":
        net.features[0].padding = (3, 3)
    state = golden.weights({k: v.shape for k, v in net.state_dict().items() if v.ndim})
    net.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, strict=False)
    return net, state


@pytest.mark.peers
@pytest.mark.parametrize("size", [64, pytest.param(97, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NAMES)
def test_agrees_with_torch(name, size):
    torch = pytest.importorskip("torch")
    net, state = peer(name)
    image = golden.images(size)
    with torch.no_grad():
        expected = net.eval()(torch.from_numpy(image).permute(0, 3, 1, 2)).numpy()
    model = models.build(ModelConfig(name=name), 7)
    params, stats = model.from_torch(state)
    assert [{p: a.shape for p, a in paths.flatten(tree).items()} for tree in (params, stats)] == shapes(name)
    got = jax.jit(functools.partial(model.apply, train=False))(params, stats, image)[0].logits
    assert np.abs(expected).max() > 0.1, "the weights must make logits that could be wrong"
    assert np.abs(got - expected).max() < 1e-4


@pytest.mark.peers
def test_mobilenetv3_trains_as_torchvision_does():
    """One forward pass in train mode: every running mean and variance after it, and the logits."""
    torch = pytest.importorskip("torch")
    net, state = peer("mobilenetv3_small")
    net.classifier[2].p = 0.0
    image = np.random.default_rng(0).standard_normal((8, 64, 64, 3)).astype(np.float32)
    with torch.no_grad():
        expected = net.train()(torch.from_numpy(image).permute(0, 3, 1, 2)).numpy()
    model = models.build(ModelConfig(name="mobilenetv3_small"), 7)
    output, moved = jax.jit(functools.partial(model.apply, train=True))(*model.from_torch(state), image)
    assert np.abs(output.logits - expected).max() < 1e-3
    want = paths.flatten(model.from_torch({k: v.numpy() for k, v in net.state_dict().items() if v.ndim})[1])
    for path, array in paths.flatten(moved).items():
        np.testing.assert_allclose(array, want[path], rtol=1e-4, atol=1e-5, err_msg=path)


def test_weights_of_another_size_are_refused():
    with pytest.raises(CheckpointError, match=r"features\.12\.0\.weight"):
        models.build(ModelConfig(name="mobilenetv3_large"), 7).from_torch(
            {"features.12.0.weight": np.zeros((2, 2, 1, 1))}
        )
