"""Hourglass networks (Newell et al., 2016): an encoder, and a decoder with skip connections from it."""

import dataclasses
import itertools

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from vidcomp_jax.errors import require_at_least
from vidcomp_jax.nn.layers import DownBlock, UpBlock
from vidcomp_jax.nn.remat import Recomputing


@dataclasses.dataclass(frozen=True, kw_only=True)
class HourglassConfig:
    """Sizes of an hourglass."""

    width: int = 64
    """Channels at full resolution; doubled at each level down."""
    max_width: int = 1024
    """No level has more channels than this."""
    num_blocks: int = 5
    """Number of levels; the lowest has 1 / 2**num_blocks of the input's height and width."""

    def __post_init__(self):
        require_at_least(self, width=1, max_width=1, num_blocks=1)

    def features(self, level: int) -> int:
        """Channels at a level; level 0 has full resolution."""
        return min(self.max_width, self.width * 2**level)


class Encoder(Recomputing):
    """The contracting half of an hourglass."""

    def __init__(self, config: HourglassConfig, in_features: int, *, rngs: nnx.Rngs):
        widths = [in_features, *(config.features(level + 1) for level in range(config.num_blocks))]
        self.down_blocks = nnx.List([DownBlock(a, b, 3, rngs=rngs) for a, b in itertools.pairwise(widths)])

    def __call__(self, x: Float[Array, "b h w c"]) -> list[Array]:
        """Return the input, then the output of every level."""
        outputs = [x]
        for block in self.down_blocks:
            outputs.append(self.run(block, outputs[-1]))
        return outputs


class Decoder(Recomputing):
    """The expanding half of an hourglass, with a skip connection from every level."""

    def __init__(self, config: HourglassConfig, *, rngs: nnx.Rngs):
        self.up_blocks: nnx.List[UpBlock] = nnx.List()
        for level in reversed(range(config.num_blocks)):
            skips = 1 if level == config.num_blocks - 1 else 2
            in_features = skips * config.features(level + 1)
            self.up_blocks.append(UpBlock(in_features, config.features(level), 3, rngs=rngs))

    def __call__(self, levels: list[Array]) -> Float[Array, "b h w d"]:
        """Return features at full resolution, whose last channels are the input of the hourglass."""
        out = levels[-1]
        for block, skip in zip(self.up_blocks, reversed(levels[:-1]), strict=True):
            out = jnp.concatenate([self.run(block, out), skip], axis=-1)
        return out


class Hourglass(nnx.Module):
    """Encoder and decoder with skip connections (Newell et al., 2016), for any height and width.

    Inputs whose height or width is not divisible by 2**num_blocks are padded at the bottom and on the right by
    repeating their last pixels, and the output is cropped.

    Attributes:
        out_features: number of channels of the output, `width + in_features`.
    """

    def __init__(self, config: HourglassConfig, in_features: int, *, rngs: nnx.Rngs):
        self.encoder = Encoder(config, in_features, rngs=rngs)
        self.decoder = Decoder(config, rngs=rngs)
        self.multiple = 2**config.num_blocks
        self.out_features = config.width + in_features

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        """Compute features of every pixel."""
        height, width = x.shape[1:3]
        bottom, right = -height % self.multiple, -width % self.multiple
        if bottom or right:
            x = jnp.pad(x, ((0, 0), (0, bottom), (0, right), (0, 0)), mode="edge")
        return self.decoder(self.encoder(x))[:, :height, :width]
