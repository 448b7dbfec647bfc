"""Resizes frames on the device as `media.images.resize` does on the host, to the same pixels.

The filter is bilinear; when shrinking, it widens with the scale factor, which avoids aliasing. Rows and columns are
weighted sums, so resizing is two products with constant matrices. As in Pillow, widths come first, and pixels are
rounded to whole numbers after each of the two.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

_LUMA = (19595.0, 38470.0, 7471.0)
"""Weights of red, green and blue in gray (ITU-R 601), in 2^-16 as in Pillow: their sums are exact in float32."""

Pixels = UInt8[Array, "*n h w c"] | Float[Array, "*n h w c"]


def resize(frames: Pixels, size: int) -> Float[Array, "*n size size c"]:
    """Frames of any shape, with pixels from 0 to 255, resized to `size` x `size` pixels: whole numbers as floats."""
    height, width = frames.shape[-3:-1]
    frames = frames.astype(jnp.float32)
    exact = jax.lax.Precision.HIGHEST  # otherwise GPUs and TPUs round what they multiply
    if width != size:
        frames = _rounded(jnp.einsum("...hwc,xw->...hxc", frames, _weights(width, size), precision=exact))
    if height != size:
        frames = _rounded(jnp.einsum("...hwc,yh->...ywc", frames, _weights(height, size), precision=exact))
    return frames


def to_channels(frames: Float[Array, "*n h w c"], num_channels: int) -> Float[Array, "*n h w num_channels"]:
    """Frames with pixels from 0 to 255 as gray (ITU-R 601 luma, whole numbers) or RGB, as `media.images` has it."""
    if frames.shape[-1] == num_channels:
        return frames
    if num_channels == 3:
        return jnp.repeat(frames, 3, -1)
    red, green, blue = jnp.moveaxis(frames * jnp.array(_LUMA), -1, 0)
    return _rounded((red + green + blue) / 65536)[..., None]


def _rounded(pixels: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """The nearest whole numbers; halves are rounded up, as in Pillow."""
    return jnp.floor(pixels + 0.5)


def _weights(before: int, after: int) -> Float[np.ndarray, "after before"]:
    """The weight of each pixel of a row of length `before` in each pixel of the resized one."""
    scale = before / after
    center = (np.arange(after)[:, None] + 0.5) * scale
    distance = abs(np.arange(before) + 0.5 - center) / max(scale, 1.0)
    weights = np.maximum(1 - distance, 0)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
