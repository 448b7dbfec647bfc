"""Linear interpolation of keypoints between the first and the last frame, the baseline of all motion models."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vidcomp_jax.fomm.keypoints import Keypoints


class LinearMotion:
    """The baseline in the form of a motion model (`vidcomp_jax.motion.MotionModel`)."""

    stochastic: bool = False
    num_keypoints: int | None = None

    def generate(self, first: Keypoints, last: Keypoints, num_frames: int, keys: Array) -> Keypoints:
        """See `interpolate`; `keys` are not used."""
        return interpolate(first, last, num_frames)


def interpolate(first: Keypoints, last: Keypoints, num_frames: int) -> Keypoints:
    """Move every position and every Jacobian entry from `first` to `last` at constant speed.

    Args:
        first: keypoints [b, k, 2] and [b, k, 2, 2] of the first frame.
        last: those of the last frame.
        num_frames: at least 2, both ends included.

    Returns:
        Keypoints [b, num_frames, k, ...]; the ends are exactly the given ones.
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
    """`sequence` with its first and last entries replaced."""
    return jnp.asarray(sequence).at[:, 0].set(first).at[:, -1].set(last)
