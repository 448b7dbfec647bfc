"""Conversion between the keypoints of a frame and the vectors that motion networks work on.

For k keypoints, a vector has 6 k entries: the 2 k coordinates (x, y of keypoint 0, 1, ...) unchanged, and the 4 k
Jacobian entries (row by row) scaled so that the smallest and largest of the training split become -1 and 1. The range
matters because the output layer of the networks is a tanh.
"""

import math
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from vidcomp_jax.data.clips import spread
from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.keypoints import Keypoints

Order = Literal["position-first", "jacobian-first"]
"""Which part of a vector comes first. The students' autoregressive network was trained on "jacobian-first"."""


class JacobianLimits(NamedTuple):
    """Range of the Jacobian entries of the training split: one for all, or one for each of the 4 k entries.

    Attributes:
        lower: smallest entry, which is scaled to -1.
        upper: largest entry, which is scaled to 1.
    """

    lower: Float[Array, "*e"]
    upper: Float[Array, "*e"]


def measure_limits(jacobians: Float[Array | np.ndarray, "*b k 2 2"], *, per_entry: bool = False) -> JacobianLimits:
    """Measure the limits on a training split. Jacobians of other splits may lie outside and are not clipped.

    Args:
        jacobians: Jacobians of all frames.
        per_entry: measure the range of each entry of each keypoint by itself; an entry that does not vary is shifted
            to -1, and not scaled up.

    Raises:
        InputError: an entry is not finite, or all entries are equal.
    """
    lower, upper = float(jacobians.min()), float(jacobians.max())
    if not (math.isfinite(lower) and math.isfinite(upper)):
        raise InputError("the motion holds Jacobians that are not finite; extract it with another keypoint model")
    if upper - lower < 1e-6:  # even identity Jacobians span 0 to 1, so something is wrong
        raise InputError(f"all Jacobian entries of the motion are {lower:.6g}; scaling them needs two different values")
    if not per_entry:
        return JacobianLimits(jnp.float32(lower), jnp.float32(upper))
    entries = np.asarray(jacobians, np.float32).reshape(-1, 4 * jacobians.shape[-3])
    low, high = entries.min(0), entries.max(0)
    return JacobianLimits(jnp.asarray(low), jnp.asarray(np.where(high - low < 1e-6, low + 2, high)))


class MotionStatistics(NamedTuple):
    """Statistics of the motion vectors of a training split, each entry by itself.

    Attributes:
        mean: mean over all frames.
        deviation: standard deviation over all frames.
        spread: row g is the root mean square offset of the frames between two frames that are g frames apart from the
            straight line between these two. The last row is that of whole windows.
        drift: row d is the root mean square difference of frames that are d frames apart.
    """

    mean: Float[Array, " v"]
    deviation: Float[Array, " v"]
    spread: Float[Array, "t v"]
    drift: Float[Array, "t v"]

    @classmethod
    def of_nothing(cls, size: int, num_frames: int) -> "MotionStatistics":
        """Mean 0 and everything else 1, for models whose weights are loaded."""
        return cls(jnp.zeros(size), jnp.ones(size), *jnp.ones((2, num_frames, size)))


def measure_statistics(
    vectors: Float[np.ndarray, "frames v"], starts: Int[np.ndarray, " s"], num_frames: int
) -> MotionStatistics:
    """Measure the statistics of a training split.

    Entries that hardly vary count as varying by 1e-4, so that rounding errors are not magnified.

    Args:
        vectors: motion vectors of all frames.
        starts: first frames of the windows; of many, 4096 spread over all are used.
        num_frames: length of a window, t.
    """
    windows = vectors[starts[spread(len(starts), 4096)][:, None] + np.arange(num_frames)].astype(np.float64)

    def offsets(gap: int) -> Float[np.ndarray, " v"]:
        time = np.linspace(0, 1, gap + 1)[1:-1, None]
        parts = (windows[:, i : i + gap + 1] for i in range(num_frames - gap))
        squares = [np.square(x[:, 1:-1] - ((1 - time) * x[:, :1] + time * x[:, -1:])).mean((0, 1)) for x in parts]
        return np.sqrt(np.mean(squares, axis=0))

    inside = [offsets(gap) for gap in range(2, num_frames)]
    beyond = [np.sqrt(np.square(windows[:, d:] - windows[:, :-d]).mean((0, 1))) for d in range(1, num_frames)]
    rows = (np.stack([x[0]] * (num_frames - len(x)) + x) for x in (inside, beyond))  # no frame lies in the first gaps
    mean, deviation = vectors.mean(0, dtype=np.float64), vectors.std(0, dtype=np.float64)
    measured = (np.maximum(x, 1e-4) for x in (deviation, *rows))
    return MotionStatistics(*(jnp.asarray(x, jnp.float32) for x in (mean, *measured)))


class Scaling(nnx.Module):
    """The conversion as a part of a motion network, so that the limits are saved with its weights.

    Attributes:
        lower, upper: see `JacobianLimits`; data statistics that are checkpointed but not trained.
        order: which part of a vector comes first.
    """

    def __init__(self, limits: JacobianLimits | None = None, order: Order = "position-first"):
        limits = limits or JacobianLimits(jnp.float32(-1), jnp.float32(1))
        self.lower, self.upper = nnx.BatchStat(limits.lower), nnx.BatchStat(limits.upper)
        self.order = order

    def to_vectors(self, keypoints: Keypoints) -> Float[Array, "*b v"]:
        """Convert keypoints with any leading axes to vectors; see the function `to_vectors`."""
        return to_vectors(keypoints, self._limits(), self.order)

    def to_keypoints(self, vectors: Float[Array, "*b v"]) -> Keypoints:
        """Convert vectors to keypoints, the inverse of `to_vectors`."""
        return to_keypoints(vectors, self._limits(), self.order)

    def _limits(self) -> JacobianLimits:
        return JacobianLimits(self.lower[...], self.upper[...])


def to_vectors(keypoints: Keypoints, limits: JacobianLimits, order: Order = "position-first") -> Float[Array, "*b v"]:
    """Flatten positions [..., k, 2] and Jacobians [..., k, 2, 2] to vectors [..., 6 k], scaling the Jacobians."""
    leading = keypoints.position.shape[:-2]
    position = jnp.reshape(keypoints.position, (*leading, -1))
    jacobian = jnp.reshape(keypoints.jacobian, (*leading, -1))
    jacobian = 2 * (jacobian - limits.lower) / (limits.upper - limits.lower) - 1
    return jnp.concatenate([position, jacobian] if order == "position-first" else [jacobian, position], -1)


def to_keypoints(vectors: Float[Array, "*b v"], limits: JacobianLimits, order: Order = "position-first") -> Keypoints:
    """Convert vectors [..., 6 k] back to keypoints, the inverse of `to_vectors`."""
    *leading, length = vectors.shape
    k = length // 6
    if order == "position-first":
        position, jacobian = jnp.split(vectors, [2 * k], -1)
    else:
        jacobian, position = jnp.split(vectors, [4 * k], -1)
    jacobian = limits.lower + (jacobian + 1) / 2 * (limits.upper - limits.lower)
    return Keypoints(position.reshape(*leading, k, 2), jacobian.reshape(*leading, k, 2, 2))
