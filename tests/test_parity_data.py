"""Augmentation against torchvision and timm, where they install: the same pixels, tables and targets."""

import numpy as np
import pytest
from PIL import Image

from emojax.data import colour, geometry, mixing, policies
from emojax.types import Batch

pytestmark = pytest.mark.peers

TORCHVISION = {name: name.title().replace("_", "") for name in policies.OPS} | {
    "colour": "Color",
    "autocontrast": "AutoContrast",
}


def noise(height=40, width=50, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def same(ours, theirs, *, tolerance=0, share=0.0):
    """Equal up to `tolerance`, but for a `share` of the pixels."""
    difference = np.abs(np.asarray(ours).astype(int) - np.asarray(theirs).astype(int))
    assert difference.size and (difference > tolerance).mean() <= share, difference.max()


@pytest.fixture
def functional():
    return pytest.importorskip("torchvision.transforms.v2.functional")


@pytest.fixture
def published():
    """The classes of torchvision that hold the tables of the three policies."""
    return pytest.importorskip("torchvision.transforms.autoaugment")


def torchvision_op(published, name, image, magnitude):
    mode = published.InterpolationMode.NEAREST
    return published._apply_op(image, TORCHVISION[name], magnitude, interpolation=mode, fill=None)


@pytest.mark.parametrize("name", policies.OPS)
def test_operations_give_torchvisions_pixels_at_every_magnitude(name, published):
    """With torchvision's own numbers, which are float32, and both signs; in colour and grey, square and not."""
    images = [Image.fromarray(noise(*size)) for size in ((32, 32), (40, 53))] + [Image.fromarray(noise()[..., 0])]
    for image in images:
        space = published.RandAugment()._augmentation_space(31, (image.height, image.width))
        magnitudes, signed = space.get(TORCHVISION[name], (np.zeros(()), False))
        for magnitude in np.unique(np.asarray(magnitudes, float)):
            for value in (magnitude, -magnitude) if signed else (magnitude,):
                ours = policies.OPS[name](np.asarray(image), value)
                # a source within a thousandth of a pixel's edge may fall to either side of it
                same(ours, torchvision_op(published, name, image, value), share=0.002 if name == "rotate" else 0)


def test_ranges_are_those_of_torchvision(published):
    """Every level of every operation, for RandAugment, AutoAugment and TrivialAugment."""
    for space, levels, ranges in (
        (published.RandAugment()._augmentation_space(31, (100, 200)), 31, policies.standard_ranges(200, 100)),
        (published.AutoAugment()._augmentation_space(10, (100, 200)), 10, policies.standard_ranges(200, 100)),
        (published.TrivialAugmentWide()._augmentation_space(31), 31, policies.wide_ranges()),
    ):
        names = [name for name in policies.OPS if TORCHVISION[name] in space]
        assert len(names) == len(space)
        for name in names:
            magnitudes, signed = space[TORCHVISION[name]]
            expected = np.broadcast_to(np.asarray(magnitudes, float), levels)
            ours = [policies.magnitude(name, i / (levels - 1), ranges=ranges, sign=0.9) for i in range(levels)]
            np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-4, err_msg=name)
            negative = policies.magnitude(name, 1.0, ranges=ranges, sign=0.1)
            assert (negative == -ours[-1] != 0) == signed
    assert [TORCHVISION[n] for n in policies.RANDOM_OPS] == list(
        published.RandAugment()._augmentation_space(31, (9, 9))
    )


def test_pairs_of_autoaugment_are_those_of_torchvision(published):
    expected = [
        tuple((name, probability, level or 0) for name, probability, level in pair)
        for pair in published.AutoAugment()._get_policies(published.AutoAugmentPolicy.IMAGENET)
    ]
    ours = [tuple((TORCHVISION[name], p, level) for name, p, level in pair) for pair in policies.IMAGENET_PAIRS]
    assert ours == expected


@pytest.mark.parametrize("name", ["shear_x", "shear_y", "rotate", "posterize", "solarize", "colour", "contrast",
                                  "brightness", "sharpness", "autocontrast", "equalize", "invert"])  # fmt: skip
def test_operations_shared_with_timm_give_its_pixels(name):
    timm = pytest.importorskip("timm.data.auto_augment")
    image = Image.fromarray(noise())
    magnitude = policies.magnitude(name, 0.7, ranges=policies.standard_ranges(50, 40), sign=0.9)
    function = timm.NAME_TO_OP[{"autocontrast": "AutoContrast"}.get(name, TORCHVISION[name])]
    arguments = {"shear_x", "shear_y", "rotate", "posterize", "solarize"}
    factor = (
        (magnitude,)
        if name in arguments
        else ()
        if name in ("autocontrast", "equalize", "invert")
        else (1 + magnitude,)
    )
    theirs = function(image, *factor, fillcolor=(0, 0, 0), resample=Image.Resampling.NEAREST)
    same(policies.OPS[name](np.asarray(image), magnitude), theirs, share=0.002 if name == "rotate" else 0)


