"""Transforms against pixels worked out by hand."""

import dataclasses
import math
import statistics

import cv2
import numpy as np
import pytest
from odd_images import encode
from PIL import Image, ImageEnhance

from emojax.config import AugmentConfig
from emojax.data import colour, geometry
from emojax.data.sampling import generator
from emojax.data.transforms import STEPS, Draws, check_order, eval_image, scaled, train_image
from emojax.errors import ConfigError

EVERYTHING = AugmentConfig(
    crop_area=(0.5, 1.0), pad=2, flip=0.5, rotate=20.0, translate=0.1, zoom=0.1, brightness=0.3, contrast=0.3,
    saturation=0.3, hue=0.1, perspective=0.3, grayscale=0.3, blur=0.5, policy="randaugment", erase=0.5,
)  # fmt: skip


def noise(height=16, width=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def train(data, augment, *, size=16, strength=1.0, position=0):
    return train_image(data, augment=augment, size=size, strength=strength, rng=generator(0, position))


def test_without_augmentation_training_sees_the_evaluation_view():
    for pixels in (noise(), noise(20, 31), noise(5, 3)):
        np.testing.assert_array_equal(train(pixels, AugmentConfig()), eval_image(pixels, size=16, crop=1.0))
    np.testing.assert_array_equal(train(noise(), AugmentConfig()), noise())


def test_strength_zero_switches_everything_off():
    np.testing.assert_array_equal(train(noise(), EVERYTHING, strength=0.0), noise())
    doubled = scaled(EVERYTHING, 2.0)
    assert (doubled.flip, doubled.rotate, doubled.pad) == (0.5, 40.0, 4)
    assert doubled.crop_area == (0.01, 1.0) and doubled.hue == 0.2 and doubled.zoom == pytest.approx(0.2)
    assert (doubled.perspective, doubled.grayscale, doubled.blur) == (0.6, 0.6, 1.0)
    assert doubled.policy_magnitude == 18.0 and scaled(EVERYTHING, 5.0).policy_magnitude == 30.0
    assert scaled(EVERYTHING, 0.3).policy_magnitude == pytest.approx(2.7)


@pytest.mark.parametrize("policy", ["randaugment", "autoaugment", "trivialaugment"])
def test_strength_zero_switches_every_policy_off(policy):
    augment = AugmentConfig(policy=policy)
    for i in range(10):
        np.testing.assert_array_equal(train(noise(), augment, strength=0.0, position=i), noise())
    assert any((train(noise(), augment, position=i) != noise()).any() for i in range(10))


def test_the_order_of_the_steps_is_a_knob():
    """Black corners come from `affine`; `invert` of AutoAugment makes them white only when it runs after it."""
    ones = np.ones((16, 16, 3), np.uint8)
    turned = AugmentConfig(rotate=45.0, fill="black", resample="nearest", policy="autoaugment")
    orders = ("crop", "affine", "policy"), ("crop", "policy", "affine"), ("crop", "policy"), ("crop",)
    after, before, alone, nothing = (
        [train(ones, dataclasses.replace(turned, order=order), position=i) for i in range(100)] for order in orders
    )
    np.testing.assert_array_equal(nothing, [ones] * 100)
    corners = {(int(a[0, 0, 0]), int(b[0, 0, 0])) for a, b in zip(after, before, strict=True)}
    assert (0, 0) in corners and (255, 0) in corners and not {b for _, b in corners} - {0, 1, 254}
    # the choices do not depend on the order: in the middle of a flat image both orders give the same
    for a, b, c in zip(after, before, alone, strict=True):
        if c[8, 8, 0] == 254:
            assert a[8, 8, 0] == b[8, 8, 0] == 254


@pytest.mark.parametrize(
    "order",
    [(), ("flip", "crop"), ("crop", "flip", "flip"), ("crop", "erase", "flip"), ("crop", "shear"), ("crop", "crop")],
)
def test_a_wrong_order_is_refused(order):
    with pytest.raises(ConfigError, match=r"config\.augment\.order: .*perspective, grayscale, blur, policy"):
        check_order(order)
    with pytest.raises(ConfigError):
        train(noise(), AugmentConfig(order=order))
    check_order(AugmentConfig().order)
    assert AugmentConfig().order == ("crop", *STEPS, "erase")


def test_flip_of_known_pixels():
    pixels = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    np.testing.assert_array_equal(train(pixels, AugmentConfig(flip=1.0), size=3), pixels[:, ::-1])
    mirrored = sum((train(pixels, AugmentConfig(flip=0.25), size=3, position=i) != pixels).any() for i in range(400))
    assert 75 <= mirrored <= 125  # 100 expected, standard deviation 8.7


def test_grey_pictures_give_the_same_result_in_one_and_three_channels():
    grey = noise()[..., 0]
    for i in range(40):
        one = train(grey, EVERYTHING, size=20, position=i)
        three = train(np.repeat(grey[..., None], 3, 2), EVERYTHING, size=20, position=i)
        np.testing.assert_array_equal(one, three)


def test_encoded_and_decoded_pictures_give_the_same_result():
    for i in range(10):
        a, b = train(encode(noise(), "PNG"), EVERYTHING, position=i), train(noise(), EVERYTHING, position=i)
        np.testing.assert_array_equal(a, b)


def moved(pixels, *, degrees=0.0, shift=(0.0, 0.0), zoom=1.0, **options):
    size = pixels.shape[1], pixels.shape[0]
    matrix = geometry.affine(*size, degrees=degrees, shift=shift, zoom=zoom)
    return geometry.warp(pixels, matrix, size=size, **options)


def test_affine_identity_and_whole_pixel_moves_are_exact():
    np.testing.assert_array_equal(moved(noise(12, 8)), noise(12, 8))
    right = moved(noise(12, 8), shift=(0.25, 0))  # two pixels
    np.testing.assert_array_equal(right[:, 2:], noise(12, 8)[:, :-2])
    assert (right[:, :2] == geometry.border_colour(noise(12, 8))).all()


def test_a_quarter_turn_is_counter_clockwise():
    np.testing.assert_array_equal(moved(noise(), degrees=90), np.rot90(noise()))


def test_zoom_enlarges_about_the_centre():
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[2:6, 2:6] = 200
    assert (moved(pixels, zoom=2)[1:7, 1:7] == 200).all()


def test_corners_take_the_border_colour():
    pixels = np.full((9, 9, 3), 50, np.uint8)
    pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1] = ((10, 20, 30),) * 4
    np.testing.assert_array_equal(moved(pixels, degrees=45)[0, 0], (10, 20, 30))
    assert geometry.border_colour(np.array([[1, 2], [3, 5]], np.uint8)) == (3,)  # 11 / 4 = 2.75
    assert geometry.border_colour(np.array([[7]], np.uint8)) == (7,)


