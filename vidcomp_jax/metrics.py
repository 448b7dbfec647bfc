"""Computes scores of frames and keypoints that can be compared across methods and papers."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vidcomp_jax.devices import filled_up
from vidcomp_jax.errors import InputError

_SIGMA = 1.5
_RADIUS = 5  # of SSIM's window in pixels, 3.5 standard deviations rounded down
SMALLEST = 2 * _RADIUS + 1
"""Least height and width of frames in pixels that SSIM can compare."""
_LARGEST_PSNR = 100.0

Frames = Float[np.ndarray | Array, "..."]
Rows = Float[np.ndarray | Array, "b h n"]
"""Frames with the channels of a row side by side."""


class FrameScores(NamedTuple):
    """How close frames are to the true ones, as one value of each score per frame.

    Attributes:
        l1: mean absolute error, in [0, 1].
        psnr: peak signal-to-noise ratio in decibels, capped at 100, the value of an exact frame.
        ssim: structural similarity (Wang et al., 2004), 1 for an exact frame.
    """

    l1: Float[np.ndarray, "*n"]
    psnr: Float[np.ndarray, "*n"]
    ssim: Float[np.ndarray, "*n"]


def score(clips: Frames, truth: Frames) -> FrameScores:
    """Compare frames with the true ones, frame by frame.

    SSIM follows Wang et al. (2004), equation 13, with the Gaussian window of the paper (11 x 11 pixels, sigma 1.5; K1
    0.01, K2 0.03). Only windows within the frame count, and the channels are averaged. It equals scikit-image's
    `structural_similarity` with `gaussian_weights=True`, `sigma=1.5`, `use_sample_covariance=False` and
    `data_range=1`.

    Args:
        clips: frames [..., h, w, c] in [0, 1].
        truth: true frames in [0, 1]. They are broadcast against `clips`, so that one frame can be compared with many.

    Returns:
        The scores of every frame, [...] each.

    Raises:
        InputError: frames less than 11 pixels high or wide, or shapes that cannot be broadcast.
    """
    try:
        clips, truth = np.broadcast_arrays(np.asarray(clips, np.float32), np.asarray(truth, np.float32))
    except ValueError:
        raise InputError(
            f"frames of shape {np.shape(clips)} cannot be compared with those of {np.shape(truth)}"
        ) from None
    *leading, height, width, channels = truth.shape
    if min(height, width) < SMALLEST:
        raise InputError(f"frames of {width}x{height} pixels; SSIM needs at least {SMALLEST} in both directions")
    flat = [x.reshape(-1, height, width * channels) for x in (clips, truth)]
    count, at_a_time = len(flat[0]), max(_values_at_a_time() // (height * width * channels), 1)
    rows = []
    for start in range(0, count, at_a_time):
        share = [x[start : start + at_a_time] for x in flat]
        a, b = (filled_up(x, at_a_time) for x in share)
        found = _scores_of_rows(a, b, channels)
        # Means over the rows are taken on the host, in float64.
        rows.append([np.asarray(x, np.float64)[: len(share[0])].mean(1) for x in found])
    empty = np.empty((3, 0))
    l1, square, similarity = (np.concatenate(x).reshape(leading) for x in zip(*rows, strict=True)) if rows else empty
    smallest = 10 ** (-_LARGEST_PSNR / 10)
    return FrameScores(l1=l1, psnr=-10 * np.log10(np.maximum(square, smallest)), ssim=similarity)


def _values_at_a_time() -> int:
    """Number of pixels, counted once per channel, that one call compares: what fits into a cache of a CPU core."""
    return 2**16 if jax.default_backend() == "cpu" else 2**24


def _scores_of_rows(a: Rows, b: Rows, channels: int) -> tuple[Array, Array, Array]:
    """Absolute and squared error and structural similarity, averaged over each row of the frames.

    The steps are programs of their own: within one, XLA would compute the first filter anew for each tap of the second.
    """
    moments, errors = _moments(a, b)
    filtered = _filter_rows(_filter_columns(moments), channels)
    return *errors, _similarity(filtered, b)


@jax.jit
def _moments(a: Rows, b: Rows) -> tuple[Float[Array, "4 b h n"], tuple[Float[Array, "b h"], Float[Array, "b h"]]]:
    """Values and products whose local means SSIM needs, and the errors of each row.

    SSIM's variances do not change with the origin of the values. With the mean of the frame as the origin, the mean of
    the squares minus the square of the mean keeps the small variances of bright, even areas in float32.
    """
    origin = b.mean((1, 2), keepdims=True)
    errors = jnp.abs(a - b).mean(2), jnp.square(a - b).mean(2)
    x, y = a - origin, b - origin
    return jnp.stack([x, y, x * x + y * y, x * y]), errors


@jax.jit
def _filter_columns(moments: Float[Array, "4 b h n"]) -> Float[Array, "4 b h2 n"]:
    return _filter(moments, axis=2, stride=1)


@functools.partial(jax.jit, static_argnums=1)
def _filter_rows(moments: Float[Array, "4 b h n"], channels: int) -> Float[Array, "4 b h n2"]:
    return _filter(moments, axis=3, stride=channels)


def _filter(x: Float[Array, "4 b _ _"], axis: int, stride: int) -> Float[Array, "4 b _ _"]:
    """Means over a Gaussian window along one axis, whose neighbors are `stride` values apart, within the frame only.

    Slices are added instead of convolved because some GPUs round the inputs of convolutions.
    """
    bell = np.exp(-np.square(np.arange(_RADIUS + 1)) / (2 * _SIGMA**2))
    weights = (bell / (2 * bell.sum() - bell[0])).astype(np.float32)
    size = x.shape[axis] - 2 * _RADIUS * stride

    def tap(offset: int) -> Array:
        start = (_RADIUS + offset) * stride
        return jax.lax.slice_in_dim(x, start, start + size, axis=axis)

    total = weights[0] * tap(0)
    for offset in range(1, _RADIUS + 1):
        total += weights[offset] * (tap(offset) + tap(-offset))
    return total


@jax.jit
def _similarity(filtered: Float[Array, "4 b h2 n2"], b: Rows) -> Float[Array, "b h2"]:
    """Structural similarity around each pixel, averaged over each row."""
    mean_x, mean_y, squares, product = filtered
    covariance, variances = product - mean_x * mean_y, squares - mean_x**2 - mean_y**2
    origin = b.mean((1, 2), keepdims=True)
    mean_a, mean_b = mean_x + origin, mean_y + origin
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return (luminance * (2 * covariance + c2) / (variances + c2)).mean(2)
