"""Random weights of timm and torchvision through a file: written as they publish them, read by name alone, same logits.

Networks deeper than those of the default list agree too (`-m "peers and slow"`); what trains as theirs do is in
test_parity.py and its siblings.
"""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import shared_data
from test_models_large import golden, theirs

from emojax import models
from emojax.config import Config, ModelConfig
from emojax.models import pretrained

pytestmark = pytest.mark.peers
ROOT = Path(__file__).resolve().parents[1]
TIMM = {
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "convnext_atto": "convnext_atto",
    "mobilenetv3_small_100": "mobilenetv3_small",
    "mobilenetv3_large_100": "mobilenetv3_large",
    "tf_mobilenetv3_small_100": "mobilenetv3_small",
    "efficientnet_b0": "efficientnet_b0",
    "efficientnet_lite0": "efficientnet_lite0",
    "tf_efficientnet_b0": "efficientnet_b0",
    "tf_efficientnet_lite0": "efficientnet_lite0",
}
TORCHVISION = {
    "resnet34": "resnet34",
    "mobilenet_v3_small": "mobilenetv3_small",
    "mobilenet_v3_large": "mobilenetv3_large",
    "efficientnet_b0": "efficientnet_b0",
    "squeezenet1_1": "squeezenet1_1",
}
SLOW = {
    "timm": {
        "convnext_tiny": "convnext_tiny",
        "tf_efficientnet_b2": "efficientnet_b2",
        "vit_small_patch16_224": "vit_small_patch16",
        "vit_base_patch16_224": "vit_base_patch16",
    },
    "torchvision": {
        "convnext_tiny": "convnext_tiny",
        "efficientnet_b3": "efficientnet_b3",
        "resnet101": "resnet101",
        "vit_b_16": "vit_base_patch16",
    },
}


def slow(library):
    return [pytest.param(*pair, marks=pytest.mark.slow) for pair in SLOW[library].items()]


def agrees(net, name, folder, *, architecture="", size=65):
    """Weights of `net` in a file, which is all that emojax sees of them, give the logits of `net`."""
    torch = pytest.importorskip("torch")
    save = pytest.importorskip("safetensors.torch").save_file
    image = golden.images(size)
    state, expected, tolerance = theirs(net, image)  # torch's own float32 is up to 1.5e-3 off where logits reach 90
    save({k: torch.from_numpy(v) for k, v in state.items()}, folder / "model.safetensors")
    if architecture:
        (folder / "config.json").write_text(json.dumps({"architecture": architecture}))
    source = pretrained.open_source(str(folder / "model.safetensors"))
    assert source.layout is not None and pretrained.nearest(source) == (pretrained.Match(name, "imagenet", 7), "")
    config = Config(model=ModelConfig(name=name, weights=str(folder / "model.safetensors"), reinit=""))
    config = pretrained.resolved(config)
    model = models.build(config.model, 7)
    like = pretrained.shapes_of(model)
    params, stats = pretrained.merged(*like, pretrained.load(model, config.model, like))
    got = np.asarray(jax.jit(lambda p, s, x: model.apply(p, s, x, train=False)[0].logits)(params, stats, image))
    assert np.abs(expected).max() > 0.1 and np.abs(expected[0] - expected[1]).max() > 0.01, "too even to tell"
    assert np.abs(got - expected).max() < tolerance
    return config


@pytest.mark.parametrize(("theirs_", "name"), [*TIMM.items(), *slow("timm")])
def test_timm(theirs_, name, tmp_path):
    net = pytest.importorskip("timm").create_model(theirs_, num_classes=7)
    size = 224 if name.startswith("vit") else 65
    config = agrees(net, name, tmp_path, architecture=theirs_, size=size)
    assert (config.model.padding == "same") == theirs_.startswith("tf_")


@pytest.mark.parametrize(("theirs_", "name"), [*TORCHVISION.items(), *slow("torchvision")])
def test_torchvision(theirs_, name, tmp_path):
    net = pytest.importorskip("torchvision").models.get_model(theirs_, num_classes=7)
    agrees(net, name, tmp_path, size=224 if name.startswith("vit") else 97)


def test_positions_of_a_larger_grid_are_resized_as_timm_does():
    torch, timm = pytest.importorskip("torch"), pytest.importorskip("timm")
    position = np.random.default_rng(0).normal(size=(1, 1 + 24 * 24, 8)).astype(np.float32)
    want = timm.layers.resample_abs_pos_embed(torch.from_numpy(position), [14, 14]).numpy()
    got = models.build(ModelConfig(name="vit_small_patch16"), 7).from_torch({"pos_embed": position})[0]["stem"]
    np.testing.assert_allclose(got["position"], want, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 6])
