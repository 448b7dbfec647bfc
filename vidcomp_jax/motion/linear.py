"""Linear interpolation of keypoints between known frames, the baseline for all motion models."""

import numpy as np
from jaxtyping import Array, Int

from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.motion.known import keep_known, neighbors, place


class LinearMotion:
    """Linear interpolation as a `vidcomp_jax.motion.model.MotionModel`."""

    stochastic: bool = False
    ends_only: bool = False
    num_keypoints: int | None = None
    num_frames: int | None = None

    def generate(
        self, known: Keypoints, times: Int[Array | np.ndarray, " n"], num_frames: int, keys=None, clock=None
    ) -> Keypoints:
        """See `interpolate`; `keys` and `clock` are not used."""
        return interpolate(known, times, num_frames)


def interpolate(known: Keypoints, times: Int[Array | np.ndarray, " n"], num_frames: int) -> Keypoints:
    """Move every position and every Jacobian entry at constant speed from each known frame to the next.

    Before the first and after the last known frame, keypoints stay where they are.

    Args:
        known: keypoints of the known frames: positions [b, n, k, 2] and Jacobians [b, n, k, 2, 2].
        times: index of each known frame, ascending.
        num_frames: length of the sequence.

    Returns:
        Keypoints [b, num_frames, k, ...], which equal the known ones exactly where they are known.
    """
    line = (neighbors(*place(x, times, num_frames)).line.reshape(len(x), num_frames, *x.shape[2:]) for x in known)
    return keep_known(Keypoints(*line), known, times)
