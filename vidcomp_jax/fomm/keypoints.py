"""Keypoints and the network that detects them.

Input: a frame. Output: keypoints, each with the 2x2 Jacobian of the motion around it.

First Order Motion Model for Image Animation (Siarohin et al., NeurIPS 2019), section 3.1; the architecture is
that of its supplement: an hourglass, a softmax over space, and maps of Jacobians weighted by the same heatmap.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from vidcomp_jax.errors import InputError, require, require_positive
from vidcomp_jax.nn.convolution import convolve
from vidcomp_jax.nn.geometry import coordinate_grid
from vidcomp_jax.nn.hourglass import Hourglass, HourglassConfig
from vidcomp_jax.nn.layers import conv
from vidcomp_jax.nn.resampling import UNIT_FRACTION, AntiAliasDownsample, is_unit_fraction


class Keypoints(NamedTuple):
    """Keypoints of one or more frames; always float32.

    Attributes:
        position: (x, y) in [-1, 1]; -1 and 1 lie on the centers of the corner pixels.
        jacobian: local linear map from the abstract reference frame to the image; rows are outputs, columns inputs.
            The identity for models without Jacobians (zero-order motion).
    """

    position: Float[Array | np.ndarray, "*b k 2"]
    jacobian: Float[Array | np.ndarray, "*b k 2 2"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeypointDetectorConfig(HourglassConfig):
    """Sizes of the keypoint detector."""

    width: int = 32
    """Number of channels at full resolution; doubled at each level down."""
    scale: float = 0.25
    """Factor by which the frame is downsampled first: 1, 1/2, 1/4, ..."""
    temperature: float = 0.1
    """Temperature of the softmax that gives the heatmaps; it divides the logits."""
    single_jacobian: bool = False
    """Predict one map of Jacobians for all keypoints instead of one for each."""

    def __post_init__(self):
        super().__post_init__()
        require(is_unit_fraction(self.scale), self, "scale", UNIT_FRACTION)
        require_positive(self, "temperature")


class KeypointDetector(nnx.Module):
    """Predicts keypoints of frames; it is trained without keypoint labels.

    Args:
        config: sizes.
        num_channels: number of channels of the frames.
        num_keypoints: number of keypoints to predict.
        estimate_jacobian: predict Jacobians; otherwise they are the identity (zero-order motion).
        rngs: random keys for the initial weights.
    """

    def __init__(
        self,
        config: KeypointDetectorConfig,
        *,
        num_channels: int,
        num_keypoints: int,
        estimate_jacobian: bool = True,
        rngs: nnx.Rngs,
    ):
        self.config = config
        self.down = AntiAliasDownsample(config.scale, num_channels)
        self.predictor = Hourglass(config, num_channels, rngs=rngs)
        features = self.predictor.out_features
        self.kp = conv(features, num_keypoints, 7, padding=0, rngs=rngs)
        self.estimate_jacobian = estimate_jacobian
        if estimate_jacobian:
            maps = 1 if config.single_jacobian else num_keypoints
            # Initially the identity everywhere, so that training starts from zero-order motion.
            self.jacobian = nnx.Conv(
                features,
                4 * maps,
                (7, 7),
                padding=((0, 0), (0, 0)),
                kernel_init=nnx.initializers.zeros,
                bias_init=lambda key, shape, dtype=jnp.float32: jnp.tile(jnp.eye(2, dtype=dtype).ravel(), maps),
                conv_general_dilated=convolve,
                rngs=rngs,
            )

    @jax.named_scope("keypoint_detector")
    def __call__(self, frames: Float[Array, "b h w c"]) -> Keypoints:
        """Predict keypoints of frames in [0, 1].

        Raises:
            InputError: if height or width is less than 7 pixels after downsampling.
        """
        features = self.predictor(self.down(frames))
        if min(features.shape[1:3]) < 7:
            raise InputError(
                f"frames of {frames.shape[2]}x{frames.shape[1]} pixels leave {features.shape[2]}x"
                f"{features.shape[1]} after shrinking by {self.config.scale}; the detector needs at least 7x7"
            )
        logits = self.kp(features).astype(jnp.float32)
        b, height, width, k = logits.shape
        heatmap = jax.nn.softmax(logits.reshape(b, height * width, k) / self.config.temperature, axis=1)
        # Sums of products, not matrix products: matrix units would round the coordinates to fewer bits.
        points = coordinate_grid(height, width).reshape(1, -1, 1, 2)
        position = jnp.sum(heatmap[..., None] * points, axis=1)
        if not self.estimate_jacobian:
            return Keypoints(position, jnp.broadcast_to(jnp.eye(2), (b, k, 2, 2)))
        maps = self.jacobian(features).astype(jnp.float32).reshape(b, height * width, -1, 4)
        jacobian = jnp.sum(heatmap[..., None] * maps, axis=1)
        return Keypoints(position, jacobian.reshape(b, k, 2, 2))

    def each(self, *batches: Float[Array, "b h w c"]) -> tuple[Keypoints, ...]:
        """Keypoints of several batches of one shape, as a call for each in turn gives.

        In training mode, batch norm keeps the batches apart. One pass over all of them compiles and runs faster than
        a pass for each.
        """
        joined = nnx.view(self, joined_batches=len(batches))(jnp.concatenate(batches))
        position, jacobian = (jnp.split(part, len(batches)) for part in joined)
        return tuple(map(Keypoints, position, jacobian))