def test_outside_is_black_or_the_border_colour_and_nearest_invents_no_colours():
    image = np.where(np.arange(16)[:, None, None] < 8, 30, 220).astype(np.uint8).repeat(16, 1).repeat(3, 2)
    black = moved(image, degrees=30, fill="black")
    assert (black[0, 0] == 0).all() and (black[15, 15] == 0).all()
    nearest = moved(image, degrees=30, resample="nearest", fill="black")
    assert set(np.unique(nearest)) == {0, 30, 220} < set(np.unique(black))
    assert (moved(image, degrees=30)[0, 0] == geometry.border_colour(image)).all()


def random_moves(rng):
    turn = {"degrees": rng.uniform(-40, 40), "shift": tuple(rng.uniform(-0.2, 0.2, 2)), "zoom": rng.uniform(0.8, 1.3)}
    return [("flip", None), ("turn", turn), ("flip", None), ("turn", turn | {"degrees": 10.0})]


def test_any_run_of_crop_flips_and_turns_is_one_resampling():
    """Points go through the steps one by one, by their definitions; then the crop is read there once, in float64."""
    rng, size = np.random.default_rng(0), 32
    smooth = cv2.GaussianBlur(noise(90, 80), (0, 0), 3)
    for mirror_first in (False, True):
        view = geometry.View(smooth[10:40, 20:48], size, fill="black")
        y, x = np.mgrid[0:size, 0:size] + 0.5
        steps = random_moves(rng)[1 - mirror_first :]
        for kind, turn in steps:
            if kind == "flip":
                view = view.flipped()
            else:
                view = view.turned(geometry.affine(size, size, **turn), resample="bilinear", fill="black")
        for kind, turn in reversed(steps):
            if kind == "flip":
                x = size - x
                continue
            angle, (dx, dy) = math.radians(turn["degrees"]), (size * s for s in turn["shift"])
            u, v = (x - size / 2 - dx) / turn["zoom"], (y - size / 2 - dy) / turn["zoom"]
            x = size / 2 + u * math.cos(angle) - v * math.sin(angle)
            y = size / 2 + u * math.sin(angle) + v * math.cos(angle)
        x, y = x * 28 / size - 0.5, y * 30 / size - 0.5
        padded = np.pad(smooth[10:40, 20:48], ((1, 1), (1, 1), (0, 0))).astype(float)
        left, top = np.clip(np.floor(x).astype(int), -1, 27), np.clip(np.floor(y).astype(int), -1, 29)
        a, b = np.clip(x - left, 0, 1)[..., None], np.clip(y - top, 0, 1)[..., None]
        rows = [padded[top + i, left + 1] * (1 - a) + padded[top + i, left + 2] * a for i in (1, 2)]
        expected = np.where(((x > -1) & (x < 28) & (y > -1) & (y < 30))[..., None], rows[0] * (1 - b) + rows[1] * b, 0)
        assert np.abs(view.array() - expected).max() < 1.01


