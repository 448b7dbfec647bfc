"""The dense-motion network.

Input: a source frame and the keypoints of source and driving frame. Output: a sampling grid and an occlusion map.

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
from vidcomp_jax.nn.layers import UNIT_FRACTION, AntiAliasDownsample, conv, is_unit_fraction


class Motion(NamedTuple):
    """What the dense-motion network predicts, at its own resolution (h, w).

    Attributes:
        deformation: sampling grid that takes the source to the driving frame, (x, y) in about [-1, 1].
        occlusion_map: 1 where the warped source can be used, 0 where it must be painted anew.
        masks: share of each candidate motion in every pixel, the background first; they sum to 1.
        sparse_deformed: the shrunk source warped by each candidate motion.
    """

    deformation: Float[Array, "b h w 2"]
    occlusion_map: Float[Array, "b h w 1"]
    masks: Float[Array, "b h w m"]
    sparse_deformed: Float[Array, "b m h w c"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenseMotionConfig(HourglassConfig):
    """Sizes of the dense-motion network."""

    scale: float = 0.25
    """Motion is predicted on the source shrunk by this factor: 1, 1/2, 1/4, 1/8."""
    heatmap_variance: float = 0.01
    """Variance of the keypoints' Gaussians, in squared coordinate units."""

    def __post_init__(self):
        super().__post_init__()
        require(is_unit_fraction(self.scale), self, "scale", UNIT_FRACTION)
        require_positive(self, "heatmap_variance")


def sparse_motions(source: Keypoints, driving: Keypoints, height: int, width: int) -> Float[Array, "b m h w 2"]:
    """Candidate sampling grids: the identity for the background, then one first-order motion a keypoint.

    Equation 4: T_k(z) = p_k(source) + J_k(source) J_k(driving)^-1 (z - p_k(driving)).
    """
    grid = coordinate_grid(height, width)
    offset = grid - driving.position[:, :, None, None]
    jacobian = multiply_2x2(source.jacobian, inverse_2x2(driving.jacobian))
    motions = transform_points(jacobian[:, :, None, None], offset) + source.position[:, :, None, None]
    background = jnp.broadcast_to(grid, (motions.shape[0], 1, *grid.shape))
    return jnp.concatenate([background, motions], axis=1)


class DenseMotion(nnx.Module):
    """Mixes the candidate motions of the keypoints into one sampling grid.

    Args:
        config: sizes.
        num_channels: channels of the frames.
        num_keypoints: keypoints, and so candidate motions beside the background.
        estimate_occlusion: predict an occlusion map; otherwise it is 1 everywhere.
        align_corners: sampling rule of the warps.
        rngs: key of the initial weights.
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

    def __call__(self, source: Float[Array, "b h w c"], source_keypoints: Keypoints, driving: Keypoints) -> Motion:
        """Motion from the source frame, in [0, 1], to the driving keypoints."""
        return self.from_small(self.down(source), source_keypoints, driving)

    def from_small(self, small: Float[Array, "n h w c"], source_keypoints: Keypoints, driving: Keypoints) -> Motion:
        """The same for source frames already shrunk by `down`.

        There may be fewer frames than keypoints: each frame then serves as many keypoints in a row.
        """
        frames, height, width, channels = small.shape
        b = driving.position.shape[0]
        motions = sparse_motions(source_keypoints, driving, height, width)
        grids = motions.reshape(frames, -1, height, width, 2)
        deformed = warp(small, grids, align_corners=self.align_corners).reshape(*motions.shape[:-1], channels)

        variance = self.config.heatmap_variance
        heatmaps = gaussian_heatmaps(driving.position, height, width, variance)
        heatmaps -= gaussian_heatmaps(source_keypoints.position, height, width, variance)
        heatmaps = jnp.pad(heatmaps, ((0, 0), (0, 0), (0, 0), (1, 0)))  # the background has none

        # One group of channels a candidate, its heatmap first.
        candidates = jnp.concatenate([heatmaps[..., None], jnp.moveaxis(deformed, 1, 3)], axis=-1)
        features = self.hourglass(candidates.reshape(b, height, width, -1))

        masks = jax.nn.softmax(self.mask(features).astype(jnp.float32), axis=-1)
        deformation = jnp.sum(jnp.moveaxis(masks, -1, 1)[..., None] * motions, axis=1)
        occlusion = (
            jax.nn.sigmoid(self.occlusion(features)) if self.estimate_occlusion else jnp.ones_like(masks[..., :1])
        )
        return Motion(deformation, occlusion, masks, deformed)
