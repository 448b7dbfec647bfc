"""The occlusion-aware generator.

Input: a source frame and the dense motion. Output: the driving frame.

First Order Motion Model for Image Animation (Siarohin et al., NeurIPS 2019), section 3.2, equation 8. The encoder
sees the source alone, so one source is encoded once however many frames are rendered from it.
"""

import dataclasses
import itertools

import jax
from flax import nnx
from jaxtyping import Array, Float

from vidcomp_jax.errors import InputError, require_at_least
from vidcomp_jax.fomm.dense_motion import Motion
from vidcomp_jax.nn.geometry import resize_bilinear, warp
from vidcomp_jax.nn.layers import DownBlock, ResBlock, SameBlock, UpBlock, conv


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """Sizes of the generator."""

    width: int = 64
    """Channels at full resolution; doubled at each block down."""
    max_width: int = 512
    """No block has more channels than this."""
    num_down_blocks: int = 2
    """Blocks down and up again; frames must divide by 2**num_down_blocks."""
    num_bottleneck_blocks: int = 6
    """Residual blocks at the lowest resolution."""

    def __post_init__(self):
        require_at_least(self, width=1, max_width=1, num_down_blocks=0, num_bottleneck_blocks=0)


class OcclusionAwareGenerator(nnx.Module):
    """Encodes the source, warps and masks its features, and decodes the frame.

    Args:
        config: sizes.
        num_channels: channels of the frames.
        align_corners: sampling rule of the warps.
        rngs: key of the initial weights.
    """

    def __init__(self, config: GeneratorConfig, *, num_channels: int, align_corners: bool = True, rngs: nnx.Rngs):
        self.align_corners = align_corners
        self.multiple = 2**config.num_down_blocks
        widths = [min(config.max_width, config.width * 2**i) for i in range(config.num_down_blocks + 1)]
        # The first block's width is not limited, as released.
        widths[0] = config.width
        self.first = SameBlock(num_channels, widths[0], 7, rngs=rngs)
        down = itertools.pairwise(widths)
        self.down_blocks = nnx.List([DownBlock(a, b, 3, rngs=rngs) for a, b in down])
        self.bottleneck = nnx.List([ResBlock(widths[-1], rngs=rngs) for _ in range(config.num_bottleneck_blocks)])
        widths.reverse()
        up = itertools.pairwise(widths)
        self.up_blocks = nnx.List([UpBlock(a, b, 3, rngs=rngs) for a, b in up])
        self.final = conv(config.width, num_channels, 7, padding=3, rngs=rngs)

    def encode(self, source: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """Features of source frames in [0, 1]; height and width must divide by 2**num_down_blocks."""
        height, width = source.shape[1:3]
        if height % self.multiple or width % self.multiple:
            raise InputError(
                f"frames of {width}x{height} pixels: width and height must be divisible by {self.multiple}"
            )
        out = self.first(source)
        for block in self.down_blocks:
            out = block(out)
        return out

    def decode(self, features: Float[Array, "n h2 w2 d"], motion: Motion) -> Float[Array, "b h w c"]:
        """Frames in [0, 1] from source features and motions of any resolution.

        There may be fewer sources than motions: each source then serves as many motions in a row.
        """
        height, width = features.shape[1:3]
        grids = resize_bilinear(motion.deformation, height, width)
        out = warp(
            features,
            grids.reshape(features.shape[0], -1, height, width, 2),
            align_corners=self.align_corners,
        ).reshape(*grids.shape[:-1], -1)
        out = out * resize_bilinear(motion.occlusion_map, height, width)
        for block in self.bottleneck:
            out = block(out)
        for up_block in self.up_blocks:
            out = up_block(out)
        return jax.nn.sigmoid(self.final(out))

    def deform(self, source: Float[Array, "n h w c"], motion: Motion) -> Float[Array, "b h w c"]:
        """The source frames themselves, warped: what the deformation alone explains."""
        n, height, width, _ = source.shape
        grids = resize_bilinear(motion.deformation, height, width)
        deformed = warp(source, grids.reshape(n, -1, height, width, 2), align_corners=self.align_corners)
        return deformed.reshape(*grids.shape[:-1], -1)

    def __call__(self, source: Float[Array, "b h w c"], motion: Motion) -> Float[Array, "b h w c"]:
        """Frames in [0, 1]: `decode(encode(source), motion)`."""
        return self.decode(self.encode(source), motion)
