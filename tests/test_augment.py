"""Augmentation: one draw for all frames, neutral settings that change nothing, hues as HSV defines them."""

import colorsys
import re

import numpy as np
import pytest
import skimage.transform

from vidcomp_jax.data.augment import (
    AugmentationConfig,
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    augment,
    random_crop,
    resize_by,
    rotate,
)
from vidcomp_jax.errors import InputError

STILL = {
    "horizontal_flip": False,
    "time_flip": False,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "hue": 0.0,
}


@pytest.fixture
def frames():
    return np.random.default_rng(0).random((2, 8, 8, 3), np.float32)


def many(frames, count=200, **settings):
    config = AugmentationConfig(**(STILL | settings))
    return [augment(frames, config, np.random.default_rng(seed)) for seed in range(count)]


def test_nothing_switched_on_changes_nothing(frames):
    np.testing.assert_array_equal(many(frames, count=1)[0], frames)


def test_flips_happen_half_the_time_to_both_frames(frames):
    mirrored = [np.array_equal(result, frames[:, :, ::-1]) for result in many(frames, horizontal_flip=True)]
    reversed_ = [np.array_equal(result, frames[::-1]) for result in many(frames, time_flip=True)]
    assert 70 < sum(mirrored) < 130
    assert 70 < sum(reversed_) < 130
    for result in many(frames, horizontal_flip=True, time_flip=True):
        assert any(np.array_equal(result, frames[::t, :, ::x]) for t in (1, -1) for x in (1, -1))


def test_a_swap_excludes_a_mirror_as_released(frames):
    count, seen = 2000, {(1, 1): 0, (-1, 1): 0, (1, -1): 0, (-1, -1): 0}
    for result in many(frames, count, horizontal_flip=True, time_flip=True, exclusive_flips=True):
        seen[next(flip for flip in seen if np.array_equal(result, frames[:: flip[0], :, :: flip[1]]))] += 1
    # Half are swapped, a quarter is mirrored, none is both: four standard deviations of 2000 draws are about 90.
    for flip, share in (((1, 1), 0.25), ((-1, 1), 0.5), ((1, -1), 0.25), ((-1, -1), 0.0)):
        assert abs(seen[flip] - share * count) <= (90 if share else 0), (flip, seen)
    mirrored = [
        np.array_equal(result, frames[:, :, ::-1])
        for result in many(frames, horizontal_flip=True, exclusive_flips=True)
    ]
    assert 70 < sum(mirrored) < 130  # without swaps, half of all


@pytest.mark.parametrize("degrees", [10.0, -37.3, 120.0])
def test_rotation_is_that_of_scikit_image(frames, degrees):
    expected = np.stack([skimage.transform.rotate(frame, degrees, preserve_range=True) for frame in frames])
    np.testing.assert_allclose(rotate(frames, degrees), expected, atol=1e-5)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("factor", [0.5, 0.9, 1.1, 4 / 3])
def test_resizing_is_that_of_scikit_image(factor, interpolation):
    frames = np.random.default_rng(1).random((2, 32, 24, 3), np.float32)
    shape, order = (int(32 * factor), int(24 * factor)), int(interpolation == "bilinear")
    options = {"order": order, "preserve_range": True, "mode": "constant", "anti_aliasing": True}
    expected = np.stack([skimage.transform.resize(frame, shape, **options) for frame in frames])
    np.testing.assert_allclose(resize_by(frames, factor, interpolation), expected, atol=1e-5)


def test_crops_reach_every_place_and_repeat_the_edges():
    frames = np.broadcast_to(np.arange(48, dtype=np.float32).reshape(6, 8)[None, :, :, None] / 48, (2, 6, 8, 1))
    rng, count, seen = np.random.default_rng(0), 600, {}
    for _ in range(count):
        cut = random_crop(frames, 4, rng)
        top, left = divmod(round(float(cut[0, 0, 0, 0]) * 48), 8)
        np.testing.assert_array_equal(cut, frames[:, top : top + 4, left : left + 4])
        seen[top, left] = seen.get((top, left), 0) + 1
    # 3 x 5 places of 40 crops each: a standard deviation is about 6.
    assert len(seen) == 15 and min(seen.values()) > 15 and max(seen.values()) < 65
    padded = random_crop(frames[:, :3, :3], 8, rng)[0, ..., 0]
    np.testing.assert_array_equal(padded, np.pad(frames[0, :3, :3, 0], (2, 3), mode="edge"))


def test_resized_pairs_keep_their_size_and_use_the_whole_range():
    ramp = np.broadcast_to(np.linspace(0, 1, 64, dtype=np.float32)[None, None, :, None], (2, 64, 64, 1))
    slopes = []
    for result in many(ramp, 200, resize=(0.5, 2.0), interpolation="bilinear", crop=64):
        assert result.shape == (2, 64, 64, 1)
        np.testing.assert_array_equal(result[0], result[1])
        slopes.append(1 / 63 / np.median(np.diff(result[0, 32, 16:48, 0])))
    low, high = np.quantile(slopes, [0.1, 0.9])
    assert 0.5 < low < 0.8 and 1.7 < high < 2.0


