"""Augmentation: each change against an independent implementation, and the distribution of the random draws."""

import colorsys
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import skimage.transform

from tests.support import augmentation as reference
from vidcomp_jax.data import augment as changes
from vidcomp_jax.data.augment import AugmentationConfig, augment
from vidcomp_jax.errors import InputError

STILL = {
    "horizontal_flip": False,
    "time_flip": False,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "hue": 0.0,
}


def on_device(change):
    """The function for NumPy arrays."""
    return lambda frames, *arguments: np.asarray(change(jnp.asarray(frames), *arguments))


adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue = map(
    on_device, (changes.adjust_brightness, changes.adjust_contrast, changes.adjust_saturation, changes.adjust_hue)
)
rotate, crop = on_device(changes.rotate), on_device(changes.crop)


@pytest.fixture
def frames():
    return np.random.default_rng(0).random((2, 8, 8, 3), np.float32)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _many(frames, count, config):
    return jax.vmap(lambda key: augment(frames, config, key))(jax.random.split(jax.random.key(0), count))


def many(frames, count=400, **settings):
    return np.asarray(_many(jnp.asarray(frames), count, AugmentationConfig(**(STILL | settings))))


def shares(results, frames):
    """How often the frames were kept, swapped, mirrored, and both."""
    forms = [frames[::t, :, ::x] for t, x in ((1, 1), (-1, 1), (1, -1), (-1, -1))]
    found = np.array([[np.array_equal(result, form) for form in forms] for result in results])
    assert (found.sum(1) == 1).all()
    return found.mean(0)


def test_nothing_switched_on_changes_nothing(frames):
    np.testing.assert_array_equal(many(frames, 3), np.broadcast_to(frames, (3, *frames.shape)))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"horizontal_flip": True}, (0.5, 0, 0.5, 0)),
        ({"horizontal_flip": True, "exclusive_flips": True}, (0.5, 0, 0.5, 0)),
        ({"time_flip": True}, (0.5, 0.5, 0, 0)),
        ({"horizontal_flip": True, "time_flip": True}, (0.25, 0.25, 0.25, 0.25)),
        # As released: half are swapped, a quarter is mirrored, none is both.
        ({"horizontal_flip": True, "time_flip": True, "exclusive_flips": True}, (0.25, 0.5, 0.25, 0)),
    ],
)
def test_flips_occur_as_often_as_they_should(frames, settings, expected):
    found = shares(many(frames, 2000, **settings), frames)
    np.testing.assert_allclose(found, expected, atol=0.045)  # four standard deviations
    assert all(share == 0 for share, probability in zip(found, expected, strict=True) if not probability)


@pytest.mark.parametrize("degrees", [10.0, -37.3, 120.0])
def test_rotation_is_that_of_scikit_image(frames, degrees):
    for image in (frames, frames[:, :6]):
        expected = np.stack([skimage.transform.rotate(frame, degrees, preserve_range=True) for frame in image])
        np.testing.assert_allclose(rotate(image, degrees), expected, atol=1e-5)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("factor", [0.5, 0.9, 1.1, 4 / 3])
