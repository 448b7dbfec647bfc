"""Hourglass networks (Newell et al., 2016): an encoder, and a decoder with skip connections from it."""

import dataclasses
import itertools

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from vidcomp_jax.errors import require_at_least
from vidcomp_jax.nn.layers import DownBlock, UpBlock


@dataclasses.dataclass(frozen=True, kw_only=True)
class HourglassConfig:
    """Sizes of an hourglass."""

    width: int = 64
    """Channels at full resolution; doubled at each level down."""
    max_width: int = 1024
    """No level has more channels than this."""
    num_blocks: int = 5
    """Levels; the lowest one is 2**num_blocks times smaller."""
    """What errors call it."""

    def __post_init__(self):
        require_at_least(self, width=1, max_width=1, num_blocks=1)

    def features(self, level: int) -> int:
        """Channels at a level; level 0 has full resolution."""
        return min(self.max_width, self.width * 2**level)


class Encoder(nnx.Module):
    """The way down of an hourglass."""

    def __init__(self, config: HourglassConfig, in_features: int, *, rngs: nnx.Rngs):
        widths = [in_features, *(config.features(level + 1) for level in range(config.num_blocks))]
        self.down_blocks = nnx.List([DownBlock(a, b, 3, rngs=rngs) for a, b in itertools.pairwise(widths)])

    def __call__(self, x: Float[Array, "b h w c"]) -> list[Array]:
        """The input and the output of every level."""
        outputs = [x]
        for block in self.down_blocks:
            outputs.append(block(outputs[-1]))
        return outputs


class Decoder(nnx.Module):
    """The way up of an hourglass, with a skip connection from every level."""

    def __init__(self, config: HourglassConfig, *, rngs: nnx.Rngs):
        self.up_blocks: nnx.List[UpBlock] = nnx.List()
        for level in reversed(range(config.num_blocks)):
            skips = 1 if level == config.num_blocks - 1 else 2
            in_features = skips * config.features(level + 1)
            self.up_blocks.append(UpBlock(in_features, config.features(level), 3, rngs=rngs))

    def __call__(self, levels: list[Array]) -> Float[Array, "b h w d"]:
        """Features at full resolution, the hourglass's input as their last channels."""
        out = levels[-1]
        for block, skip in zip(self.up_blocks, reversed(levels[:-1]), strict=True):
            out = jnp.concatenate([block(out), skip], axis=-1)
        return out


class Hourglass(nnx.Module):
    """Encoder and decoder with skip connections (Newell et al., 2016); any height and width.

    Sizes that do not divide by 2**num_blocks are padded on the right and at the bottom with their last pixels,
    and the output is cut back.

    Attributes:
        out_features: channels of the output, `width + in_features`.
    """

    def __init__(self, config: HourglassConfig, in_features: int, *, rngs: nnx.Rngs):
        self.encoder = Encoder(config, in_features, rngs=rngs)
        self.decoder = Decoder(config, rngs=rngs)
        self.multiple = 2**config.num_blocks
        self.out_features = config.width + in_features

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        """Features for every pixel."""
        height, width = x.shape[1:3]
        bottom, right = -height % self.multiple, -width % self.multiple
        if bottom or right:
            x = jnp.pad(x, ((0, 0), (0, bottom), (0, right), (0, 0)), mode="edge")
        return self.decoder(self.encoder(x))[:, :height, :width]
