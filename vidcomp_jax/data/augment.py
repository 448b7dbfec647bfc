"""Augments training pairs with flips and color jitter, like the released First Order Motion Model.

Input and output: frames of one clip, which all get the same random change. The jitter follows torchvision's
`ColorJitter`: factors for brightness, contrast and saturation are drawn from [max(0, 1 - x), 1 + x], and a rotation of
the hue from [-x, x] (1 is a full turn). The four are applied in random order, each result clipped to [0, 1].
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from vidcomp_jax.errors import require, require_at_least

_GRAY = np.array([0.2989, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in gray; rounded as in torchvision, where ITU-R 601 has 0.299 for red."""
_BLOCK = 16384
"""Pixels whose hue is rotated at a time: chunks that fit into the processor's cache are seven times faster."""

Frames = Float[np.ndarray, "t h w c"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """Random changes to the frames of a training pair; saturation and hue change only RGB frames."""

    horizontal_flip: bool = True
    """Mirror both frames with probability 1/2."""
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

    def __post_init__(self):
        require_at_least(self, brightness=0, contrast=0, saturation=0)
        require(0 <= self.hue <= 0.5, self, "hue", "between 0 and 0.5")


def augment(frames: Frames, config: AugmentationConfig, rng: np.random.Generator) -> Frames:
    """Apply one random change to all `frames` of a clip, in [0, 1]; it depends only on the state of `rng`."""
    mirror, reverse = rng.random(2) < 0.5
    if config.horizontal_flip and mirror:
        frames = frames[:, :, ::-1]
    if config.time_flip and reverse:
        frames = frames[::-1]
    widths = np.array([config.brightness, config.contrast, config.saturation, config.hue])
    factors = rng.uniform(np.maximum(0, 1 - widths), 1 + widths)
    factors[3] = rng.uniform(-config.hue, config.hue)
    for which in rng.permutation(4):
        if widths[which] and not (which >= 2 and frames.shape[-1] == 1):
            frames = _JITTER[which](frames, np.float32(factors[which]))
    return np.ascontiguousarray(frames, np.float32)


def adjust_brightness(frames: Frames, factor: float | np.floating) -> Frames:
    """Multiply all values by `factor`."""
    return np.clip(frames * factor, 0, 1)


def adjust_contrast(frames: Frames, factor: float | np.floating) -> Frames:
    """Scale the difference of every pixel from the mean gray of its frame by `factor`."""
    mean = _gray(frames).mean((1, 2, 3), keepdims=True)
    return np.clip(mean + factor * (frames - mean), 0, 1)


def adjust_saturation(frames: Frames, factor: float | np.floating) -> Frames:
    """Scale the difference of every pixel of RGB frames from its own gray by `factor`."""
    gray = _gray(frames)
    return np.clip(gray + factor * (frames - gray), 0, 1)


def adjust_hue(frames: Frames, turn: float | np.floating) -> Frames:
    """Rotate the hue of RGB frames in HSV space by `turn` full turns; value and saturation are unchanged."""
    rotated = np.empty(frames.shape, np.float32)
    pixels, out = frames.reshape(-1, 3), rotated.reshape(-1, 3)
    for start in range(0, len(pixels), _BLOCK):
        part = slice(start, start + _BLOCK)
        out[part] = _rotate_hue(pixels[part], np.float32(6 * turn))
    return rotated


def _rotate_hue(pixels: Float[np.ndarray, "n 3"], sixths: np.floating) -> Float[np.ndarray, "n 3"]:
    """Rotate the hue by sixths of the circle: red is at 0 and 6, green at 2, blue at 4."""
    red, green, blue = np.ascontiguousarray(pixels.T)
    value = np.maximum(np.maximum(red, green), blue)
    chroma = value - np.minimum(np.minimum(red, green), blue)
    scale = 1 / np.where(chroma > 0, chroma, np.float32(1))
    not_red = np.where(value == green, (blue - red) * scale + 2, (red - green) * scale + 4)
    hue = np.where(value == red, (green - blue) * scale, not_red) + sixths
    rotated = np.empty((3, len(pixels)), np.float32)
    for channel, offset in zip(rotated, (5, 3, 1), strict=True):
        k = hue + offset
        k -= 6 * np.floor(k / 6)
        channel[:] = value - chroma * np.clip(np.minimum(k, 4 - k), 0, 1)
    return rotated.T


def _gray(frames: Frames) -> Float[np.ndarray, "t h w 1"]:
    return frames if frames.shape[-1] == 1 else (frames @ _GRAY)[..., None]


_JITTER = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