@pytest.mark.parametrize("side", [225, 300, 336, 400, 448, 500, 800])
def test_random_crops_shrink_like_antialiased_bilinear(side):
    """Pillow's, which torchvision takes for both kinds of images."""
    picture = cv2.GaussianBlur(noise(side, side), (0, 0), 1.2)
    ours = geometry.View(picture, 224).array().astype(float)
    theirs = np.asarray(Image.fromarray(picture).resize((224, 224), Image.Resampling.BILINEAR)).astype(float)
    assert np.sqrt(((ours - theirs) ** 2).mean()) < 1.5
    plain = cv2.resize(picture, (224, 224), interpolation=cv2.INTER_LINEAR).astype(float)
    if side > 300:
        assert ((ours - theirs) ** 2).mean() < ((plain - theirs) ** 2).mean() / 2.5


def test_random_crops_do_not_alias():
    """Stripes of one pixel cannot be shown at about half the size: they become nearly even grey, more so than by
    averaging areas; without a filter they would come out as wide stripes."""
    stripes = np.zeros((448, 448), np.uint8)
    stripes[:, ::2] = 255
    for side in (448, 440, 400, 360, 320):
        part = stripes[:side, :side]
        shrunk = geometry.View(part, 224).array()[:, 2:-2].std()
        areas, plain = (
            cv2.resize(part, (224, 224), interpolation=how)[:, 2:-2].std() for how in (cv2.INTER_AREA, cv2.INTER_LINEAR)
        )
        assert shrunk <= areas + 1 and (side == 448 or shrunk < plain / 2)


