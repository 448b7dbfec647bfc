"""The multi-scale patch discriminator.

Input: frames. Output: feature maps and a map of scores at each scale.

The LSGAN discriminator of the First Order Motion Model's released configurations, with optional spectral normalization
(Miyato et al., 2018) and optional keypoint heatmaps as further input channels.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from vidcomp_jax.errors import InputError, require, require_at_least
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.nn.convolution import LAYOUT, convolve
from vidcomp_jax.nn.geometry import gaussian_heatmaps
from vidcomp_jax.nn.layers import constant, conv
from vidcomp_jax.nn.precision import MixedPrecision, as_input
from vidcomp_jax.nn.resampling import UNIT_FRACTION, average_pool, image_pyramid, is_unit_fraction


class Scores(NamedTuple):
    """The output of the discriminator at one scale.

    Attributes:
        features: the output of every block, in order.
        score: one score per patch; the targets are 1 for real frames and 0 for generated ones.
    """

    features: tuple[Float[Array, "b _ _ _"], ...]
    score: Float[Array, "b h w 1"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Sizes of the discriminator."""

    width: int = 32
    """Half the number of channels of the first block; doubled with each further block."""
    max_width: int = 512
    """No block has more channels than this."""
    num_blocks: int = 4
    """Number of blocks; all but the last halve height and width."""
    scales: tuple[float, ...] = (1.0,)
    """Scales of the frames; there is one discriminator for each."""
    spectral_norm: bool = False
    """Divide every kernel by its largest singular value."""
    use_keypoints: bool = False
    """Give the discriminator the heatmaps of the driving keypoints as further input channels."""
    heatmap_variance: float = 0.01
    """Variance of those heatmaps, in squared coordinate units."""

    def __post_init__(self):
        require_at_least(self, width=1, max_width=1, num_blocks=1)
        each_once = 0 < len(self.scales) == len(set(self.scales))
        require(each_once, self, "scales", "at least one scale, each given once")
        require(all(map(is_unit_fraction, self.scales)), self, "scales", f"each {UNIT_FRACTION}")


