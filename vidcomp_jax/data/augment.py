"""Augments training pairs like the released First Order Motion Model: flips, rotation, resizing, crops, color jitter.

Input and output: frames of one clip, which all get the same random change, in the order above. The changes are part of
the compiled training step. The jitter follows torchvision's `ColorJitter`: factors for brightness, contrast and
saturation are drawn from [max(0, 1 - x), 1 + x], and a rotation of the hue from [-x, x] (1 is a full turn). The four
are applied in random order, each result clipped to [0, 1].
"""

import dataclasses
import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from vidcomp_jax.errors import require, require_at_least, require_one_of
from vidcomp_jax.storage.config import ADDED_LATER

_GRAY = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in gray; rounded as in torchvision, where ITU-R 601 has 0.299 for red."""

Frames = Float[Array, "t h w c"]
Number = float | Float[Array, ""]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """Random changes to the frames of a training pair; saturation and hue change only RGB frames."""

    horizontal_flip: bool = True
    """Mirror both frames with probability 1/2; with `exclusive_flips`, 1/2 of those that are not swapped."""
    time_flip: bool = True
    """Swap source and driving frame with probability 1/2."""
    brightness: float = 0.1
    """Multiply brightness by a random factor that differs from 1 by at most this much."""
    contrast: float = 0.1
    """Scale the difference from the frame's mean gray by a random factor that differs from 1 by at most this much."""
    saturation: float = 0.1
    """Scale the difference from each pixel's gray by a random factor that differs from 1 by at most this much."""
    hue: float = 0.1
    """Rotate the hue by at most this fraction of the color circle; at most 0.5."""

    exclusive_flips: bool = dataclasses.field(default=False, metadata=ADDED_LATER)
    """Never mirror frames that were swapped, as in the released code: of all pairs, a half is then swapped, a quarter
    mirrored, and none both. Otherwise the two are independent."""
    equal_frames: bool = dataclasses.field(default=False, metadata=ADDED_LATER)
    """Draw the two frames of a pair independently, as in the released code, so that they can be the same one.
    Otherwise they always differ."""
    rotation: tuple[float, float] = dataclasses.field(default=(0.0, 0.0), metadata=ADDED_LATER)
    """Range of the angle, in degrees, by which frames are rotated counterclockwise; corners become black."""
    resize: tuple[float, float] = dataclasses.field(default=(1.0, 1.0), metadata=ADDED_LATER)
    """Range of the factor by which frames are resized; needs a crop, which gives them one size again."""
    interpolation: Literal["nearest", "bilinear"] = dataclasses.field(default="nearest", metadata=ADDED_LATER)
    """How frames are resized."""
    crop: int = dataclasses.field(default=0, metadata=ADDED_LATER)
    """Height and width, in pixels, of a random crop; smaller frames are padded first by repeating their edges. 0 does
    not crop."""

    def __post_init__(self):
        require_at_least(self, brightness=0, contrast=0, saturation=0)
        require(0 <= self.hue <= 0.5, self, "hue", "between 0 and 0.5")
        require(self.rotation[0] <= self.rotation[1], self, "rotation", "a smaller and a larger angle")
        require(0 < self.resize[0] <= self.resize[1], self, "resize", "a smaller and a larger factor, both above 0")
        require(self.crop >= 0 and self.crop % 4 == 0, self, "crop", "0 or a multiple of 4, such as 256")
        require(self.crop or not self.resizes, self, "crop", "above 0 where `resize` is given")
        require_one_of(self, interpolation=("nearest", "bilinear"))

    @property
    def resizes(self) -> bool:
        """Whether frames are resized."""
        return self.resize != (1.0, 1.0)