def test_perspective_by_hand():
    np.testing.assert_array_equal(geometry.perspective(noise(), moves=(0,) * 8), noise())
    white = np.full((17, 17, 3), 255, np.uint8)
    # all corners 4 pixels inwards: the picture shrinks to the pixels 4 ... 12
    shrunk = geometry.perspective(white, moves=(4,) * 8, fill="black")[..., 0]
    assert (shrunk[5:12, 5:12] == 255).all() and shrunk[:4].max() == shrunk[13:].max() == shrunk[:, :4].max() == 0
    assert (geometry.perspective(white, moves=(4,) * 8) == 255).all()
    # only the top left corner moves: the other three stay where they were
    one = geometry.perspective(white, moves=(6, 6, 0, 0, 0, 0, 0, 0), fill="black")[..., 0]
    assert one[0, 0] == one[3, 3] == 0 and one[15, 15] == one[1, 15] == one[15, 1] == one[8, 8] == 255


def test_corners_move_inwards_by_up_to_the_share_of_half_a_side():
    draws = np.random.default_rng(0).random((2000, 8))
    moves = np.array([geometry.corner_moves(100, 61, share=0.2, draw=tuple(d)) for d in draws])
    assert set(moves[:, 0::2].ravel()) == set(range(11)) and set(moves[:, 1::2].ravel()) == set(range(7))
    assert moves[:, 0].mean() == pytest.approx(5, abs=0.3)
    for i in range(50):  # corners on one line have no map; that must not end in an error
        corners = geometry.corner_moves(8, 8, share=1.0, draw=tuple(draws[i]))
        assert geometry.perspective(noise(8, 8), moves=corners).shape == (8, 8, 3)
    assert geometry.perspective(noise(8, 8), moves=(3, 3, 1, 0, 0, 0, 0, 1)).shape == (8, 8, 3)


def test_pad_crop_reflects_without_repeating_the_edge():
    row = np.arange(5, dtype=np.uint8)[None].repeat(5, 0)
    np.testing.assert_array_equal(geometry.pad_crop(row, 2, draw=(0.0, 0.5))[0], [2, 1, 0, 1, 2])
    np.testing.assert_array_equal(geometry.pad_crop(row, 2, draw=(0.999, 0.5))[0], [2, 3, 4, 3, 2])


def test_random_boxes_stay_inside_and_have_the_asked_area_and_shape():
    rng = np.random.default_rng(0)
    for width, height in ((100, 100), (300, 40), (1, 4000), (7, 5)):
        for _ in range(200):
            left, top, right, bottom = geometry.random_box(
                width, height, area=(0.2, 0.6), ratio=(0.75, 4 / 3), draw=tuple(rng.random(4))
            )
            assert 0 <= left < right <= width and 0 <= top < bottom <= height
            share = (right - left) * (bottom - top) / (width * height)
            assert 0.199 < share < 0.601
            if (width, height) == (100, 100):
                assert 0.74 < (right - left) / (bottom - top) < 1.34


def test_random_box_by_hand():
    # 16 x 16, area 1/4, ratio 1: an 8 x 8 box; x at 0, y at the far end
    box = geometry.random_box(16, 16, area=(0.25, 0.25), ratio=(1, 1), draw=(0.3, 0.3, 0.0, 1.0))
    assert box == pytest.approx((0, 8, 8, 16))


def test_eval_crop_is_the_central_square():
    pixels = noise(32, 64)
    np.testing.assert_array_equal(eval_image(pixels, size=32, crop=1.0), pixels[:, 16:48])
    np.testing.assert_array_equal(eval_image(pixels, size=16, crop=0.5), pixels[8:24, 24:40])
    assert eval_image(noise(1, 4000), size=64, crop=0.875).shape == (64, 64, 3)


def test_squashing_keeps_the_whole_picture():
    """Quarters of one grey each, twice as wide as high: the central square has two of them, the whole picture four."""
    grey = np.repeat(np.array([0, 80, 160, 240], np.uint8), 16)
    pixels = np.broadcast_to(grey[None, :, None], (32, 64, 3)).copy()
    whole = eval_image(pixels, size=32, crop=1.0, fit="squash")
    np.testing.assert_array_equal(whole[:, [3, 11, 19, 27]], np.full((32, 4, 3), [[[0], [80], [160], [240]]]))
    np.testing.assert_array_equal(
        eval_image(pixels, size=32, crop=1.0)[:, [3, 27]], np.full((32, 2, 3), [[[80], [160]]])
    )
    middle = eval_image(pixels, size=32, crop=0.5, fit="squash")  # 16 x 32 of it
    np.testing.assert_array_equal(middle[:, [3, 27]], np.full((32, 2, 3), [[[80], [160]]]))
    seen = train_image(pixels, augment=AugmentConfig(), size=32, strength=1.0, rng=generator(0, 0), fit="squash")
    np.testing.assert_array_equal(seen, whole)


