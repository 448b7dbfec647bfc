"""The occlusion-aware generator, which renders a source frame under a given motion.

Input: a source frame and the dense motion. Output: the driving frame.

First Order Motion Model for Image Animation (Siarohin et al., NeurIPS 2019), section 3.2, equation 8. The encoder
sees only the source, so a source is encoded once, however many frames are rendered from it.

With `full_resolution_skip`, pixels of the warped source pass around the decoder, as in the authors' later Motion
Representations for Articulated Animation (Siarohin et al., CVPR 2021).
"""

import dataclasses
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from vidcomp_jax.errors import InputError, require_at_least
from vidcomp_jax.fomm.dense_motion import Motion
from vidcomp_jax.nn.geometry import resize_bilinear, warp
from vidcomp_jax.nn.layers import DownBlock, ResBlock, SameBlock, UpBlock, conv
from vidcomp_jax.nn.precision import MixedPrecision
from vidcomp_jax.nn.remat import Recomputing
from vidcomp_jax.storage.config import ADDED_LATER


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """Sizes of the generator."""

    width: int = 64
    """Number of channels at full resolution; doubled by each down block."""
    max_width: int = 512
    """No block has more channels than this."""
    num_down_blocks: int = 2
    """Number of down blocks and of up blocks; height and width must be divisible by 2**num_down_blocks."""
    num_bottleneck_blocks: int = 6
    """Number of residual blocks at the lowest resolution."""
    full_resolution_skip: bool = dataclasses.field(default=False, metadata=ADDED_LATER)
    """Show the pixels of the warped source where they are not occluded, and decoded ones elsewhere. Details of the
    source stay sharp. The released models do not have this."""

    def __post_init__(self):
        require_at_least(self, width=1, max_width=1, num_down_blocks=0, num_bottleneck_blocks=0)


class Decoded(NamedTuple):
    """What the generator makes of a source frame and a motion.

    Attributes:
        prediction: the frame, in [0, 1].
        deformed_source: the source frame, warped by the deformation alone; black outside of the source.
    """

    prediction: Float[Array, "b h w c"]
    deformed_source: Float[Array, "b h w c"]


class OcclusionAwareGenerator(MixedPrecision, Recomputing):
    """Encodes the source, warps and masks its features, and decodes the frame.

    Args:
        config: sizes.
        num_channels: number of channels of the frames.
        align_corners: sampling rule of the warps, see `vidcomp_jax.nn.geometry`.
        rngs: random keys for the initial weights.
    """

    def __init__(self, config: GeneratorConfig, *, num_channels: int, align_corners: bool = True, rngs: nnx.Rngs):
        self.align_corners = align_corners
        self.full_resolution_skip = config.full_resolution_skip
        self.multiple = 2**config.num_down_blocks
        widths = [min(config.max_width, config.width * 2**i) for i in range(config.num_down_blocks + 1)]
        # As in the released code, `max_width` does not limit the first block.
        widths[0] = config.width
        self.first = SameBlock(num_channels, widths[0], 7, rngs=rngs)
        down = itertools.pairwise(widths)
        self.down_blocks = nnx.List([DownBlock(a, b, 3, rngs=rngs) for a, b in down])
        self.bottleneck = nnx.List([ResBlock(widths[-1], rngs=rngs) for _ in range(config.num_bottleneck_blocks)])
        widths.reverse()
        up = itertools.pairwise(widths)
        self.up_blocks = nnx.List([UpBlock(a, b, 3, rngs=rngs) for a, b in up])
        self.final = conv(config.width, num_channels, 7, padding=3, rngs=rngs)

    def set_view(  # type: ignore[override]  # it joins those of both classes
        self, compute_dtype: Any = None, remat: bool | None = None
    ):
        """Set the type to compute in, or start or stop recomputation; called by `nnx.view`."""
        MixedPrecision.set_view(self, compute_dtype)
        Recomputing.set_view(self, remat)

    @jax.named_scope("generator_encode")
    def encode(self, source: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """Compute features of source frames in [0, 1].

        Raises:
            InputError: if height or width is not divisible by 2**num_down_blocks.
        """
        height, width = source.shape[1:3]
        if height % self.multiple or width % self.multiple:
            raise InputError(
                f"frames of {width}x{height} pixels: width and height must be divisible by {self.multiple}"
            )
        out = self.run(self.first, source.astype(self.compute_dtype))
        for block in self.down_blocks:
            out = self.run(block, out)
        return out

    @jax.named_scope("generator_decode")
    def decode(self, features: Float[Array, "n h2 w2 d"], motion: Motion, source: Float[Array, "n h w c"]) -> Decoded:
        """Render frames from source features and motions, which may have any resolution.

        There may be fewer sources than motions: each source is then used for b / n consecutive motions.

        Args:
            features: the result of `encode`.
            motion: dense motions.
            source: the encoded source frames, in [0, 1].
        """
        height, width = features.shape[1:3]
        out = self._warp(features, motion)
        out *= resize_bilinear(motion.occlusion_map, height, width).astype(out.dtype)
        for block in [*self.bottleneck, *self.up_blocks]:
            out = self.run(block, out)
        decoded = jax.nn.sigmoid(self.final(out.astype(jnp.float32)))
        if not self.full_resolution_skip:
            return Decoded(decoded, self._warp(source, motion))
        # The last channel is the share of each pixel that comes from inside of the source frame.
        deformed = self._warp(jnp.pad(source, ((0, 0),) * 3 + ((0, 1),), constant_values=1), motion)
        deformed, inside = deformed[..., :-1], deformed[..., -1:]
        usable = resize_bilinear(motion.occlusion_map, *source.shape[1:3])
        return Decoded(usable * deformed + (1 - usable * inside) * decoded, deformed)

    def _warp(self, image: Float[Array, "n h w c"], motion: Motion) -> Float[Array, "b h w c"]:
        n, height, width, _ = image.shape
        grids = resize_bilinear(motion.deformation, height, width)
        warped = warp(image, grids.reshape(n, -1, height, width, 2), align_corners=self.align_corners)
        return warped.reshape(*grids.shape[:-1], -1)

    def __call__(self, source: Float[Array, "b h w c"], motion: Motion) -> Float[Array, "b h w c"]:
        """Render frames in [0, 1]: the prediction of `decode(encode(source), motion, source)`."""
        return self.decode(self.encode(source), motion, source).prediction
