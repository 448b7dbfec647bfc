"""The generator of direct 3D-convolution in-betweening.

Input: first and last frames, and a noise vector for each pair. Output: clips, both ends included.

The architecture is that of Li, Roblek and Tagliasacchi, "From Here to There: Video Inbetweening Using Direct 3D
Convolutions" (2019), section 3. An image encoder is followed by stages that generate a latent video of increasing
temporal resolution, each mixing in the two encoded frames through gates controlled by the noise, and by a decoder of
transposed convolutions.

The variant `video-completion` is the network of a students' project (the public repository xih108/Video_Completion,
`midnet.py`): one learned vector stands in place of the noise, the latent video begins with the two encoded frames, the
residual of a stage is added to what the stage was given, and batch norm and leaky ReLU end the decoder, in place of a
sigmoid. Inside of it, pixels are in [-1, 1].
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from vidcomp_jax.errors import InputError, require, require_at_least, require_one_of
from vidcomp_jax.inbetween.rules import RULES, Rules, Variant
from vidcomp_jax.nn.conv3d import Conv3d, UpConv3d
from vidcomp_jax.nn.convolution import convolve
from vidcomp_jax.nn.layers import BatchNorm
from vidcomp_jax.nn.precision import MixedPrecision, as_input
from vidcomp_jax.storage.config import ADDED_LATER

Frame = Float[Array, "b h w c"]
Latent = Float[Array, "b t h w c"]
Gate = Float[Array, "b t c"]

REDUCTION = 8
"""Factor by which the encoder reduces height and width."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class InbetweenConfig:
    """Sizes of the networks. The defaults are those of the repository Video_Completion, which follows the paper."""

    num_frames: int = 16
    """Frames per clip, first and last included; a multiple of 4, and of 8 with the variant video-completion."""
    frame_size: int = 64
    """Height and width of the frames in pixels; a multiple of 16."""
    num_channels: int = 1
    """Color channels of the frames: 1 for gray, 3 for RGB."""
    width: int = 64
    """Channels of the encoding and the latent video; encoder and decoder have up to four times as many inside."""
    num_stages: int = 8
    """Fusion stages at each of the three temporal resolutions of the latent video."""
    noise_size: int = 128
    """Length of the noise vector of each clip; with the variant video-completion, of the vector that is learned."""
    discriminator_width: int = 64
    """Channels after the first layer of each discriminator, doubled by each later layer."""
    remat: bool = False
    """Keep only the input of each layer for the backward pass and recompute the rest, which saves memory but takes more
    time. It has no effect on a CPU, where XLA merges the recomputation with the first pass."""
    variant: Variant = dataclasses.field(default="stochastic", metadata=ADDED_LATER)
    """The networks and their training: stochastic draws noise for every clip; video-completion is what the repository
    Video_Completion trains, whose clips depend on their ends alone."""

    def __post_init__(self):
        require_at_least(self, num_frames=1, width=1, num_stages=1, noise_size=1, discriminator_width=1)
        # The latent video starts with a quarter of the frames and doubles twice; or it starts with two, doubled.
        require(self.num_frames % 4 == 0, self, "num_frames", "a multiple of 4")
        if self.as_in_video_completion:
            require(self.num_frames % 8 == 0, self, "num_frames", "a multiple of 8 with the variant video-completion")
        multiple_of_16 = self.frame_size >= 16 and self.frame_size % 16 == 0
        require(multiple_of_16, self, "frame_size", "a positive multiple of 16")
        require_one_of(self, num_channels=(1, 3))

    @property
    def as_in_video_completion(self) -> bool:
        """Whether the variant is `video-completion`."""
        return self.variant == "video-completion"

    @property
    def rules(self) -> Rules:
        """Initial weights and constants of the variant."""
        return RULES[self.variant]


class ConvBlock(nnx.Module):
    """2D convolution, batch norm and ReLU."""

    def __init__(self, in_features: int, features: int, size: int, stride: int, *, rules: Rules, rngs: nnx.Rngs):
        self.conv = nnx.Conv(
            in_features,
            features,
            (size, size),
            strides=stride,
            padding=1,
            kernel_init=rules.kernel,
            conv_general_dilated=convolve,
            promote_dtype=as_input,
            rngs=rngs,
        )
        self.norm = BatchNorm(features, epsilon=rules.batch_epsilon)

    def __call__(self, x: Frame) -> Float[Array, "b h2 w2 d"]:
        """Apply the block to features `x`."""
        return nnx.relu(self.norm(self.conv(x)))