def test_jitter_factor_one_changes_nothing():
    for function in (colour.brightness, colour.contrast, colour.saturation):
        np.testing.assert_array_equal(function(noise(), 1.0), noise())
    np.testing.assert_array_equal(colour.hue(noise(), 0.0), noise())


def test_jitter_by_hand():
    image = np.array([[[100, 100, 100], [200, 200, 200]]], np.uint8)
    np.testing.assert_array_equal(colour.brightness(image, 0.5)[0, :, 0], (50, 100))
    np.testing.assert_array_equal(colour.brightness(image, 2.0)[0, :, 0], (200, 255))
    np.testing.assert_array_equal(colour.contrast(image, 0.5)[0, :, 0], (125, 175))  # mean 150
    red = np.array([[[255, 0, 0]]], np.uint8)
    np.testing.assert_array_equal(colour.saturation(red, 0.0)[0, 0], (76, 76, 76))  # 0.299 * 255
    np.testing.assert_allclose(colour.hue(red, 1 / 3)[0, 0], (0, 255, 0), atol=3)
    assert len(set(colour.ORDERS)) == 24
    both = {"brightness": 2.0, "contrast": 0.0}
    first, second = (colour.jitter(image, both, order=i)[0, 0, 0] for i in (0, 23))
    assert (first, second) == (228, 255)  # brighter, then mean of (200, 255); or mean 150, then twice as bright


def test_colours_are_pillows_to_the_pixel():
    """OpenCV's kernels with tables and weights of ours, against the definitions; Pillow is always there to compare."""
    pixels = noise(61, 47)
    image = Image.fromarray(pixels)
    np.testing.assert_array_equal(colour.grayscale(pixels), np.asarray(image.convert("L")))
    for factor in np.linspace(0, 2.5, 26):
        for ours, theirs in (
            (colour.brightness, ImageEnhance.Brightness),
            (colour.contrast, ImageEnhance.Contrast),
            (colour.saturation, ImageEnhance.Color),
        ):
            np.testing.assert_array_equal(ours(pixels, factor), np.asarray(theirs(image).enhance(factor)))
    for shift in (-0.5, -0.1, 0.03, 0.5):
        h, s, v = image.convert("HSV").split()
        h = h.point([(value + int(shift * 255)) % 256 for value in range(256)])
        expected = np.asarray(Image.merge("HSV", (h, s, v)).convert("RGB"))
        np.testing.assert_array_equal(colour.hue(pixels, shift), expected)


def test_grayscale_and_blur_by_hand():
    red = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    np.testing.assert_array_equal(colour.grayscale(red), [[76, 150, 29]])
    for i in range(5):
        grey = train(noise(), AugmentConfig(grayscale=1.0), position=i)
        assert (grey == grey[..., :1]).all()
    dot = np.zeros((5, 5), np.uint8)
    dot[2, 2] = 160
    sigma = math.sqrt(1 / (2 * math.log(2)))  # one pixel away weighs half: 1/4 1/2 1/4
    blurred = colour.blur(dot, sigma)
    np.testing.assert_array_equal(blurred[1:4, 1:4], [[10, 20, 10], [20, 40, 20], [10, 20, 10]])
    assert blurred.sum() == 160
    edge = np.zeros((3, 3), np.uint8)
    edge[0] = 160  # above the top row stands the second, not the first again: 1/2 of 160
    np.testing.assert_array_equal(colour.blur(edge, sigma)[:, 1], [80, 40, 0])
    np.testing.assert_array_equal(train(noise(), AugmentConfig(blur=1.0, blur_sigma=(0.1, 0.1))), noise())