def settled(width, height, map_of):
    """Where the pixels of a mapped image come wholly from inside or wholly from outside: at the seam, Pillow repeats
    the edge, while ours blends with what lies outside."""
    cover = map_of(np.full((height, width), 255, np.uint8))
    return (cover == 255) | (cover == 0)


@pytest.mark.parametrize("resample", ["bilinear", "nearest"])
def test_affine_is_torchvisions(functional, resample):
    image, rng = Image.fromarray(noise()), np.random.default_rng(0)
    for _ in range(20):
        degrees, zoom = float(rng.uniform(-30, 30)), float(rng.uniform(0.8, 1.2))
        x, y = (int(v) for v in rng.integers(-6, 7, 2))
        matrix = geometry.affine(50, 40, degrees=degrees, shift=(x / 50, y / 40), zoom=zoom)

        def ours(pixels, matrix=matrix):
            return geometry.warp(pixels, matrix, size=(50, 40), resample=resample, fill="black")

        theirs = functional.affine(
            image, angle=-degrees, translate=[x, y], scale=zoom, shear=[0.0, 0.0], fill=0,
            interpolation=functional.InterpolationMode(resample),
        )  # fmt: skip
        inside = settled(50, 40, ours)
        assert inside.mean() > 0.9
        # a source exactly between two pixels may fall to either side
        same(ours(noise())[inside], np.asarray(theirs)[inside], tolerance=1, share=0.002)


def test_perspective_is_torchvisions(functional):
    rng = np.random.default_rng(0)
    for width, height in ((50, 40), (33, 64)):
        image, right, bottom = Image.fromarray(noise(height, width)), width - 1, height - 1
        for _ in range(10):
            m = geometry.corner_moves(width, height, share=0.5, draw=tuple(rng.random(8)))
            start = [[0, 0], [right, 0], [right, bottom], [0, bottom]]
            end = [[m[0], m[1]], [right - m[2], m[3]], [right - m[4], bottom - m[5]], [m[6], bottom - m[7]]]
            theirs = functional.perspective(
                image, start, end, interpolation=functional.InterpolationMode.BILINEAR, fill=0
            )

            def ours(pixels, m=m):
                return geometry.perspective(pixels, moves=m, fill="black")

            inside = settled(width, height, ours)
            assert inside.mean() > 0.8
            same(ours(np.asarray(image))[inside], np.asarray(theirs)[inside], tolerance=1, share=0.002)


@pytest.mark.parametrize("side", [180, 224, 300, 400])
def test_random_crops_are_resized_as_torchvisions_default(functional, side):
    """Antialiased bilinear. Our filter is an approximation of it between whole factors: 1 of 256 in the mean."""
    smooth = functional.gaussian_blur(Image.fromarray(noise(side, side)), [7, 7], [1.2, 1.2])
    ours = geometry.View(np.asarray(smooth), 224).array().astype(int)
    theirs = np.asarray(functional.resize(smooth, [224, 224], antialias=True)).astype(int)
    assert np.abs(ours - theirs).mean() < 1.0


def test_corners_are_drawn_as_torchvision_draws_them():
    transforms = pytest.importorskip("torchvision.transforms")
    draws = np.random.default_rng(0).random((4000, 8))
    ours = np.array([geometry.corner_moves(48, 61, share=0.3, draw=tuple(d)) for d in draws])
    end = np.array([transforms.RandomPerspective.get_params(48, 61, 0.3)[1] for _ in range(4000)])
    theirs = np.stack([end[:, 0, 0], end[:, 0, 1], 47 - end[:, 1, 0], end[:, 1, 1]], 1)
    assert set(ours[:, 0]) == set(theirs[:, 0]) and set(ours[:, 1]) == set(theirs[:, 1])
    assert set(ours[:, 3]) == set(theirs[:, 3]) and set(ours[:, 2]) <= set(theirs[:, 2])
    np.testing.assert_allclose(ours[:, :2].mean(0), theirs[:, :2].mean(0), atol=0.25)


