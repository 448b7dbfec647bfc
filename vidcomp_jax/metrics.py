"""How good frames and keypoints are: predicted and true ones in, numbers out."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Frames = Float[np.ndarray, "*b h w c"]


def l1(prediction: Frames, truth: Frames) -> float:
    """Mean absolute error of frames in [0, 1]; the released evaluation's number."""
    return float(np.abs(np.asarray(prediction, np.float64) - truth).mean())


def psnr(prediction: Frames, truth: Frames) -> float:
    """Peak signal-to-noise ratio in decibels of frames in [0, 1], computed for each frame and averaged.

    A frame predicted exactly counts as 100.
    """
    square = np.square(np.asarray(prediction, np.float64) - truth).mean((-3, -2, -1))
    return float((-10 * np.log10(np.maximum(square, 1e-10))).mean())


def ssim(prediction: Frames, truth: Frames) -> float:
    """Structural similarity (Wang et al., 2004) of frames in [0, 1], averaged over frames and channels.

    Gaussian window of 11 pixels and sigma 1.5, K1 0.01, K2 0.03, whole windows only: frames of at least 11 pixels.
    """
    a, b = (np.asarray(x, np.float64) for x in (prediction, truth))
    window = np.exp(-np.square(np.arange(-5, 6)) / (2 * 1.5**2))
    window /= window.sum()

    def local(x: np.ndarray) -> np.ndarray:
        for axis in (-3, -2):
            x = np.apply_along_axis(np.convolve, axis, x, window, mode="valid")
        return x

    mean_a, mean_b = local(a), local(b)
    var_a, var_b = local(a * a) - mean_a**2, local(b * b) - mean_b**2
    covariance = local(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    similarity /= (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    return float(similarity.mean())


class JointError(NamedTuple):
    """How well keypoints tell where joints are.

    Attributes:
        fitted: mean distance between the true joints and a linear function of the keypoints.
        fixed: mean distance to each joint's mean position: what one knows without looking.
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
