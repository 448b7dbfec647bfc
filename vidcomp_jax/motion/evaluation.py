"""Evaluation of motion models on true keypoint sequences, in comparison with linear interpolation.

All distances are between positions, in units of half the frame's width, and averaged over keypoints and inner frames.
"""

import jax
import numpy as np
from jaxtyping import Float

from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.motion.fill import fill
from vidcomp_jax.motion.linear import LinearMotion
from vidcomp_jax.motion.model import MotionModel
from vidcomp_jax.nn.geometry import AnyArray

BEST_OF = (1, 3, 10, 50)
"""Numbers of samples of which the best is reported, for stochastic models."""

_SEQUENCES_AT_ONCE = 512


def motion_errors(motion: MotionModel, truth: Keypoints, *, num_samples: int = 10, seed: int = 0) -> dict[str, float]:
    """Generate motion between the ends of true sequences and compare it with the sequences themselves.

    Args:
        motion: the motion model to evaluate.
        truth: keypoints, positions [n, t, k, 2] and Jacobians [n, t, k, 2, 2], with t at least 3.
        num_samples: samples to draw for each sequence from a stochastic model; others generate one.
        seed: seed of the samples.

    Returns:
        `error`: mean distance between generated and true positions, averaged over all samples.
        `error_best_N`, for each N in `BEST_OF` up to the number of samples: the same for the best of N samples of each
            sequence. All samples are used, in groups of N.
        `apd`: average pairwise distance of the samples of a sequence (Yuan and Kitani, DLow, ECCV 2020, section 5).
        `energy_score`: `error` minus half of `apd` (Gneiting and Raftery, JASA 2007, section 4.3). Unlike the best of
            N, it does not reward noise: on average, samples of the true distribution alone make it smallest.
        `velocity`, `acceleration`: Wasserstein-1 distance between the generated and the true distribution of speeds and
            of the sizes of accelerations, the first and second differences of positions between frames.
        `diversity`: mean distance between the positions of a sample and the mean of all samples of its sequence.
        `error_linear`, `velocity_linear`, `acceleration_linear`: the same for linear interpolation.
    """
    samples = draw_samples(motion, truth, num_samples=num_samples, seed=seed)
    linear = draw_samples(LinearMotion(), truth)
    position = np.asarray(truth.position)
    errors = _distance(samples, position[:, None])
    best = {f"error_best_{n}": best_of(errors, n) for n in BEST_OF if n <= errors.shape[1]}
    error, apd = float(errors.mean()), pairwise_distance(samples)
    return {
        "error": error,
        **best,
        "apd": apd,
        "energy_score": error - apd / 2,
        "velocity": _difference_distance(samples, position, 1),
        "acceleration": _difference_distance(samples, position, 2),
        "diversity": float(_distance(samples, samples.mean(1, keepdims=True)).mean()),
        "error_linear": float(_distance(linear, position[:, None]).mean()),
        "velocity_linear": _difference_distance(linear, position, 1),
        "acceleration_linear": _difference_distance(linear, position, 2),
    }


def draw_samples(
    motion: MotionModel, truth: Keypoints, *, num_samples: int = 1, seed: int = 0
) -> Float[np.ndarray, "n s t k 2"]:
    """Positions of samples between the ends of true sequences; a deterministic model is sampled once."""
    count, num_frames = truth.position.shape[:2]
    num_samples = num_samples if motion.stochastic else 1
    ends = Keypoints(*(np.repeat(np.asarray(x)[:, [0, -1]], num_samples, 0) for x in truth))
    keys = jax.random.split(jax.random.key(seed), count * num_samples)
    parts = []
    for i in range(0, len(keys), _SEQUENCES_AT_ONCE):
        part = slice(i, i + _SEQUENCES_AT_ONCE)
        known = Keypoints(*(x[part] for x in ends))
        parts.append(np.asarray(fill(motion, known, (0, num_frames - 1), num_frames, keys[part]).position))
    return np.concatenate(parts).reshape(count, num_samples, *truth.position.shape[1:])


def best_of(errors: Float[np.ndarray, "n s"], count: int) -> float:
    """Mean over sequences of the smallest error of `count` samples, averaged over disjoint groups of samples."""
    groups = errors.shape[1] // count
    return float(errors[:, : groups * count].reshape(len(errors), groups, count).min(-1).mean())


def pairwise_distance(samples: Float[np.ndarray, "n s t k 2"]) -> float:
    """Mean distance between two different samples of a sequence; 0 for a single sample."""
    count = samples.shape[1]
    if count < 2:
        return 0.0
    shifted = (_distance(samples, np.roll(samples, shift, axis=1)).mean() for shift in range(1, count))
    return float(np.mean(list(shifted)))


def _distance(a: Float[AnyArray, "*#b t k 2"], b: Float[AnyArray, "*#b t k 2"]) -> Float[np.ndarray, "*b"]:
    """Mean distance between positions over keypoints and inner frames."""
    return np.linalg.norm((a - b)[..., 1:-1, :, :], axis=-1).mean((-1, -2))


def _difference_distance(a: Float[AnyArray, "*a t k 2"], b: Float[AnyArray, "*b t k 2"], order: int) -> float:
    """Wasserstein-1 distance between the sizes of differences of that order: the mean difference of quantiles."""
    levels = np.linspace(0, 1, 201)
    sizes = (np.linalg.norm(np.diff(np.asarray(x), order, axis=-3), axis=-1).ravel() for x in (a, b))
    first, second = (np.quantile(x, levels) for x in sizes)
    return float(np.abs(first - second).mean())