def test_other_input_channels_undo_what_timm_does(channels, tmp_path):
    """timm gives a network for three channels another number; back in emojax it sees what it saw."""
    pytest.importorskip("torch")
    adapt = pytest.importorskip("timm").models.adapt_input_conv
    torch = pytest.importorskip("torch")
    kernel = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 3, 7, 7)).astype(np.float32))
    other = adapt(channels, kernel).numpy().transpose(2, 3, 1, 0)
    back = pretrained._stem("params/stem/conv/kernel", other, (7, 7, 3, 4))
    want = kernel.numpy().transpose(2, 3, 1, 0)
    if channels == 1:  # a grey picture has the same number in all channels: only their sum counts
        back, want = back.sum(2), want.sum(2)
    np.testing.assert_allclose(back, want, atol=1e-5)


def test_real_efficientnet_lite0_agrees_with_timm():
    """The same file, in timm under timm's names."""
    torch, timm = pytest.importorskip("torch"), pytest.importorskip("timm")
    path = (shared_data() or Path()) / "pretrained/efficientnet_lite0_imagenet.safetensors"
    if not path.is_file():
        pytest.skip("no real weights here")
    model = models.build(ModelConfig(name="efficientnet_lite0", padding="same", norm_epsilon=1e-3), 1000)
    params, stats = pretrained.merged(
        *pretrained.shapes_of(model),
        pretrained.load(
            model,
            ModelConfig(name="efficientnet_lite0", weights=str(path), reinit=""),
            pretrained.shapes_of(model),
        ),
    )
    net = timm.create_model("tf_efficientnet_lite0").eval()
    net.load_state_dict(_by_order(net, path), strict=False)
    image = golden.images(224)
    with torch.no_grad():
        want = net(torch.from_numpy(image).permute(0, 3, 1, 2)).numpy()
    got = model.apply(params, stats, image, train=False)[0].logits
    assert np.abs(np.asarray(got) - want).max() < 1e-4


def _by_order(net, path):
    """A state dict of timm's from that file, by the order of the modules instead of any rule of ours."""
    torch, load = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch").load_file
    state = load(path)
    groups = {}
    for key in state:
        groups.setdefault(key.rpartition(".")[0], []).append(key.rpartition(".")[2])
    rank = {"_expand_conv": 0, "_bn0": 1, "_depthwise_conv": 2, "_bn1": 3, "_project_conv": 4, "_bn2": 5}
    first, last = {"_conv_stem": -2, "_bn0": -1}, {"_conv_head": 1000, "_bn1": 1001, "_fc": 1002}

    def place(module):
        parts = module.split(".")
        if len(parts) == 1:
            return ({**first, **last}[module], 0)
        return (int(parts[1]), rank[parts[2]])

    ours = sorted(groups, key=place)
    names = [
        n for n, m in net.named_modules() if isinstance(m, torch.nn.Conv2d | torch.nn.BatchNorm2d | torch.nn.Linear)
    ]
    assert len(ours) == len(names)
    return {f"{b}.{leaf}": state[f"{a}.{leaf}"] for a, b in zip(ours, names, strict=True) for leaf in groups[a]}


def test_pickled_weights_are_converted(tmp_path):
    """By the script alone, which runs nothing of what it reads."""
    torch = pytest.importorskip("torch")
    script = [sys.executable, str(ROOT / "scripts/torch_to_safetensors.py")]
    torch.save({"epoch": 3, "state_dict": {"fc.weight": torch.ones(2, 3)}}, tmp_path / "good.pth")
    subprocess.run([*script, str(tmp_path / "good.pth"), str(tmp_path / "good.safetensors")], check=True)
    assert pretrained.open_source(str(tmp_path / "good.safetensors")).header.entries["fc.weight"].shape == (2, 3)

    class Evil:
        def __reduce__(self):
            return (Path.write_text, (tmp_path / "canary", "x"))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pth")
    ran = subprocess.run(
        [*script, str(tmp_path / "evil.pth"), str(tmp_path / "evil.safetensors")],
        check=False,
        capture_output=True,
        text=True,
    )
    assert ran.returncode and "no plain weights" in ran.stderr and "Traceback" not in ran.stderr
    assert not (tmp_path / "canary").exists() and not (tmp_path / "evil.safetensors").exists()
