"""The two discriminators of 3D-convolution in-betweening.

Input: clips or frames in [0, 1]. Output: a logit for each, high for real video.

One discriminator judges whole clips, the other single inner frames (Li, Roblek and Tagliasacchi, 2019, section 3.4).
Both use layer norm over all positions and channels of an example, because batch statistics would leak information
between real and generated examples.
"""

import itertools

import jax
from flax import nnx
from jaxtyping import Array, Float

from vidcomp_jax.inbetween.networks import InbetweenConfig
from vidcomp_jax.nn.conv3d import Conv3d

HALVINGS = 4


class VideoDiscriminator(nnx.Module):
    """Discriminator of clips: four 4x4x4 convolutions that halve height and width, then a linear layer."""

    def __init__(self, config: InbetweenConfig, *, rngs: nnx.Rngs):
        widths = _widths(config)
        self.convs = nnx.List(Conv3d(a, b, (4, 4, 4), stride=2, rngs=rngs) for a, b in itertools.pairwise(widths))
        self.norms = nnx.List(_layer_norm(b, 4, rngs) for b in widths[1:])
        positions = config.num_frames * (config.frame_size // 2**HALVINGS) ** 2
        self.head = _head(positions * widths[-1], rngs)
        self.remat = config.remat

    def __call__(self, clips: Float[Array, "b t h w c"]) -> Float[Array, " b"]:
        """Compute the logits of clips in [0, 1] of the configured length and size."""
        run = nnx.remat(_layer) if self.remat else _layer
        x = clips
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = run(conv, norm, x)
        return self.head(x.reshape(x.shape[0], -1))[:, 0]


class ResidualBlock(nnx.Module):
    """A 3x3 and a strided 4x4 convolution with an average-pooled 1x1 shortcut; halves height and width."""

    def __init__(self, in_features: int, features: int, *, rngs: nnx.Rngs):
        he = nnx.initializers.he_normal()
        self.first = nnx.Conv(in_features, in_features, (3, 3), padding=1, kernel_init=he, rngs=rngs)
        self.first_norm = _layer_norm(in_features, 3, rngs)
        self.second = nnx.Conv(in_features, features, (4, 4), strides=2, padding=1, kernel_init=he, rngs=rngs)
        self.second_norm = _layer_norm(features, 3, rngs)
        self.shortcut = nnx.Conv(in_features, features, (1, 1), rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """Compute features at half the height and width."""
        y = _leaky_relu(self.first_norm(self.first(x)))
        y = self.second_norm(self.second(y))
        return _leaky_relu(y + self.shortcut(nnx.avg_pool(x, (2, 2), strides=(2, 2))))


class ImageDiscriminator(nnx.Module):
    """Discriminator of single frames: four residual blocks, then a linear layer."""

    def __init__(self, config: InbetweenConfig, *, rngs: nnx.Rngs):
        widths = _widths(config)
        self.blocks = nnx.List(ResidualBlock(a, b, rngs=rngs) for a, b in itertools.pairwise(widths))
        self.head = _head((config.frame_size // 2**HALVINGS) ** 2 * widths[-1], rngs)
        self.remat = config.remat

    def __call__(self, frames: Float[Array, "b h w c"]) -> Float[Array, " b"]:
        """Compute the logits of frames in [0, 1] of the configured size."""
        run = nnx.remat(ResidualBlock.__call__) if self.remat else ResidualBlock.__call__
        x = frames
        for block in self.blocks:
            x = run(block, x)
        return self.head(x.reshape(x.shape[0], -1))[:, 0]


def _widths(config: InbetweenConfig) -> list[int]:
    return [config.num_channels, *(config.discriminator_width * 2**i for i in range(HALVINGS))]


def _layer(conv: Conv3d, norm: nnx.LayerNorm, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h2 w2 d"]:
    return _leaky_relu(norm(conv(x)))


def _layer_norm(features: int, num_axes: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    axes = tuple(range(-num_axes, 0))
    return nnx.LayerNorm(features, epsilon=1e-5, reduction_axes=axes, use_fast_variance=False, rngs=rngs)


def _head(features: int, rngs: nnx.Rngs) -> nnx.Linear:
    # With zero weights, all losses start at log 2, so that neither side starts out ahead.
    return nnx.Linear(features, 1, kernel_init=nnx.initializers.zeros_init(), rngs=rngs)


def _leaky_relu(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    return jax.nn.leaky_relu(x, 0.2)