class ImageEncoder(nnx.Module):
    """Encodes a frame at an eighth of its size, with seven convolutions of which three halve the size."""

    def __init__(self, config: InbetweenConfig, *, rngs: nnx.Rngs):
        w, rules = config.width, config.rules
        widths = [config.num_channels, w, w, 2 * w, 2 * w, 4 * w, 4 * w]
        self.blocks = nnx.List(
            ConvBlock(a, b, *((4, 2) if i % 2 == 0 else (3, 1)), rules=rules, rngs=rngs)
            for i, (a, b) in enumerate(itertools.pairwise(widths))
        )
        self.head = ConvBlock(4 * w, w, 3, 1, rules=rules, rngs=rngs)
        self.remat = config.remat

    def __call__(self, frames: Frame) -> Float[Array, "b h2 w2 d"]:
        """Encode frames to features with an eighth of their height and width."""
        run = nnx.remat(ConvBlock.__call__) if self.remat else ConvBlock.__call__
        x = frames
        for block in [*self.blocks, self.head]:
            x = run(block, x)
        return x


def fuse(start: Frame, end: Frame, previous: Latent, start_gate: Gate, end_gate: Gate, additive: Gate) -> Latent:
    """Mix the encoded ends into the latent video: g_s E(x_s) + g_e E(x_e) + max(0, 1 - g_s - g_e) z + n.

    Args:
        start, end: encoded first and last frame, [b, h, w, c].
        previous: latent video from the previous stage, [b, t, h, w, c].
        start_gate, end_gate: weights in [0, 1] for each frame and channel, [b, t, c].
        additive: noise term n added to each frame and channel, [b, t, c].
    """
    start_gate, end_gate, additive = (x[:, :, None, None].astype(start.dtype) for x in (start_gate, end_gate, additive))
    keep = jnp.maximum(0, 1 - start_gate - end_gate)
    return start_gate * start[:, None] + end_gate * end[:, None] + keep * previous + additive


class FusionStage(nnx.Module):
    """One stage of the latent video: stochastic fusion, then a residual block of two 3x3x3 convolutions."""

    def __init__(self, config: InbetweenConfig, num_frames: int, *, rngs: nnx.Rngs):
        width, rules = config.width, config.rules
        self.linear = nnx.Linear(
            config.noise_size, num_frames * width, kernel_init=rules.linear, bias_init=rules.times, rngs=rngs
        )
        self.mix = nnx.Conv(
            width, 3 * width, (3,), padding=1, kernel_init=rules.gates, bias_init=rules.gate_biases, rngs=rngs
        )
        self.first = Conv3d(width, width, (3, 3, 3), kernel_init=rules.kernel, rngs=rngs)
        self.second = Conv3d(width, width, (3, 3, 3), kernel_init=rules.residual, rngs=rngs)
        self.num_frames = num_frames
        self.from_previous = config.as_in_video_completion

    def gates(self, noise: Float[Array, "b n"]) -> tuple[Gate, Gate, Gate]:
        """Compute the start gate, end gate and additive term for each frame and channel."""
        x = self.linear(noise).reshape(noise.shape[0], self.num_frames, -1)
        start, end, additive = jnp.split(self.mix(x), 3, axis=-1)
        return jax.nn.sigmoid(start), jax.nn.sigmoid(end), additive

    def __call__(self, start: Frame, end: Frame, previous: Latent, noise: Float[Array, "b n"]) -> Latent:
        """Refine the latent video `previous`, which has this stage's number of frames."""
        z = fuse(start, end, previous, *self.gates(noise))
        return _leaky_relu((previous if self.from_previous else z) + self.second(_leaky_relu(self.first(z))))


