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
_RADIUS = 5  # of SSIM's window, in pixels: 3.5 standard deviations
_BATCH_SIZE = 8  # frames compared in one program; fewer are filled up
_LARGEST_PSNR = 100.0

Frames = Float[np.ndarray | Array, "..."]


class FrameScores(NamedTuple):
    """How close frames are to the true ones, a number for each frame.

    Attributes:
        l1: mean absolute error, in [0, 1].
        psnr: peak signal-to-noise ratio in decibels; 100 at most, which is what an exact frame has.
        ssim: structural similarity (Wang et al., 2004), 1 for an exact frame.
    """

    l1: Float[np.ndarray, "*n"]
    psnr: Float[np.ndarray, "*n"]
    ssim: Float[np.ndarray, "*n"]


def score(clips: Frames, truth: Frames) -> FrameScores:
    """Compare frames with the true ones, frame by frame.

    SSIM has the Gaussian window of the paper (11 pixels, sigma 1.5; K1 0.01, K2 0.03), takes whole windows only, and is
    averaged over the channels. It equals scikit-image's `structural_similarity` with `gaussian_weights=True`,
    `sigma=1.5`, `use_sample_covariance=False` and `data_range=1`.

    Args:
        clips: frames [..., h, w, c] in [0, 1].
        truth: the true ones. The two are broadcast against each other, so that one frame can be compared with many.

    Returns:
        One number of each kind for every frame, [...].

    Raises:
        InputError: frames of fewer than 11 pixels, or shapes that do not fit each other.
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
    """Structural similarity of each frame, a batch of them on the device at a time."""
    similarity = np.empty(len(clips))
    for start in range(0, len(clips), _BATCH_SIZE):
        share = [x[start : start + _BATCH_SIZE] for x in (clips, truth)]
        rows = np.asarray(_ssim_of_rows(*(filled_up(x, _BATCH_SIZE) for x in share)), np.float64)
        similarity[start : start + _BATCH_SIZE] = rows[: len(share[0])].mean((1, 2))
    return similarity


class _Moments(NamedTuple):
    """Means, variances and the covariance of two images around every pixel, [b, h, w, c] each."""

    mean_a: Array
    mean_b: Array
    variance_a: Array
    variance_b: Array
    covariance: Array


@jax.jit
def _ssim_of_rows(a: Float[Array, "b h w c"], b: Float[Array, "b h w c"]) -> Float[Array, "b h2 c"]:
    """Structural similarity around each pixel, averaged over the pixels of each row.

    Sums over thousands of pixels are left to the host and to float64.
    """
    zero = jnp.zeros_like(a)
    moments = _over_windows(_over_windows(_Moments(a, b, zero, zero, zero), axis=1), axis=2)
    mean_a, mean_b, variance_a, variance_b, covariance = moments
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return (luminance * structure).mean(2)


def _over_windows(moments: _Moments, axis: int) -> _Moments:
    """Moments over Gaussian windows along one axis, of whole windows only.

    A window's variance is the mean of the variances of its parts and of the squared distances of their means from its
    own. In float32 the mean of the squares minus the square of the mean would lose the small variances of bright, even
    areas. Weighted sums of slices, not a convolution, whose inputs some GPUs round to fewer digits.
    """
    bell = np.exp(-np.square(np.arange(-_RADIUS, _RADIUS + 1)) / (2 * _SIGMA**2))
    weights = jnp.float32(bell / bell.sum())
    size = moments.mean_a.shape[axis] - 2 * _RADIUS

    def weighted_sum(value: Callable[[_Moments], tuple[Array, ...]], zeros: tuple[Array, ...]) -> tuple[Array, ...]:
        """Sum of `value` over the window's taps, in a loop: unrolled, XLA computes the first axis anew for each tap."""

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
    """How well keypoints tell where joints are.

    Attributes:
        fitted: mean distance between the true joints and a linear function of the keypoints.
        fixed: mean distance to each joint's mean position, a baseline that ignores the keypoints.
    """

    fitted: float
    fixed: float


def joint_error(
    train_keypoints: Float[np.ndarray, "n k 2"],
    train_joints: Float[np.ndarray, "n j 2"],
    test_keypoints: Float[np.ndarray, "m k 2"],
    test_joints: Float[np.ndarray, "m j 2"],
) -> JointError:
    """Fit joints as an affine function of all keypoints on one set of frames, and judge it on another.

    Unsupervised keypoints have no names, so a linear regression stands between them and the true joints (Thewlis et
    al., 2017). Distances are in the coordinates' own units; (size - 1) / 2 pixels each.
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