class InstanceNorm(nnx.Module):
    """Normalizes every channel of every image by its own mean and biased variance, then scales and shifts it."""

    def __init__(self, features: int):
        self.scale = nnx.Param(constant(1.0, features))
        self.bias = nnx.Param(constant(0.0, features))

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Normalize `x`."""
        values = x.astype(self.scale.dtype)
        mean = values.mean((1, 2), keepdims=True)
        var = jnp.square(values - mean).mean((1, 2), keepdims=True)
        return ((values - mean) * jax.lax.rsqrt(var + 1e-5) * self.scale[...] + self.bias[...]).astype(x.dtype)


class SpectralNormConv(nnx.Conv):
    """A convolution whose kernel is divided by an estimate of its largest singular value.

    The kernel is viewed as a matrix [out, in * h * w]. Each call in training mode runs one step of power iteration,
    through which no gradient flows.

    Attributes:
        u, v: estimates of the left and right singular vectors, of unit length; `v` is in PyTorch's order (in, h, w).
    """

    def __init__(self, *args, rngs: nnx.Rngs, **kwargs):
        super().__init__(*args, rngs=rngs, **kwargs)
        h, w, features_in, features_out = self.kernel.shape
        self.u = nnx.BatchStat(_unit(jax.random.normal(rngs.params(), (features_out,))))
        self.v = nnx.BatchStat(_unit(jax.random.normal(rngs.params(), (features_in * h * w,))))
        self.use_running_average = False

    def set_view(self, use_running_average: bool | None = None):
        """Start or stop the power iteration; called by `nnx.view`."""
        if use_running_average is not None:
            self.use_running_average = use_running_average

    def __call__(  # type: ignore[override]  # Flax's own method also accepts a sharding
        self, x: Float[Array, "b h w c"]
    ) -> Float[Array, "b h2 w2 d"]:
        """Convolve with the normalized kernel."""
        kernel = self.kernel[...]
        matrix = kernel.transpose(3, 2, 0, 1).reshape(kernel.shape[3], -1)
        u, v = self.u[...], self.v[...]
        if not self.use_running_average:
            constant = jax.lax.stop_gradient(matrix)
            v = _unit(_matmul(constant.T, u))
            u = _unit(_matmul(constant, v))
            self.u[...], self.v[...] = u, v
        assert self.bias is not None  # for the type checker; `conv` always creates a bias
        sigma = _matmul(u, _matmul(matrix, v))
        x, kernel, bias = as_input((x, kernel / sigma, self.bias[...]))
        return convolve(x, kernel, (1, 1), self.padding, dimension_numbers=LAYOUT) + bias


def _matmul(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _unit(vector: Array) -> Array:
    return vector / jnp.maximum(jnp.linalg.norm(vector), 1e-12)


class DiscriminatorBlock(nnx.Module):
    """4x4 convolution without padding, optional instance norm, leaky ReLU, and optional 2x2 average pooling."""

    def __init__(self, in_features: int, out_features: int, *, norm: bool, pool: bool, conv_type: type, rngs):
        self.conv = conv(in_features, out_features, 4, padding=0, rngs=rngs, conv_type=conv_type)
        self.has_norm = norm
        if norm:
            self.norm = InstanceNorm(out_features)
        self.pool = pool

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """Apply the block."""
        out = self.conv(x)
        if self.has_norm:
            out = self.norm(out)
        out = nnx.leaky_relu(out, 0.2)
        return average_pool(out) if self.pool else out


class Discriminator(MixedPrecision):
    """The discriminator at one scale."""

    def __init__(self, config: DiscriminatorConfig, in_features: int, *, rngs: nnx.Rngs):
        conv_type = SpectralNormConv if config.spectral_norm else nnx.Conv
        widths = [min(config.max_width, config.width * 2**i) for i in range(config.num_blocks + 1)]
        widths[0] = in_features
        self.down_blocks: nnx.List[DiscriminatorBlock] = nnx.List()
        for i in range(config.num_blocks):
            norm, pool = i > 0, i < config.num_blocks - 1
            block = DiscriminatorBlock(widths[i], widths[i + 1], norm=norm, pool=pool, conv_type=conv_type, rngs=rngs)
            self.down_blocks.append(block)
        self.conv = conv(widths[-1], 1, 1, padding=0, rngs=rngs, conv_type=conv_type)

    def __call__(self, x: Float[Array, "b h w c"]) -> Scores:
        """Score frames; with `use_keypoints`, the keypoints' heatmaps are their last channels.

        Raises:
            InputError: if the frames are too small for the number of blocks.
        """
        features, size = [], x.shape[1:3]
        x = x.astype(self.compute_dtype)
        for block in self.down_blocks:
            if min(x.shape[1:3]) < 4:
                raise InputError(
                    f"the discriminator sees frames of {size[1]}x{size[0]} pixels, too few for its "
                    f"{len(self.down_blocks)} blocks of 4x4 convolutions; give larger frames or a smaller "
                    "`fomm.discriminator.num_blocks`, or leave small scales out of `fomm.discriminator.scales`"
                )
            x = block(x)
            features.append(x)
        return Scores(tuple(features), self.conv(x.astype(jnp.float32)))


class MultiScaleDiscriminator(nnx.Module):
    """One discriminator for each of `config.scales`.

    Args:
        config: sizes.
        num_channels: number of channels of the frames.
        num_keypoints: number of keypoints; used only with `config.use_keypoints`.
        rngs: random keys for the initial weights.
    """

    def __init__(self, config: DiscriminatorConfig, *, num_channels: int, num_keypoints: int, rngs: nnx.Rngs):
        self.config = config
        in_features = num_channels + num_keypoints * config.use_keypoints
        self.names = tuple(f"{scale:g}".replace(".", "-") for scale in config.scales)  # as in PyTorch: 1, 0-5
        self.discs = nnx.Dict({name: Discriminator(config, in_features, rngs=rngs) for name in self.names})

    @jax.named_scope("discriminator")
    def __call__(self, frames: Float[Array, "b h w c"], driving: Keypoints) -> tuple[Scores, ...]:
        """Score frames in [0, 1] at every scale, in the order of `config.scales`.

        The driving keypoints are used only with `config.use_keypoints`.

        Raises:
            InputError: if the frames are too small at one of the scales.
        """
        outputs = []
        for name, x in zip(self.names, image_pyramid(frames, self.config.scales), strict=True):
            if self.config.use_keypoints:
                _, height, width, _ = x.shape
                heatmaps = gaussian_heatmaps(driving.position, height, width, self.config.heatmap_variance)
                x = jnp.concatenate([x, heatmaps], axis=-1)
            outputs.append(self.discs[name](x))
        return tuple(outputs)
