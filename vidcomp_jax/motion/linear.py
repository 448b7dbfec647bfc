"""Linear interpolation of keypoints between the first and last frame, the baseline for all motion models."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vidcomp_jax.fomm.keypoints import Keypoints


class LinearMotion:
    """Linear interpolation as a `vidcomp_jax.motion.model.MotionModel`."""

    stochastic: bool = False
    num_keypoints: int | None = None

    def generate(self, first: Keypoints, last: Keypoints, num_frames: int, keys: Array) -> Keypoints:
        """See `interpolate`; `keys` are not used."""
        return interpolate(first, last, num_frames)


def interpolate(first: Keypoints, last: Keypoints, num_frames: int) -> Keypoints:
    """Move every position and every Jacobian entry from `first` to `last` at constant speed.

    Args:
        first: keypoints of the first frame: positions [b, k, 2] and Jacobians [b, k, 2, 2].
        last: keypoints of the last frame, with the same shapes.
        num_frames: length of the sequence including both ends, at least 2.

    Returns:
        Keypoints [b, num_frames, k, ...], whose ends equal `first` and `last` exactly.
    """
    return Keypoints(*(_between(x, y, num_frames) for x, y in zip(first, last, strict=True)))


def _between(
    first: Float[Array | np.ndarray, "b *k"], last: Float[Array | np.ndarray, "b *k"], num_frames: int
) -> Float[Array, "b t *k"]:
    time = jnp.linspace(0, 1, num_frames).reshape(-1, *[1] * (first.ndim - 1))
    return keep_ends((1 - time) * first[:, None] + time * last[:, None], first, last)


def keep_ends(
    sequence: Float[Array | np.ndarray, "b t *k"],
    first: Float[Array | np.ndarray, "b *k"],
    last: Float[Array | np.ndarray, "b *k"],
) -> Float[Array, "b t *k"]:
    """Replace the first and last frame of `sequence` with `first` and `last`."""
    return jnp.asarray(sequence).at[:, 0].set(first).at[:, -1].set(last)