def augment(frames: Frames, config: AugmentationConfig, key: Key[Array, ""]) -> Float[Array, "t h2 w2 c"]:
    """Change frames in [0, 1] of one clip at random, all in the same way; the time flip reverses their order."""
    flips, angle, scale, place, jitter = jax.random.split(key, 5)
    reverse, mirror = jax.random.bernoulli(flips, 0.5, (2,))
    if config.time_flip:
        frames = jnp.where(reverse, frames[::-1], frames)
    if config.horizontal_flip:
        swapped = reverse if config.time_flip and config.exclusive_flips else False
        frames = jnp.where(mirror & ~jnp.asarray(swapped), frames[:, :, ::-1], frames)
    if config.rotation != (0.0, 0.0):
        low, high = config.rotation
        frames = rotate(frames, jax.random.uniform(angle, minval=low, maxval=high))
    if config.crop:
        low, high = config.resize
        factor = jax.random.uniform(scale, minval=low, maxval=high) if config.resizes else None
        sides = jnp.array(frames.shape[1:3]) if factor is None else resized_sides(frames, factor)
        corner = jax.random.randint(place, (2,), 0, jnp.maximum(sides - config.crop, 0) + 1)
        frames = crop(frames, corner, config.crop, factor, config.interpolation)
    return _jittered(frames, config, jitter)


def _jittered(frames: Frames, config: AugmentationConfig, key: Key[Array, ""]) -> Frames:
    """Apply the changes of color that have an effect, in random order."""
    widths = [config.brightness, config.contrast, config.saturation, config.hue]
    used = [which for which, width in enumerate(widths) if width and not (which >= 2 and frames.shape[-1] == 1)]
    if not used:
        return frames
    factor_key, order_key = jax.random.split(key)
    low = jnp.array([*(max(0.0, 1 - width) for width in widths[:3]), -config.hue])
    high = jnp.array([*(1 + width for width in widths[:3]), config.hue])
    factors = jax.random.uniform(factor_key, (4,), minval=low, maxval=high)
    changes = [functools.partial(_JITTER[which], factor=factors[which]) for which in used]
    for which in jax.random.permutation(order_key, len(used)):
        frames = jax.lax.switch(which, changes, frames)
    return frames


def rotate(frames: Frames, degrees: Number) -> Frames:
    """Rotate frames counterclockwise about their center, bilinearly; what comes from outside is black."""
    height, width = frames.shape[1:3]
    center = (height - 1) / 2, (width - 1) / 2
    y, x = jnp.meshgrid(jnp.arange(height) - center[0], jnp.arange(width) - center[1], indexing="ij")
    cos, sin = jnp.cos(jnp.deg2rad(degrees)), jnp.sin(jnp.deg2rad(degrees))
    top, left = cos * y + sin * x + center[0], cos * x - sin * y + center[1]
    rotated = jnp.zeros_like(frames)
    for row, down in _neighbors(top):
        for column, right in _neighbors(left):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            pixels = frames[:, row.clip(0, height - 1), column.clip(0, width - 1)]
            rotated += (down * right * inside)[..., None] * pixels
    return rotated


def _neighbors(place: Float[Array, "*s"]) -> list[tuple[Int[Array, "*s"], Float[Array, "*s"]]]:
    """The two whole numbers next to each place, and their weights in linear interpolation."""
    before = jnp.floor(place)
    weight = place - before
    return [(before.astype(int), 1 - weight), (before.astype(int) + 1, weight)]


def resized_sides(frames: Frames, factor: Number) -> Int[Array, "2"]:
    """Height and width of frames resized by a factor, rounded down."""
    return jnp.maximum(jnp.floor(jnp.array(frames.shape[1:3]) * factor).astype(int), 1)


