"""Conversion between the keypoints of a frame and the vector that motion networks take.

With k keypoints a vector has 6 k entries: the 2 k coordinates (x, y of keypoint 0, 1, ...) as they are, and the
4 k Jacobian entries (row by row) scaled so that the training split's smallest and largest become -1 and 1. The
networks end in a tanh, which is why the range matters.
"""

import math
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.keypoints import Keypoints

Order = Literal["position-first", "jacobian-first"]
"""Which part of a vector comes first. The published autoregressive network was trained on "jacobian-first"."""


class JacobianLimits(NamedTuple):
    """Smallest and largest Jacobian entry of the training split.

    Attributes:
        lower: becomes -1.
        upper: becomes 1.
    """

    lower: Float[Array, ""]
    upper: Float[Array, ""]


def measure_limits(jacobians: Float[Array | np.ndarray, "*b k 2 2"]) -> JacobianLimits:
    """Limits of the Jacobians of a training split. Values of other splits may lie outside; they are not clipped."""
    lower, upper = float(jacobians.min()), float(jacobians.max())
    if not (math.isfinite(lower) and math.isfinite(upper)):
        raise InputError("the motion holds Jacobians that are not finite; extract it with another keypoint model")
    if upper - lower < 1e-6:  # identity Jacobians span 0 to 1, so this is no real model
        raise InputError(f"all Jacobian entries of the motion are {lower:.6g}; a scale needs two different ones")
    return JacobianLimits(jnp.float32(lower), jnp.float32(upper))


class Scaling(nnx.Module):
    """The limits and the order as a part of a motion network, so that they are saved with its weights.

    Attributes:
        lower, upper: see `JacobianLimits`. Statistics of the data: checkpointed, not trained.
        order: which part comes first.
    """

    def __init__(self, limits: JacobianLimits | None = None, order: Order = "position-first"):
        limits = limits or JacobianLimits(jnp.float32(-1), jnp.float32(1))
        self.lower, self.upper = nnx.BatchStat(limits.lower), nnx.BatchStat(limits.upper)
        self.order = order

    def to_vectors(self, keypoints: Keypoints) -> Float[Array, "*b v"]:
        """Vectors of keypoints with any leading axes."""
        return to_vectors(keypoints, self._limits(), self.order)

    def to_keypoints(self, vectors: Float[Array, "*b v"]) -> Keypoints:
        """The inverse of `to_vectors`."""
        return to_keypoints(vectors, self._limits(), self.order)

    def _limits(self) -> JacobianLimits:
        return JacobianLimits(self.lower[...], self.upper[...])


def to_vectors(keypoints: Keypoints, limits: JacobianLimits, order: Order = "position-first") -> Float[Array, "*b v"]:
    """Flatten keypoints [..., k, 2] and [..., k, 2, 2] to [..., 6 k]; the Jacobians are scaled by the limits."""
    leading = keypoints.position.shape[:-2]
    position = jnp.reshape(keypoints.position, (*leading, -1))
    jacobian = jnp.reshape(keypoints.jacobian, (*leading, -1))
    jacobian = 2 * (jacobian - limits.lower) / (limits.upper - limits.lower) - 1
    return jnp.concatenate([position, jacobian] if order == "position-first" else [jacobian, position], -1)


def to_keypoints(vectors: Float[Array, "*b v"], limits: JacobianLimits, order: Order = "position-first") -> Keypoints:
    """The inverse of `to_vectors`; the number of keypoints is a sixth of the vector's length."""
    *leading, length = vectors.shape
    k = length // 6
    if order == "position-first":
        position, jacobian = jnp.split(vectors, [2 * k], -1)
    else:
        jacobian, position = jnp.split(vectors, [4 * k], -1)
    jacobian = limits.lower + (jacobian + 1) / 2 * (limits.upper - limits.lower)
    return Keypoints(position.reshape(*leading, k, 2), jacobian.reshape(*leading, k, 2, 2))
