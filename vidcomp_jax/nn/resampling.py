"""Changes the size of features and frames [b, h, w, c]: pooling, nearest upsampling, and blurring before shrinking."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from vidcomp_jax.errors import InputError

UNIT_FRACTION = "1 divided by a whole number, such as 0.25"
"""What `is_unit_fraction` requires, worded for error messages."""


def is_unit_fraction(scale: float) -> bool:
    """Whether `scale` is 1, 1/2, 1/3, ..., so that images can be downsampled by it."""
    return 0 < scale <= 1 and abs(1 / scale - round(1 / scale)) <= 1e-6


class AntiAliasDownsample(nnx.Module):
    """Gaussian blur, then every n-th pixel: the downsampling before the motion networks and in image pyramids.

    The blur has standard deviation (1/scale - 1)/2 and zero padding. Both steps together are one matrix product along
    each axis.

    Args:
        scale: factor for height and width: 1 (no change), 1/2, 1/3, ...
        num_channels: number of channels of the images. No weights are learned.

    Raises:
        InputError: if `scale` is not 1 divided by a whole number.
    """

    def __init__(self, scale: float, num_channels: int):
        if not is_unit_fraction(scale):
            raise InputError(f"scale is {scale}; it must be {UNIT_FRACTION}")
        self.stride = round(1 / scale)
        self.num_channels = num_channels

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
        """Downsample images; the new height and width are rounded up."""
        if self.stride == 1:
            return x
        rows, columns = (jnp.asarray(self._matrix(size)) for size in x.shape[1:3])
        highest = jax.lax.Precision.HIGHEST
        x = jnp.einsum("oh,bhwc->bowc", rows, x, precision=highest)
        return jnp.einsum("ow,bhwc->bhoc", columns, x, precision=highest)

    def kernel(self) -> np.ndarray:
        """Weights of the blur along one axis: float32, summing to 1. The scale must be less than 1."""
        sigma = (self.stride - 1) / 2
        radius = round(sigma * 4)
        bell = np.exp(-np.square(np.arange(-radius, radius + 1)) / (2 * sigma**2))
        return (bell / bell.sum()).astype(np.float32)

    def _matrix(self, size: int) -> np.ndarray:
        kernel = self.kernel()
        radius = len(kernel) // 2
        starts = np.arange(0, size, self.stride)
        matrix = np.zeros((len(starts), size + 2 * radius), np.float32)
        for row, start in enumerate(starts):
            matrix[row, start : start + len(kernel)] = kernel
        return matrix[:, radius : radius + size]


def image_pyramid(frames: Float[Array, "b h w c"], scales: Sequence[float]) -> list[Float[Array, "b _ _ c"]]:
    """The frames at several scales, each downsampled from the original by `AntiAliasDownsample`."""
    return [AntiAliasDownsample(scale, frames.shape[-1])(frames) for scale in scales]


def average_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Mean of 2x2 pixels; an odd last row or column is dropped."""
    b, h, w, c = x.shape
    x = x[:, : h // 2 * 2, : w // 2 * 2]
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))


def max_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Largest of 2x2 pixels, the first of equal ones, as in PyTorch; an odd last row or column is dropped.

    This compiles and runs faster on a CPU than `flax.nnx.max_pool`, and its gradient is the same.
    """
    b, h, w, c = x.shape
    x = x[:, : h // 2 * 2, : w // 2 * 2].reshape(b, h // 2, 2, w // 2, 2, c)

    def larger(a: Array, b: Array) -> Array:
        return jnp.where(b > a, b, a)

    return larger(*(larger(x[:, :, row, :, 0], x[:, :, row, :, 1]) for row in (0, 1)))


def upsample_nearest(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Double height and width by repeating every pixel."""
    b, h, w, c = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)
