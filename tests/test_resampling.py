"""Resizing on the device gives the pixels that reading a data set at that size gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidcomp_jax.data import resampling
from vidcomp_jax.media import images


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(64, 64, 256), (64, 64, 128), (64, 64, 32), (64, 64, 64), (64, 64, 100), (64, 64, 20), (30, 77, 60), (64, 40, 64)],
)
def test_pixels_are_those_of_the_host(height, width, size):
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, height, width, 3), np.uint8)
    frames[0, 0], frames[1, 0] = 255, 0
    expected = np.stack([images.resize(clip, size) for clip in frames]).astype(int)
    found = np.asarray(jax.jit(resampling.resize, static_argnums=1)(frames, size))
    assert found.shape == (2, 3, size, size, 3) and found.dtype == np.float32
    np.testing.assert_array_equal(found, np.rint(found))
    assert abs(found - expected).max() <= 1
    # Only halves, which are exact in neither, may be rounded the other way; there are few of them.
    assert (found != expected).mean() < 0.05
    if (size % 64 == 0 and height == width) or size == 32:
        np.testing.assert_array_equal(found, expected)


def test_gray_is_that_of_the_host():
    frames = np.random.default_rng(1).integers(0, 256, (4, 64, 64, 3), np.uint8)
    frames[0], frames[1] = 255, 0
    found = np.asarray(resampling.to_channels(jnp.asarray(frames, jnp.float32), 1))
    np.testing.assert_array_equal(found, images.to_channels(frames, 1))
    gray = jnp.asarray(found)
    np.testing.assert_array_equal(resampling.to_channels(gray, 3), np.repeat(found, 3, -1))
    assert resampling.to_channels(gray, 1) is gray