def test_erasing_area_shape_and_colour():
    for i in range(100):
        pixels = np.zeros((50, 40, 3), np.uint8)
        colour.erase(pixels, area=(0.1, 0.2), ratio=(0.5, 2.0), draw=tuple(np.random.default_rng(i).random(4)))
        erased = (pixels == colour.ERASED).all(-1)
        rows, columns = np.flatnonzero(erased.any(1)), np.flatnonzero(erased.any(0))
        assert erased.sum() == len(rows) * len(columns) == (pixels.any(-1)).sum()  # one filled rectangle
        assert 0.09 < erased.mean() < 0.215
        assert 0.45 < len(rows) / len(columns) < 2.2
    whole = colour.erase(np.zeros((4, 4, 3), np.uint8), area=(1.0, 1.0), ratio=(1, 1), draw=(0.5,) * 4)
    assert (whole == colour.ERASED).all()


def test_noise_is_standard_normal_after_normalisation():
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    fill = {"area": (1.0, 1.0), "ratio": (1.0, 1.0), "draw": (0.5,) * 4}
    pixels = colour.erase(np.zeros((200, 200, 3), np.uint8), **fill, noise=np.random.default_rng(0))
    normal = (pixels / 255 - mean) / deviation
    for q in (0.05, 0.25, 0.5, 0.75, 0.95):  # inside what 8 bits can hold
        expected = statistics.NormalDist().inv_cdf(q)
        np.testing.assert_allclose(np.quantile(normal, q, axis=(0, 1)), expected, atol=0.03)
    assert abs(np.corrcoef(normal[:, :-1, 0].ravel(), normal[:, 1:, 0].ravel())[0, 1]) < 0.02
    np.testing.assert_array_equal(np.round(255 * mean), colour.ERASED)


def test_noise_fills_the_same_rectangle_as_the_mean_and_nothing_else():
    erase = AugmentConfig(erase=1.0)
    for i in range(10):
        mean = train(noise(), erase, position=i)
        filled = train(noise(), dataclasses.replace(erase, erase_fill="noise"), position=i)
        outside = (mean != colour.ERASED).any(-1)
        np.testing.assert_array_equal(filled[outside], mean[outside])
        again = train(noise(), dataclasses.replace(erase, erase_fill="noise"), position=i)
        np.testing.assert_array_equal(filled, again)
        assert (filled[~outside] != mean[~outside]).mean() > 0.9


def test_switching_one_augmentation_on_leaves_the_others_choices():
    for i in range(20):
        a = train(noise(), AugmentConfig(flip=0.5), position=i)
        b = train(noise(), AugmentConfig(flip=0.5, erase=1.0), position=i)
        kept = (b != colour.ERASED).any(-1)
        np.testing.assert_array_equal(a[kept], b[kept])


def test_random_numbers_are_those_of_the_first_release():
    """A resumed run must see the images that it would have seen: this vector may never change."""
    stored = [0.13777896, 0.62717311, 0.46848461]
    np.testing.assert_allclose(generator(7, 123).random(3), stored, atol=1e-8)
    key = np.array([7, 123], np.uint64)
    np.testing.assert_array_equal(generator(7, 123).random(5), np.random.Generator(np.random.Philox(key=key)).random(5))
    assert Draws._fields[:21] == (
        "crop_area", "crop_ratio", "crop_x", "crop_y", "pad_x", "pad_y", "flip", "rotate", "translate_x", "translate_y",
        "zoom", "brightness", "contrast", "saturation", "hue", "order", "erase", "erase_area", "erase_ratio", "erase_x",
        "erase_y",
    )  # fmt: skip
    assert Draws._fields[22:30] == tuple(
        f"{corner}_{axis}" for corner in ("top_left", "top_right", "bottom_right", "bottom_left") for axis in "xy"
    )
