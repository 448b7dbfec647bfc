"""The dense-motion network, which turns the motion of keypoints into motion at every pixel.

Input: a source frame, its keypoints and those of the driving frame. Output: a sampling grid and an occlusion map.

First Order Motion Model for Image Animation (Siarohin et al., NeurIPS 2019), section 3.2, equations 4 to 7.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from vidcomp_jax.errors import require, require_positive
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.nn.geometry import (
    coordinate_grid,
    gaussian_heatmaps,
    inverse_2x2,
    multiply_2x2,
    transform_points,
    warp,
)
from vidcomp_jax.nn.hourglass import Hourglass, HourglassConfig
from vidcomp_jax.nn.layers import conv
from vidcomp_jax.nn.precision import MixedPrecision
from vidcomp_jax.nn.resampling import UNIT_FRACTION, AntiAliasDownsample, is_unit_fraction


class Motion(NamedTuple):
    """The output of the dense-motion network, at the resolution (h, w) of the downsampled source.

    Attributes:
        deformation: sampling grid that warps the source to the driving frame; (x, y), mostly within [-1, 1].
        occlusion_map: 1 where the warped source can be used, 0 where it must be inpainted.
        masks: weight of each candidate motion at every pixel, the background first; they sum to 1.
        sparse_deformed: the downsampled source warped by each candidate motion.
    """

    deformation: Float[Array, "b h w 2"]
    occlusion_map: Float[Array, "b h w 1"]
    masks: Float[Array, "b h w m"]
    sparse_deformed: Float[Array, "b m h w c"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenseMotionConfig(HourglassConfig):
    """Sizes of the dense-motion network."""

    scale: float = 0.25
    """Factor by which the source is downsampled before motion is predicted: 1, 1/2, 1/4, ..."""
    heatmap_variance: float = 0.01
    """Variance of the keypoints' Gaussian heatmaps, in squared coordinate units."""

    def __post_init__(self):
        super().__post_init__()
        require(is_unit_fraction(self.scale), self, "scale", UNIT_FRACTION)
        require_positive(self, "heatmap_variance")


def sparse_motions(source: Keypoints, driving: Keypoints, height: int, width: int) -> Float[Array, "b m h w 2"]:
    """Candidate sampling grids: the identity for the background, then one first-order motion per keypoint.

    Equation 4: T_k(z) = p_k(source) + J_k(source) J_k(driving)^-1 (z - p_k(driving)).
    """
    grid = coordinate_grid(height, width)
    offset = grid - driving.position[:, :, None, None]
    jacobian = multiply_2x2(source.jacobian, inverse_2x2(driving.jacobian))
    motions = transform_points(jacobian[:, :, None, None], offset) + source.position[:, :, None, None]
    background = jnp.broadcast_to(grid, (motions.shape[0], 1, *grid.shape))
    return jnp.concatenate([background, motions], axis=1)


class DenseMotion(MixedPrecision):
    """Combines the candidate motions of the keypoints into one sampling grid and predicts an occlusion map.

    Args:
        config: sizes.
        num_channels: number of channels of the frames.
        num_keypoints: number of keypoints, that is, of candidate motions besides the background.
        estimate_occlusion: predict an occlusion map; otherwise it is 1 everywhere.
        align_corners: sampling rule of the warps, see `vidcomp_jax.nn.geometry`.
        rngs: random keys for the initial weights.
    """

    def __init__(
        self,
        config: DenseMotionConfig,
        *,
        num_channels: int,
        num_keypoints: int,
        estimate_occlusion: bool = True,
        align_corners: bool = True,
        rngs: nnx.Rngs,
    ):
        self.config = config
        self.align_corners = align_corners
        self.estimate_occlusion = estimate_occlusion
        self.down = AntiAliasDownsample(config.scale, num_channels)
        self.hourglass = Hourglass(config, (num_keypoints + 1) * (num_channels + 1), rngs=rngs)
        features = self.hourglass.out_features
        self.mask = conv(features, num_keypoints + 1, 7, padding=3, rngs=rngs)
        if estimate_occlusion:
            self.occlusion = conv(features, 1, 7, padding=3, rngs=rngs)

    @jax.named_scope("dense_motion")
    def __call__(self, source: Float[Array, "b h w c"], source_keypoints: Keypoints, driving: Keypoints) -> Motion:
        """Predict the motion from source frames, in [0, 1], to the driving keypoints."""
        return self.from_small(self.down(source), source_keypoints, driving)

    def from_small(self, small: Float[Array, "n h w c"], source_keypoints: Keypoints, driving: Keypoints) -> Motion:
        """Predict the motion from source frames that `down` has already downsampled.

        There may be fewer frames than sets of keypoints: each frame is then used for b / n consecutive sets.
        """
        frames, height, width, channels = small.shape
        b = driving.position.shape[0]
        motions = sparse_motions(source_keypoints, driving, height, width)
        grids = motions.reshape(frames, -1, height, width, 2)
        deformed = warp(small, grids, align_corners=self.align_corners).reshape(*motions.shape[:-1], channels)

        variance = self.config.heatmap_variance
        heatmaps = gaussian_heatmaps(driving.position, height, width, variance)
        heatmaps -= gaussian_heatmaps(source_keypoints.position, height, width, variance)
        heatmaps = jnp.pad(heatmaps, ((0, 0), (0, 0), (0, 0), (1, 0)))  # the background's heatmap is 0

        # One group of channels per candidate: its heatmap, then the warped source.
        candidates = jnp.concatenate([heatmaps[..., None], jnp.moveaxis(deformed, 1, 3)], axis=-1)
        candidates = candidates.reshape(b, height, width, -1).astype(self.compute_dtype)
        features = self.hourglass(candidates).astype(jnp.float32)

        masks = jax.nn.softmax(self.mask(features), axis=-1)
        deformation = jnp.sum(jnp.moveaxis(masks, -1, 1)[..., None] * motions, axis=1)
        occlusion = (
            jax.nn.sigmoid(self.occlusion(features)) if self.estimate_occlusion else jnp.ones_like(masks[..., :1])
        )
        return Motion(deformation, occlusion, masks, deformed)
