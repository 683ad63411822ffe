"""Transforms against pixels worked out by hand."""

import numpy as np
import pytest
from odd_images import encode
from PIL import Image

from emojax.config import AugmentConfig
from emojax.data import colour, geometry
from emojax.data.pipeline import generator
from emojax.data.transforms import Draws, eval_image, scaled, train_image

EVERYTHING = AugmentConfig(
    crop_area=(0.5, 1.0), pad=2, flip=0.5, rotate=20.0, translate=0.1, zoom=0.1, brightness=0.3, contrast=0.3,
    saturation=0.3, hue=0.1, erase=0.5,
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
    assert (doubled.flip, doubled.rotate, doubled.pad) == (1.0, 40.0, 4)
    assert doubled.crop_area == (0.01, 1.0) and doubled.hue == 0.2 and doubled.zoom == pytest.approx(0.2)


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


def test_affine_identity_and_whole_pixel_moves_are_exact():
    image = Image.fromarray(noise(12, 8))
    same = geometry.affine(image, degrees=0, shift=(0, 0), zoom=1)
    np.testing.assert_array_equal(np.asarray(same), noise(12, 8))
    moved = np.asarray(geometry.affine(image, degrees=0, shift=(0.25, 0), zoom=1))  # two pixels to the right
    np.testing.assert_array_equal(moved[:, 2:], noise(12, 8)[:, :-2])
    assert (moved[:, :2] == geometry.border_colour(image)).all()


def test_a_quarter_turn_is_counter_clockwise():
    square = noise()
    turned = np.asarray(geometry.affine(Image.fromarray(square), degrees=90, shift=(0, 0), zoom=1))
    np.testing.assert_allclose(turned.astype(int), np.rot90(square), atol=1)  # Pillow rounds down


def test_zoom_enlarges_about_the_centre():
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[2:6, 2:6] = 200
    doubled = np.asarray(geometry.affine(Image.fromarray(pixels), degrees=0, shift=(0, 0), zoom=2))
    assert (doubled[1:7, 1:7] == 200).all()


def test_corners_take_the_border_colour():
    pixels = np.full((9, 9, 3), 50, np.uint8)
    pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1] = ((10, 20, 30),) * 4
    turned = np.asarray(geometry.affine(Image.fromarray(pixels), degrees=45, shift=(0, 0), zoom=1))
    np.testing.assert_array_equal(turned[0, 0], (10, 20, 30))
    one = Image.fromarray(np.array([[1, 2], [3, 5]], np.uint8))
    assert geometry.border_colour(one) == 3  # 11 / 4 = 2.75


def test_pad_crop_reflects_without_repeating_the_edge():
    row = np.arange(5, dtype=np.uint8)[None].repeat(5, 0)
    moved = np.asarray(geometry.pad_crop(Image.fromarray(row), 2, draw=(0.0, 0.5)))
    np.testing.assert_array_equal(moved[0], [2, 1, 0, 1, 2])
    moved = np.asarray(geometry.pad_crop(Image.fromarray(row), 2, draw=(0.999, 0.5)))
    np.testing.assert_array_equal(moved[0], [2, 3, 4, 3, 2])


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


def test_jitter_factor_one_changes_nothing():
    image = Image.fromarray(noise())
    for function in (colour.brightness, colour.contrast, colour.saturation):
        np.testing.assert_array_equal(np.asarray(function(image, 1.0)), noise())
    np.testing.assert_array_equal(np.asarray(colour.hue(image, 0.0)), noise())


def test_jitter_by_hand():
    image = Image.fromarray(np.array([[[100, 100, 100], [200, 200, 200]]], np.uint8))
    np.testing.assert_array_equal(np.asarray(colour.brightness(image, 0.5))[0, :, 0], (50, 100))
    np.testing.assert_array_equal(np.asarray(colour.brightness(image, 2.0))[0, :, 0], (200, 255))
    np.testing.assert_array_equal(np.asarray(colour.contrast(image, 0.5))[0, :, 0], (125, 175))  # mean 150
    red = Image.fromarray(np.array([[[255, 0, 0]]], np.uint8))
    np.testing.assert_array_equal(np.asarray(colour.saturation(red, 0.0))[0, 0], (76, 76, 76))  # 0.299 * 255
    turned = np.asarray(colour.hue(red, 1 / 3))[0, 0]
    np.testing.assert_allclose(turned, (0, 255, 0), atol=3)
    assert len(set(colour.ORDERS)) == 24
    both = {"brightness": 2.0, "contrast": 0.0}
    first, second = (np.asarray(colour.jitter(image, both, order=i))[0, 0, 0] for i in (0, 23))
    assert (first, second) == (228, 255)  # brighter, then mean of (200, 255); or mean 150, then twice as bright


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
    assert len(Draws._fields) == 21