def test_colours_are_torchvisions(functional):
    pixels = noise()
    image = Image.fromarray(pixels)
    for factor in (0.0, 0.6, 1.0, 1.37):
        same(colour.brightness(pixels, factor), functional.adjust_brightness(image, factor))
        same(colour.contrast(pixels, factor), functional.adjust_contrast(image, factor))
        same(colour.saturation(pixels, factor), functional.adjust_saturation(image, factor))
    for shift in (-0.5, -0.1, 0.03, 0.5):  # at 0 torchvision still goes to HSV and back, with losses
        same(colour.hue(pixels, shift), functional.adjust_hue(image, shift))
    same(colour.grayscale(pixels), functional.to_grayscale(image, num_output_channels=1))
    for sigma in (0.1, 0.4, 1.0, 2.0):
        for picture in (image, Image.fromarray(noise()[..., 0])):
            ours, theirs = (
                colour.blur(np.asarray(picture), sigma),
                functional.gaussian_blur(picture, [3, 3], [sigma, sigma]),
            )
            same(ours, theirs, tolerance=1)
            same(ours, theirs, share=0.001)  # only ties may round the other way


def test_erased_rectangles_are_distributed_as_torchvisions():
    torch, transforms = pytest.importorskip("torch"), pytest.importorskip("torchvision.transforms")
    ours, theirs, rng = [], [], np.random.default_rng(0)
    for _ in range(1500):
        pixels = colour.erase(
            np.zeros((48, 48, 3), np.uint8), area=(0.02, 0.2), ratio=(0.3, 3.3), draw=tuple(rng.random(4))
        )
        rows, columns = np.flatnonzero(pixels.any((1, 2))), np.flatnonzero(pixels.any((0, 2)))
        ours.append((rows[0], columns[0], len(rows), len(columns)))
        theirs.append(transforms.RandomErasing.get_params(torch.zeros(3, 48, 48), (0.02, 0.2), (0.3, 3.3), [0.0])[:4])
    for a, b in zip(np.array(ours).T, np.array(theirs).T, strict=True):  # top, left, height, width
        grid = np.arange(49)
        gap = (
            np.abs(np.searchsorted(np.sort(a), grid, "right") - np.searchsorted(np.sort(b), grid, "right")).max() / 1500
        )
        assert gap < 0.071  # Kolmogorov-Smirnov, once in a thousand


def mixed_by_timm(torch, timm, image, label, *, share, cut, seed=0):
    """timm's batch of float images and targets; its partner is the batch in reverse order."""
    mixup = timm.Mixup(mixup_alpha=1.0, cutmix_alpha=1.0, label_smoothing=0.0, num_classes=label.shape[1])
    mixup._params_per_batch = lambda: (share, cut)
    np.random.seed(seed)  # what timm draws its box from
    x = torch.from_numpy(image.transpose(0, 3, 1, 2).astype(np.float32))
    x, target = mixup(x, torch.from_numpy(label.argmax(1)))
    return x.numpy().transpose(0, 2, 3, 1), target.numpy()


def make_batch(b=8, k=5):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (b, 20, 24, 3), dtype=np.uint8)
    label = np.eye(k, dtype=np.float32)[rng.integers(0, k, b)]
    return Batch(image=image, label=label, weight=np.ones(b, np.float32), index=np.arange(b, dtype=np.int32))


@pytest.mark.parametrize("share", [0.0, 0.25, 0.6171875, 1.0])
def test_mixup_is_timms(share):
    torch, timm = pytest.importorskip("torch"), pytest.importorskip("timm.data")
    batch, partner = make_batch(), np.arange(8)[::-1]
    image, used = mixing._mixup(batch.image, partner, share)
    label, _ = mixing._labels(batch, partner, used)
    pixels, target = mixed_by_timm(torch, timm, batch.image, batch.label, share=share, cut=False)
    assert used == share  # multiples of 1/256
    assert np.abs(image - pixels).max() <= 0.5 + 1e-4
    np.testing.assert_allclose(label, target, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 0.999])
def test_cutmix_is_timms(share):
    torch, timm = pytest.importorskip("torch"), pytest.importorskip("timm.data")
    batch, partner = make_batch(), np.arange(8)[::-1]
    for seed in range(10):
        np.random.seed(seed)
        y, x = np.random.randint(0, 20), np.random.randint(0, 24)
        image, used = mixing._cutmix(batch.image, partner, share, (y, x))
        label, _ = mixing._labels(batch, partner, used)
        pixels, target = mixed_by_timm(torch, timm, batch.image, batch.label, share=share, cut=True, seed=seed)
        np.testing.assert_array_equal(image, pixels)
        np.testing.assert_allclose(label, target, atol=1e-6)
