"""The two discriminators of 3D-convolution in-betweening.

Input: clips or frames in [0, 1]. Output: a logit for each, high for real video.

One discriminator judges whole clips, the other single inner frames (Li, Roblek and Tagliasacchi, 2019, section 3.4).
Both use layer norm over all positions and channels of an example, because batch statistics would leak information
between real and generated examples.

The image discriminator of the variant `video-completion` adds the shortcuts up by themselves: each begins at the one
before, and is normalized and activated on its own, as in `midnet.py` of the repository xih108/Video_Completion.
"""

import itertools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from vidcomp_jax.inbetween.networks import InbetweenConfig
from vidcomp_jax.inbetween.rules import Rules
from vidcomp_jax.nn.conv3d import Conv3d
from vidcomp_jax.nn.convolution import convolve
from vidcomp_jax.nn.precision import MixedPrecision, as_input

HALVINGS = 4


class VideoDiscriminator(MixedPrecision):
    """Discriminator of clips: four 4x4x4 convolutions that halve height and width, then a linear layer."""

    def __init__(self, config: InbetweenConfig, *, rngs: nnx.Rngs):
        widths, rules = _widths(config), config.rules
        self.convs = nnx.List(
            Conv3d(a, b, (4, 4, 4), stride=2, kernel_init=rules.kernel, rngs=rngs)
            for a, b in itertools.pairwise(widths)
        )
        self.norms = nnx.List(_layer_norm(b, 4, rules, rngs) for b in widths[1:])
        positions = config.num_frames * (config.frame_size // 2**HALVINGS) ** 2
        self.head = _head(positions * widths[-1], rules, rngs)
        self.signed = config.as_in_video_completion
        self.remat = config.remat

    @jax.named_scope("video_discriminator")
    def __call__(self, clips: Float[Array, "b t h w c"]) -> Float[Array, " b"]:
        """Compute the logits of clips in [0, 1] of the configured length and size."""
        run = nnx.remat(_layer) if self.remat else _layer
        x = (2 * clips - 1 if self.signed else clips).astype(self.compute_dtype)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = run(conv, norm, x)
        return self.head(x.astype(jnp.float32).reshape(x.shape[0], -1))[:, 0]


class ResidualBlock(nnx.Module):
    """A 3x3 and a strided 4x4 convolution with an average-pooled 1x1 shortcut; halves height and width."""

    def __init__(self, in_features: int, features: int, *, rules: Rules, rngs: nnx.Rngs):
        self.first = nnx.Conv(
            in_features,
            in_features,
            (3, 3),
            padding=1,
            kernel_init=rules.kernel,
            conv_general_dilated=convolve,
            promote_dtype=as_input,
            rngs=rngs,
        )
        self.first_norm = _layer_norm(in_features, 3, rules, rngs)
        self.second = nnx.Conv(
            in_features,
            features,
            (4, 4),
            strides=2,
            padding=1,
            kernel_init=rules.kernel,
            promote_dtype=as_input,
            rngs=rngs,
        )
        self.second_norm = _layer_norm(features, 3, rules, rngs)
        self.shortcut = nnx.Conv(
            in_features, features, (1, 1), kernel_init=rules.linear, promote_dtype=as_input, rngs=rngs
        )

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """Compute features at half the height and width."""
        return _leaky_relu(self.main(x) + self.shortcut(_halved(x)))

    def main(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """What is added to the shortcut."""
        first = self.first_norm(self.first(x)).astype(x.dtype)  # layer norm gives float32
        return self.second_norm(self.second(_leaky_relu(first))).astype(x.dtype)


class ChainedBlock(ResidualBlock):
    """The block of the variant `video-completion`, whose shortcut begins at that of the block before."""

    def __init__(self, in_features: int, features: int, *, rules: Rules, rngs: nnx.Rngs):
        super().__init__(in_features, features, rules=rules, rngs=rngs)
        self.shortcut_norm = _layer_norm(features, 3, rules, rngs)

    def chained(
        self, x: Float[Array, "b h w c"], shortcut: Float[Array, "b h w c"]
    ) -> tuple[Float[Array, "b h2 w2 d"], Float[Array, "b h2 w2 d"]]:
        """Compute features at half the height and width from those of the block before, and the next shortcut."""
        shortcut = _leaky_relu(self.shortcut_norm(self.shortcut(_halved(shortcut))).astype(x.dtype))
        return _leaky_relu(self.main(x)) + shortcut, shortcut


class ImageDiscriminator(MixedPrecision):
    """Discriminator of single frames: four residual blocks, then a linear layer."""

    def __init__(self, config: InbetweenConfig, *, rngs: nnx.Rngs):
        widths, rules = _widths(config), config.rules
        block = ChainedBlock if config.as_in_video_completion else ResidualBlock
        self.blocks = nnx.List(block(a, b, rules=rules, rngs=rngs) for a, b in itertools.pairwise(widths))
        self.head = _head((config.frame_size // 2**HALVINGS) ** 2 * widths[-1], rules, rngs)
        self.chained = config.as_in_video_completion
        self.remat = config.remat

    @jax.named_scope("image_discriminator")
    def __call__(self, frames: Float[Array, "b h w c"]) -> Float[Array, " b"]:
        """Compute the logits of frames in [0, 1] of the configured size."""
        wrap = nnx.remat if self.remat else lambda run: run
        x = (2 * frames - 1 if self.chained else frames).astype(self.compute_dtype)
        shortcut = x
        for block in self.blocks:
            if self.chained:
                x, shortcut = wrap(ChainedBlock.chained)(block, x, shortcut)
            else:
                x = wrap(ResidualBlock.__call__)(block, x)
        return self.head(x.astype(jnp.float32).reshape(x.shape[0], -1))[:, 0]


def _widths(config: InbetweenConfig) -> list[int]:
    return [config.num_channels, *(config.discriminator_width * 2**i for i in range(HALVINGS))]


def _layer(conv: Conv3d, norm: nnx.LayerNorm, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h2 w2 d"]:
    return _leaky_relu(norm(conv(x)).astype(x.dtype))


def _layer_norm(features: int, num_axes: int, rules: Rules, rngs: nnx.Rngs) -> nnx.LayerNorm:
    axes = tuple(range(-num_axes, 0))
    return nnx.LayerNorm(features, epsilon=rules.layer_epsilon, reduction_axes=axes, use_fast_variance=False, rngs=rngs)


def _head(features: int, rules: Rules, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(features, 1, kernel_init=rules.head, rngs=rngs)


def _halved(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    return nnx.avg_pool(x, (2, 2), strides=(2, 2))


def _leaky_relu(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    return jax.nn.leaky_relu(x, 0.2)
