"""Computes scores of frames and keypoints that can be compared across methods and papers."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vidcomp_jax.devices import filled_up
from vidcomp_jax.errors import InputError

_SIGMA = 1.5
_RADIUS = 5  # of SSIM's window in pixels, 3.5 standard deviations rounded down
_BATCH_SIZE = 8  # frames compared per call; smaller batches are padded
_LARGEST_PSNR = 100.0

Frames = Float[np.ndarray | Array, "..."]


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
    if min(height, width) <= 2 * _RADIUS:
        raise InputError(f"frames of {width}x{height} pixels; SSIM needs at least {2 * _RADIUS + 1} in both directions")
    square = np.square(np.asarray(clips, np.float64) - truth).mean((-3, -2, -1))
    smallest = 10 ** (-_LARGEST_PSNR / 10)
    return FrameScores(
        l1=np.abs(clips - truth).mean((-3, -2, -1)),
        psnr=-10 * np.log10(np.maximum(square, smallest)),
        ssim=_ssim(*(x.reshape(-1, height, width, channels) for x in (clips, truth))).reshape(leading),
    )


def _ssim(clips: Float[np.ndarray, "b h w c"], truth: Float[np.ndarray, "b h w c"]) -> Float[np.ndarray, " b"]:
    """Structural similarity of each frame, computed on the device in batches of fixed size."""
    similarity = np.empty(len(clips))
    for start in range(0, len(clips), _BATCH_SIZE):
        share = [x[start : start + _BATCH_SIZE] for x in (clips, truth)]
        rows = np.asarray(_ssim_of_rows(*(filled_up(x, _BATCH_SIZE) for x in share)), np.float64)
        similarity[start : start + _BATCH_SIZE] = rows[: len(share[0])].mean((1, 2))
    return similarity


class _Moments(NamedTuple):
    """Means, variances and the covariance of two images around every pixel, each [b, h, w, c]."""

    mean_a: Array
    mean_b: Array
    variance_a: Array
    variance_b: Array
    covariance: Array


@jax.jit
def _ssim_of_rows(a: Float[Array, "b h w c"], b: Float[Array, "b h w c"]) -> Float[Array, "b h2 c"]:
    """Structural similarity around each pixel, averaged over each row.

    The mean over the rows is taken on the host, in float64.
    """
    zero = jnp.zeros_like(a)
    moments = _over_windows(_over_windows(_Moments(a, b, zero, zero, zero), axis=1), axis=2)
    mean_a, mean_b, variance_a, variance_b, covariance = moments
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return (luminance * structure).mean(2)


def _over_windows(moments: _Moments, axis: int) -> _Moments:
    """Moments over Gaussian windows along one axis, for windows within the image only.

    A window's variance is the mean of its parts' variances plus the mean squared distance of their means from its own.
    In float32, the mean of the squares minus the square of the mean would lose the small variances of bright, even
    areas. Slices are summed instead of convolved because some GPUs round the inputs of convolutions.
    """
    bell = np.exp(-np.square(np.arange(-_RADIUS, _RADIUS + 1)) / (2 * _SIGMA**2))
    weights = jnp.float32(bell / bell.sum())
    size = moments.mean_a.shape[axis] - 2 * _RADIUS

    def weighted_sum(value: Callable[[_Moments], tuple[Array, ...]], zeros: tuple[Array, ...]) -> tuple[Array, ...]:
        """Sum of `value` over the window's taps, in a loop: if unrolled, XLA recomputes the first axis for each tap."""

        def add(start: Array, total: tuple[Array, ...]) -> tuple[Array, ...]:
            part = _Moments(*(jax.lax.dynamic_slice_in_dim(x, start, size, axis=axis) for x in moments))
            return tuple(t + weights[start] * v for t, v in zip(total, value(part), strict=True))

        return jax.lax.fori_loop(0, len(weights), add, zeros)

    zero = jnp.zeros_like(jax.lax.slice_in_dim(moments.mean_a, 0, size, axis=axis))
    mean_a, mean_b = weighted_sum(lambda part: (part.mean_a, part.mean_b), (zero, zero))
    variances = weighted_sum(
        lambda part: (
            part.variance_a + (part.mean_a - mean_a) ** 2,
            part.variance_b + (part.mean_b - mean_b) ** 2,
            part.covariance + (part.mean_a - mean_a) * (part.mean_b - mean_b),
        ),
        (zero, zero, zero),
    )
    return _Moments(mean_a, mean_b, *variances)


class JointError(NamedTuple):
    """Errors of joints predicted from keypoints, in the units of the coordinates.

    Attributes:
        fitted: mean distance between the true joints and their linear regression on the keypoints.
        fixed: mean distance from each joint's mean training position, a baseline that ignores the keypoints.
    """

    fitted: float
    fixed: float


def joint_error(
    train_keypoints: Float[np.ndarray, "n k 2"],
    train_joints: Float[np.ndarray, "n j 2"],
    test_keypoints: Float[np.ndarray, "m k 2"],
    test_joints: Float[np.ndarray, "m j 2"],
) -> JointError:
    """Fit joints as an affine function of all keypoints on one set of frames, and evaluate the fit on another.

    Unsupervised keypoints do not correspond to joints, so a linear regression maps one to the other (Thewlis et al.,
    2017). Distances have the units of the coordinates; in [-1, 1] coordinates, one unit is (size - 1) / 2 pixels.
    """

    def design(keypoints: np.ndarray) -> np.ndarray:
        flat = np.asarray(keypoints, np.float64).reshape(len(keypoints), -1)
        return np.concatenate([flat, np.ones((len(flat), 1))], axis=1)

    target = np.asarray(train_joints, np.float64).reshape(len(train_joints), -1)
    coefficients, *_ = np.linalg.lstsq(design(train_keypoints), target, rcond=None)
    predicted = (design(test_keypoints) @ coefficients).reshape(test_joints.shape)
    fitted = np.linalg.norm(predicted - test_joints, axis=-1).mean()
    fixed = np.linalg.norm(train_joints.mean(0) - test_joints, axis=-1).mean()
    return JointError(float(fitted), float(fixed))