class LatentVideo(nnx.Module):
    """Generates a latent video from encoded ends and noise, in three groups of stages at T/4, T/2 and T frames."""

    def __init__(self, config: InbetweenConfig, *, rngs: nnx.Rngs):
        lengths = [config.num_frames // 4, config.num_frames // 2, config.num_frames]
        self.stages = nnx.List(
            FusionStage(config, length, rngs=rngs) for length in lengths for _ in range(config.num_stages)
        )
        self.begins_with_ends = config.as_in_video_completion
        self.remat = config.remat

    def __call__(self, start: Frame, end: Frame, noise: Float[Array, "b n"]) -> Latent:
        """Generate the latent video [b, num_frames, h, w, c]; every frame is doubled between two groups of stages."""
        run = nnx.remat(FusionStage.__call__) if self.remat else FusionStage.__call__
        first = self.stages[0].num_frames
        z = jnp.zeros((start.shape[0], first, *start.shape[1:]), start.dtype)
        if self.begins_with_ends:
            z = jnp.stack([start, end], axis=1)
        for stage in self.stages:
            z = jnp.repeat(z, stage.num_frames // z.shape[1], axis=1)
            z = run(stage, start, end, z, noise)
        return z


class DecoderBlock(nnx.Module):
    """3D convolution, plain or transposed, with batch norm and leaky ReLU."""

    def __init__(self, conv: nnx.Module, features: int, epsilon: float):
        self.conv = conv
        self.norm = BatchNorm(features, epsilon=epsilon)

    def __call__(self, x: Latent) -> Float[Array, "b t h2 w2 d"]:
        """Apply the block to a latent video `x`."""
        return _leaky_relu(self.norm(self.conv(x)))


class VideoDecoder(nnx.Module):
    """Decodes a latent video to frames with seven transposed 3D convolutions, of which three double the size.

    A transposed convolution of stride 1 is a convolution with a mirrored kernel, so those are plain convolutions here.
    """

    def __init__(self, config: InbetweenConfig, *, rngs: nnx.Rngs):
        w, rules = config.width, config.rules

        def block(in_features: int, features: int, *, double: bool = False) -> DecoderBlock:
            if double:
                conv: nnx.Module = UpConv3d(in_features, features, kernel_init=rules.up, rngs=rngs)
            else:
                conv = Conv3d(in_features, features, (3, 3, 3), kernel_init=rules.kernel, rngs=rngs)
            return DecoderBlock(conv, features, rules.batch_epsilon)

        self.blocks = nnx.List(
            [
                block(w, 4 * w),
                block(4 * w, 4 * w),
                block(4 * w, 2 * w, double=True),
                block(2 * w, 2 * w),
                block(2 * w, w, double=True),
                block(w, w),
            ]
        )
        self.normalized = config.as_in_video_completion
        if self.normalized:
            self.head: nnx.Module = block(w, config.num_channels, double=True)
        else:
            self.head = UpConv3d(w, config.num_channels, kernel_init=rules.up, rngs=rngs)
        self.remat = config.remat

    def __call__(self, latent: Latent) -> Float[Array, "b t h2 w2 d"]:
        """Decode to frames in [0, 1], or about that, that are eight times as high and wide as `latent`."""
        run = nnx.remat(DecoderBlock.__call__) if self.remat else DecoderBlock.__call__
        x = latent
        for block in self.blocks:
            x = run(block, x)
        x = x.astype(jnp.float32)
        # Of the variant video-completion, values of -1 and 1 stand for black and white, and some lie beyond.
        return (self.head(x) + 1) / 2 if self.normalized else jax.nn.sigmoid(self.head(x))


class Generator(MixedPrecision):
    """Generates a clip from its first and last frame and a noise vector."""

    def __init__(self, config: InbetweenConfig, *, rngs: nnx.Rngs):
        self.encoder = ImageEncoder(config, rngs=rngs)
        self.latent = LatentVideo(config, rngs=rngs)
        self.decoder = VideoDecoder(config, rngs=rngs)
        self.learned = config.as_in_video_completion
        if self.learned:
            column = config.rules.linear(rngs.params(), (config.noise_size, 1))
            self.noise = nnx.Param(column[:, 0])

    @jax.named_scope("inbetween_generator")
    def __call__(self, first: Frame, last: Frame, noise: Float[Array, "b n"]) -> Float[Array, "b t h w c"]:
        """Generate a clip with `first` and `last` as its ends.

        Args:
            first, last: frames in [0, 1], [b, h, w, c], height and width multiples of 8.
            noise: standard normal, [b, noise_size]; the variant `video-completion` does not use it.

        Returns:
            Clips of `num_frames` frames in [0, 1]: `first`, the generated inner frames, and `last`. The inner frames of
            the variant `video-completion` can exceed [0, 1].

        Raises:
            InputError: the height or width is not a multiple of 8.
        """
        inner = self.generate(first, last, noise)[:, 1:-1]
        return jnp.concatenate([first[:, None], inner, last[:, None]], axis=1)

    def generate(self, first: Frame, last: Frame, noise: Float[Array, "b n"]) -> Float[Array, "b t h w c"]:
        """Generate all frames of a clip, also those of its ends; see `__call__`."""
        for size in first.shape[1:3]:
            if size % REDUCTION:
                raise InputError(f"frames must have a height and width that 8 divides, found {first.shape[1:3]}")
        if self.learned:
            start, end = (self.encoder((2 * x - 1).astype(self.compute_dtype)) for x in (first, last))
            noise = jnp.broadcast_to(self.noise[...], noise.shape)
        else:
            # Both ends are encoded in one pass, so that batch norm sees them as one batch.
            start, end = jnp.split(self.encoder(jnp.concatenate([first, last]).astype(self.compute_dtype)), 2)
        return self.decoder(self.latent(start, end, noise))


def _leaky_relu(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    return nnx.leaky_relu(x, 0.2)