def test_settings_without_effect_draw_nothing(frames):
    """Augmented pairs of earlier runs stay the same."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        augment(frames, AugmentationConfig(), rng)
        after = np.random.default_rng(seed)
        after.random(2), after.uniform(size=4), after.uniform(), after.permutation(4)
        assert rng.random() == after.random()


def test_two_equal_frames_stay_equal_and_in_range(frames):
    twice = np.repeat(frames[:1], 2, 0)
    for result in many(twice, 50, brightness=0.5, contrast=0.5, saturation=0.5, hue=0.5):
        np.testing.assert_array_equal(result[0], result[1])
        assert result.min() >= 0 and result.max() <= 1


def test_the_same_generator_state_gives_the_same_result(frames):
    first, second = (augment(frames, AugmentationConfig(), np.random.default_rng(9)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_brightness_factors_cover_their_range(frames):
    dark = 0.5 * frames
    factors = [result.sum() / dark.sum() for result in many(dark, brightness=0.2)]
    assert 0.8 <= min(factors) < 0.82 and 1.18 < max(factors) <= 1.2001


def test_gray_frames_take_brightness_and_contrast_only(frames):
    gray = frames[..., :1]
    for result in many(gray, 20, saturation=0.5, hue=0.5):
        np.testing.assert_array_equal(result, gray)
    assert all((result != gray).any() for result in many(gray, 5, contrast=0.5))


def test_the_order_of_the_changes_is_random(frames):
    """Hue and saturation changes do not commute; with known factors, both orders occur over the seeds."""
    config = AugmentationConfig(**(STILL | {"saturation": 0.9, "hue": 0.5}))
    orders = set()
    for seed in range(30):
        rng = np.random.default_rng(seed)
        rng.random(2)
        saturation = np.float32(rng.uniform([1, 1, 0.1, 0.5], [1, 1, 1.9, 1.5])[2])
        turn = np.float32(rng.uniform(-0.5, 0.5))
        result = augment(frames, config, np.random.default_rng(seed))
        fade_last = np.abs(result - adjust_saturation(adjust_hue(frames, turn), saturation)).max() < 1e-5
        turn_last = np.abs(result - adjust_hue(adjust_saturation(frames, saturation), turn)).max() < 1e-5
        assert fade_last or turn_last
        orders.add((bool(fade_last), bool(turn_last)))
    assert {(True, False), (False, True)} <= orders


def test_neutral_factors_keep_the_frames(frames):
    np.testing.assert_allclose(adjust_brightness(frames, 1.0), frames, atol=1e-6)
    np.testing.assert_allclose(adjust_contrast(frames, 1.0), frames, atol=1e-6)
    np.testing.assert_allclose(adjust_saturation(frames, 1.0), frames, atol=1e-6)
    np.testing.assert_allclose(adjust_hue(frames, 0.0), frames, atol=1e-6)
    np.testing.assert_allclose(adjust_hue(frames, 1.0), frames, atol=1e-5)


def test_no_contrast_is_the_mean_gray_and_no_saturation_is_gray(frames):
    gray = frames @ np.array([0.2989, 0.587, 0.114], np.float32)
    flat = adjust_contrast(frames, 0.0)
    np.testing.assert_allclose(flat, np.broadcast_to(gray.mean((1, 2))[:, None, None, None], flat.shape), atol=1e-6)
    np.testing.assert_allclose(adjust_saturation(frames, 0.0), np.repeat(gray[..., None], 3, -1), atol=1e-6)


@pytest.mark.parametrize("turn", [0.1, -0.3, 0.5])
def test_hue_turns_as_the_standard_library_has_it(frames, turn):
    frames[0, 0, 0] = 0.4  # gray and black have no hue; pure colors lie on the borders of the six sectors
    frames[0, 0, 1] = 0.0
    frames[0, 0, 2:5] = np.eye(3)
    turned = adjust_hue(frames, turn)
    for before, after in zip(frames.reshape(-1, 3), turned.reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*map(float, before))
        np.testing.assert_allclose(after, colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value), atol=2e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hue", 0.6),
        ("brightness", -0.1),
        ("contrast", float("nan")),
        ("rotation", (5.0, -5.0)),
        ("resize", (0.0, 1.0)),
        ("crop", 30),
    ],
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(InputError, match=re.escape(f"`{name}` is {value}")):
        AugmentationConfig(**{name: value})


def test_resizing_needs_a_crop():
    with pytest.raises(InputError, match="`crop` is 0; it must be above 0 where `resize` is given"):
        AugmentationConfig(resize=(0.9, 1.1))