def crop(
    frames: Frames,
    corner: Int[Array, "2"],
    size: int,
    factor: Number | None = None,
    interpolation: Literal["nearest", "bilinear"] = "nearest",
) -> Float[Array, "t size size c"]:
    """Resize frames, and cut a square out of them, padded first by repeating their edges where they are smaller.

    As with scikit-image in the released code, shrinking blurs first, with standard deviation (1 / factor - 1) / 2, and
    everything outside of a frame is black.

    Args:
        frames: of any size.
        corner: row and column, in the padded frames, of the square's upper left corner.
        size: height and width of the square.
        factor: by which the frames are resized, `resized_sides` rounding the result; None does not resize.
        interpolation: how they are resized.
    """
    sides = jnp.array(frames.shape[1:3]) if factor is None else resized_sides(frames, factor)
    # Row i of the square is this row of the resized frames.
    rows = jnp.arange(size)[None] + (corner - jnp.maximum(size - sides, 0) // 2)[:, None]
    rows = rows.clip(0, sides[:, None] - 1)
    if factor is None:
        return frames[:, rows[0][:, None], rows[1]]
    weights = [_resizing(rows[axis], frames.shape[axis + 1], sides[axis], interpolation) for axis in (0, 1)]
    return jnp.einsum("yh,thwc,xw->tyxc", weights[0], frames, weights[1], precision=jax.lax.Precision.HIGHEST)


def _resizing(
    rows: Int[Array, " n"], before: int, after: Int[Array, ""], interpolation: str
) -> Float[Array, "n before"]:
    """The weight of each of the `before` rows of a frame in some `rows` of it when it is resized to `after` rows."""
    scale = before / after
    place = (rows + 0.5) * scale - 0.5
    if interpolation == "nearest":
        parts = [(jnp.floor(place + 0.5).astype(int).clip(0, before - 1), jnp.ones_like(place))]
    else:
        parts = _neighbors(place)
    # As `scipy.ndimage.gaussian_filter1d`, cut off at four standard deviations; frames that grow are not blurred.
    deviation = jnp.maximum(scale - 1, 0) / 2
    radius = jnp.floor(4 * deviation + 0.5)

    def kernel(distance: Array) -> Array:
        exponent = -0.5 * jnp.square(distance / jnp.maximum(deviation, 1e-3))
        return jnp.where(abs(distance) <= radius, jnp.exp(exponent), 0.0)

    every = jnp.arange(before)
    total = kernel(jnp.arange(-before, before + 1)).sum()
    inside = [((row >= 0) & (row < before)) * weight for row, weight in parts]
    found = [weight[:, None] * kernel(row[:, None] - every) for (row, _), weight in zip(parts, inside, strict=True)]
    return sum(found[1:], start=found[0]) / total


def adjust_brightness(frames: Frames, factor: Number) -> Frames:
    """Multiply all values by `factor`."""
    return jnp.clip(frames * factor, 0, 1)


def adjust_contrast(frames: Frames, factor: Number) -> Frames:
    """Scale the difference of every pixel from the mean gray of its frame by `factor`."""
    mean = _gray(frames).mean((1, 2, 3), keepdims=True)
    return jnp.clip(mean + factor * (frames - mean), 0, 1)


def adjust_saturation(frames: Frames, factor: Number) -> Frames:
    """Scale the difference of every pixel of RGB frames from its own gray by `factor`."""
    gray = _gray(frames)
    return jnp.clip(gray + factor * (frames - gray), 0, 1)


def adjust_hue(frames: Frames, factor: Number) -> Frames:
    """Rotate the hue of RGB frames in HSV space by `factor` full turns; value and saturation are unchanged."""
    red, green, blue = jnp.moveaxis(frames, -1, 0)
    value = frames.max(-1)
    chroma = value - frames.min(-1)
    scale = 1 / jnp.where(chroma > 0, chroma, 1)
    # In sixths of the circle: red is at 0 and 6, green at 2, blue at 4.
    not_red = jnp.where(value == green, (blue - red) * scale + 2, (red - green) * scale + 4)
    hue = jnp.where(value == red, (green - blue) * scale, not_red) + 6 * factor
    places = [(hue + offset) % 6 for offset in (5, 3, 1)]
    return jnp.stack([value - chroma * jnp.clip(jnp.minimum(k, 4 - k), 0, 1) for k in places], -1)


def _gray(frames: Frames) -> Float[Array, "t h w 1"]:
    if frames.shape[-1] == 1:
        return frames
    return sum((weight * frames[..., i : i + 1] for i, weight in enumerate(_GRAY)), start=jnp.zeros(()))


_JITTER = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
