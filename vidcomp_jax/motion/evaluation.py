"""Evaluation of motion models on true keypoint sequences, in comparison with linear interpolation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Key

from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.motion.linear import interpolate
from vidcomp_jax.motion.model import MotionModel
from vidcomp_jax.nn.geometry import AnyArray


def generate(
    motion: MotionModel, first: Keypoints, last: Keypoints, num_frames: int, keys: Key[Array, " b"]
) -> Keypoints:
    """Call `motion.generate`, compiled once for each model structure and input shape."""
    if not isinstance(motion, nnx.Module):
        return motion.generate(first, last, num_frames, keys)
    graphdef, state = nnx.split(motion)
    return _generate(graphdef, num_frames, state, first, last, keys)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _generate(graphdef, num_frames, state, first, last, keys):
    return nnx.merge(graphdef, state).generate(first, last, num_frames, keys)


def motion_errors(motion: MotionModel, truth: Keypoints, *, num_samples: int = 3, seed: int = 0) -> dict[str, float]:
    """Generate motion between the ends of true sequences and compare it with the sequences themselves.

    All distances are in units of half the frame's width.

    Args:
        motion: the motion model to evaluate.
        truth: keypoints, positions [n, t, k, 2] and Jacobians [n, t, k, 2, 2], with t at least 3.
        num_samples: samples to draw for each sequence.
        seed: seed of the samples.

    Returns:
        `error` and `error_best`: mean distance between generated and true positions over the inner frames, averaged
            over all samples and over the best sample of each sequence.
        `error_linear`: the same error for linear interpolation.
        `velocity` and `velocity_linear`: Wasserstein-1 distance between the generated and the true distribution of
            speeds, where a speed is how far a keypoint moves from one frame to the next.
        `diversity`: mean distance between the positions of a sample and the mean of all samples of its sequence.
    """
    count, num_frames = truth.position.shape[:2]
    truth = Keypoints(*map(jnp.asarray, truth))
    first, last = (Keypoints(*(x[:, i] for x in truth)) for i in (0, -1))
    starts, ends = (Keypoints(*(jnp.repeat(x, num_samples, 0) for x in end)) for end in (first, last))
    keys = jax.random.split(jax.random.key(seed), count * num_samples)
    samples = generate(motion, starts, ends, num_frames, keys).position
    samples = samples.reshape(count, num_samples, *samples.shape[1:])
    linear = interpolate(first, last, num_frames).position
    errors = _distance(samples, truth.position[:, None])
    return {
        "error": float(errors.mean()),
        "error_best": float(errors.min(1).mean()),
        "error_linear": float(_distance(linear, truth.position).mean()),
        "velocity": _velocity_distance(samples, truth.position),
        "velocity_linear": _velocity_distance(linear, truth.position),
        "diversity": float(_distance(samples, samples.mean(1, keepdims=True)).mean()),
    }


def _distance(a: Float[AnyArray, "*#b t k 2"], b: Float[AnyArray, "*#b t k 2"]) -> Float[Array, "*b"]:
    """Mean distance between positions over keypoints and inner frames."""
    return jnp.linalg.norm((a - b)[..., 1:-1, :, :], axis=-1).mean((-1, -2))


def _velocity_distance(a: Float[AnyArray, "*a t k 2"], b: Float[AnyArray, "*b t k 2"]) -> float:
    """Wasserstein-1 distance between two distributions of speeds: the mean difference of their quantiles."""
    levels = np.linspace(0, 1, 201)
    speeds = (np.linalg.norm(np.diff(np.asarray(x), axis=-3), axis=-1).ravel() for x in (a, b))
    first, second = (np.quantile(x, levels) for x in speeds)
    return float(np.abs(first - second).mean())
