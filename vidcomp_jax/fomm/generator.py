"""The occlusion-aware generator, which renders a source frame under a given motion.

Input: a source frame and the dense motion. Output: the driving frame.

First Order Motion Model for Image Animation (Siarohin et al., NeurIPS 2019), section 3.2, equation 8. The encoder
sees only the source, so a source is encoded once, however many frames are rendered from it.
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
    """Number of channels at full resolution; doubled by each down block."""
    max_width: int = 512
    """No block has more channels than this."""
    num_down_blocks: int = 2
    """Number of down blocks and of up blocks; height and width must be divisible by 2**num_down_blocks."""
    num_bottleneck_blocks: int = 6
    """Number of residual blocks at the lowest resolution."""

    def __post_init__(self):
        require_at_least(self, width=1, max_width=1, num_down_blocks=0, num_bottleneck_blocks=0)


class OcclusionAwareGenerator(nnx.Module):
    """Encodes the source, warps and masks its features, and decodes the frame.

    Args:
        config: sizes.
        num_channels: number of channels of the frames.
        align_corners: sampling rule of the warps, see `vidcomp_jax.nn.geometry`.
        rngs: random keys for the initial weights.
    """

    def __init__(self, config: GeneratorConfig, *, num_channels: int, align_corners: bool = True, rngs: nnx.Rngs):
        self.align_corners = align_corners
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
        out = self.first(source)
        for block in self.down_blocks:
            out = block(out)
        return out

    def decode(self, features: Float[Array, "n h2 w2 d"], motion: Motion) -> Float[Array, "b h w c"]:
        """Render frames in [0, 1] from source features and motions, which may have any resolution.

        There may be fewer sources than motions: each source is then used for b / n consecutive motions.
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
        """Warp the source frames themselves by the deformation, without occlusion or decoding."""
        n, height, width, _ = source.shape
        grids = resize_bilinear(motion.deformation, height, width)
        deformed = warp(source, grids.reshape(n, -1, height, width, 2), align_corners=self.align_corners)
        return deformed.reshape(*grids.shape[:-1], -1)

    def __call__(self, source: Float[Array, "b h w c"], motion: Motion) -> Float[Array, "b h w c"]:
        """Render frames in [0, 1]: `decode(encode(source), motion)`."""
        return self.decode(self.encode(source), motion)