def test_resizing_is_that_of_scikit_image(factor, interpolation):
    frames = np.random.default_rng(1).random((2, 32, 24, 3), np.float32)
    sides, order = (int(32 * factor), int(24 * factor)), int(interpolation == "bilinear")
    options = {"order": order, "preserve_range": True, "mode": "constant", "anti_aliasing": True}
    resized = np.stack([skimage.transform.resize(frame, sides, **options) for frame in frames])
    assert changes.resized_sides(jnp.asarray(frames), factor).tolist() == list(sides)
    for size, corner in ((12, (0, 0)), (12, (3, 0)), (28, (4 if sides[0] > 31 else 0, 1 if sides[1] > 28 else 0))):
        missing = [max(size - side, 0) for side in sides]
        padded = np.pad(resized, ((0, 0), *((m // 2, (m + 1) // 2) for m in missing), (0, 0)), mode="edge")
        expected = padded[:, corner[0] : corner[0] + size, corner[1] : corner[1] + size]
        found = crop(frames, jnp.array(corner), size, factor, interpolation)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_crops_reach_every_place_and_repeat_the_edges():
    ramp = np.broadcast_to(np.arange(48, dtype=np.float32).reshape(6, 8)[None, :, :, None] / 48, (2, 6, 8, 1))
    seen = np.zeros((3, 5), int)
    for cut in many(ramp, 1500, crop=4):
        top, left = divmod(round(float(cut[0, 0, 0, 0]) * 48), 8)
        np.testing.assert_array_equal(cut, ramp[:, top : top + 4, left : left + 4])
        seen[top, left] += 1
    assert (abs(seen - 100) < 40).all()  # four standard deviations
    padded = many(ramp[:, :3, :3], 1, crop=8)[0, 0, ..., 0]
    np.testing.assert_array_equal(padded, np.pad(ramp[0, :3, :3, 0], (2, 3), mode="edge"))


def test_resized_pairs_keep_their_size_and_use_the_whole_range():
    ramp = np.broadcast_to(np.linspace(0, 1, 64, dtype=np.float32)[None, None, :, None], (2, 64, 64, 1))
    results = many(ramp, 400, resize=(0.5, 2.0), interpolation="bilinear", crop=64)
    assert results.shape == (400, 2, 64, 64, 1)
    np.testing.assert_array_equal(results[:, 0], results[:, 1])
    slopes = 1 / 63 / np.median(np.diff(results[:, 0, 32, 16:48, 0]), -1)
    low, high = np.quantile(slopes, [0.1, 0.9])
    assert 0.6 < low < 0.7 and 1.8 < high < 1.92  # 0.65 and 1.85


def test_two_equal_frames_stay_equal_and_in_range(frames):
    twice = np.repeat(frames[:1], 2, 0)
    results = many(twice, 50, brightness=0.5, contrast=0.5, saturation=0.5, hue=0.5)
    np.testing.assert_array_equal(results[:, 0], results[:, 1])
    assert results.min() >= 0 and results.max() <= 1
    assert len(np.unique(results[:, 0, 0, 0, 0])) > 40


def test_factors_are_uniform_in_their_range(frames):
    dark = 0.5 * frames
    factors = many(dark, brightness=0.2).sum((1, 2, 3, 4)) / dark.sum()
    assert scipy.stats.kstest(factors, scipy.stats.uniform(0.8, 0.4).cdf).pvalue > 0.001
    # Factors are never negative: those of 1.5 range from 0 to 2.5.
    factors = many(0.2 * frames, brightness=1.5).sum((1, 2, 3, 4)) / (0.2 * frames).sum()
    assert scipy.stats.kstest(factors, scipy.stats.uniform(0, 2.5).cdf).pvalue > 0.001
    assert factors.min() < 0.1 and factors.max() > 2.4


def test_gray_frames_take_brightness_and_contrast_only(frames):
    gray = frames[..., :1]
    np.testing.assert_array_equal(many(gray, 3, saturation=0.5, hue=0.5), np.broadcast_to(gray, (3, *gray.shape)))
    assert all((result != gray).any() for result in many(gray, 5, contrast=0.5))


def test_all_orders_of_the_changes_are_equally_frequent():
    """Each of the four changes is a known function here, so that the result tells their order."""
    frames = np.random.default_rng(2).random((1, 2, 2, 3), np.float32) * 0.6 + 0.2
    widths = {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3}
    config = AugmentationConfig(**(STILL | widths))
    keys = jax.random.split(jax.random.key(3), 900)
    results = jax.jit(jax.vmap(lambda key: augment(jnp.asarray(frames), config, key)))(keys)
    adjust = [reference.adjust_brightness, reference.adjust_contrast, reference.adjust_saturation]
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]

    def factors(key):
        factor_key = jax.random.split(jax.random.split(key, 5)[4])[0]
        low, high = jnp.array([0.7] * 3 + [0.0]), jnp.array([1.3] * 3 + [0.0])
        return jax.random.uniform(factor_key, (4,), minval=low, maxval=high)

    seen = np.zeros(6)
    for result, drawn in zip(np.asarray(results), np.asarray(jax.vmap(factors)(keys)), strict=True):
        errors = []
        for order in orders:
            expected = functools.reduce(lambda x, which: adjust[which](x, drawn[which]), order, frames)
            errors.append(abs(result - expected).max())
        assert min(errors) < 1e-5
        seen += (np.array(errors) < 1e-5) / (np.array(errors) < 1e-5).sum()
    np.testing.assert_allclose(seen, 150, atol=50)


@pytest.mark.parametrize(
    "settings",
    [
        {"brightness": 0.1, "contrast": 0.1, "saturation": 0.1, "hue": 0.1, "exclusive_flips": True},
        {"rotation": (-30.0, 60.0), "time_flip": False, "hue": 0.0, "saturation": 0.0},
        {"resize": (0.8, 1.2), "crop": 12, "hue": 0.5, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0},
    ],
)
def test_the_distribution_is_that_of_the_independent_implementation(settings):
    """Moments over many draws of what augmentation changes: places, colors, the order of the frames, the contrast."""
    count = 3000
    y, x = np.mgrid[:16, :16] / 16
    first = np.stack([0.2 + 0.6 * x, 0.3 + 0.5 * y, 0.25 + 0.3 * x * y], -1)
    frames = np.stack([first, 0.7 * first]).astype(np.float32)
    config = AugmentationConfig(**settings)
    found = np.asarray(_many(jnp.asarray(frames), count, config))
    expected = np.stack([reference.augment(frames, config, np.random.default_rng(seed)) for seed in range(count)])
    for a, b in zip(_statistics(found), _statistics(expected), strict=True):
        error = np.sqrt((a.var() + b.var()) / count)
        assert abs(a.mean() - b.mean()) < 4 * error + 1e-6
        assert abs(a.std() - b.std()) < 0.06 * b.std() + 1e-6
        assert scipy.stats.ks_2samp(a, b).pvalue > 1e-4


def _statistics(results):
    first, second = results[:, 0], results[:, 1]
    yield first.mean((1, 2, 3)) - second.mean((1, 2, 3))
    yield first[:, 2, 2, 0]
    yield first[:, 9, 5, 1] - first[:, 3, 5, 1]
    yield first[:, 5, 9, 2] / (second[:, 5, 9, 0] + 0.1)
    yield first.std((1, 2, 3))


def test_neutral_factors_keep_the_frames(frames):
    np.testing.assert_allclose(adjust_brightness(frames, 1.0), frames, atol=1e-6)
    np.testing.assert_allclose(adjust_contrast(frames, 1.0), frames, atol=1e-6)
    np.testing.assert_allclose(adjust_saturation(frames, 1.0), frames, atol=1e-6)
    np.testing.assert_allclose(adjust_hue(frames, 0.0), frames, atol=1e-6)
    np.testing.assert_allclose(adjust_hue(frames, 1.0), frames, atol=1e-5)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_changes_of_color_are_those_of_the_independent_implementation(frames, name):
    ours, theirs = globals()[f"adjust_{name}"], getattr(reference, f"adjust_{name}")
    for factor in (0.0, 0.7, 1.4):
        np.testing.assert_allclose(ours(frames, factor), theirs(frames, np.float32(factor)), atol=2e-6)
    if name in ("brightness", "contrast"):
        np.testing.assert_allclose(ours(frames[..., :1], 1.4), theirs(frames[..., :1], 1.4), atol=2e-6)


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
    turned = np.asarray(adjust_hue(frames, turn))
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
