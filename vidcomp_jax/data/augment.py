"""Augmentation of training pairs as the First Order Motion Model was released with: flips and colour jitter.

Frames of one clip in, the same frames out, all changed by one draw. The jitter follows torchvision's `ColorJitter`:
factors for brightness, contrast and saturation from [max(0, 1 - x), 1 + x], a turn of the hue from [-x, x] (1 is
the whole circle), the four in random order, every result clipped to [0, 1].
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from vidcomp_jax.errors import require, require_at_least

_GRAY = np.array([0.2989, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in gray as torchvision has them, whose jitter this is; ITU-R 601 says 0.299."""
_BLOCK = 16384
"""Pixels whose hue is turned at a time: they stay in the processor's cache, which is seven times faster."""

Frames = Float[np.ndarray, "t h w c"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """Random changes to the frames of a training pair. Gray frames keep their saturation and hue: they have none."""

    horizontal_flip: bool = True
    """Mirror both frames, half the time."""
    time_flip: bool = True
    """Exchange source and driving frame, half the time."""
    brightness: float = 0.1
    """Multiply by a factor up to this far from 1."""
    contrast: float = 0.1
    """Scale the distance from the frame's mean gray by a factor up to this far from 1."""
    saturation: float = 0.1
    """Scale the distance from the pixel's own gray by a factor up to this far from 1."""
    hue: float = 0.1
    """Turn the hue by at most this share of the colour circle; at most 0.5."""

    def __post_init__(self):
        require_at_least(self, brightness=0, contrast=0, saturation=0)
        require(0 <= self.hue <= 0.5, self, "hue", "between 0 and 0.5")


def augment(frames: Frames, config: AugmentationConfig, rng: np.random.Generator) -> Frames:
    """Change all `frames` [0, 1] of one clip alike; what is drawn depends on the state of `rng` alone."""
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
    """Multiply by `factor`."""
    return np.clip(frames * factor, 0, 1)


def adjust_contrast(frames: Frames, factor: float | np.floating) -> Frames:
    """Scale by `factor` the distance of every pixel to the mean gray of its frame."""
    mean = _gray(frames).mean((1, 2, 3), keepdims=True)
    return np.clip(mean + factor * (frames - mean), 0, 1)


def adjust_saturation(frames: Frames, factor: float | np.floating) -> Frames:
    """Scale by `factor` the distance of every pixel of RGB frames to its own gray."""
    gray = _gray(frames)
    return np.clip(gray + factor * (frames - gray), 0, 1)


def adjust_hue(frames: Frames, turn: float | np.floating) -> Frames:
    """Turn the hue of RGB frames in HSV space by `turn` of the circle; value and saturation stay."""
    turned = np.empty(frames.shape, np.float32)
    pixels, out = frames.reshape(-1, 3), turned.reshape(-1, 3)
    for start in range(0, len(pixels), _BLOCK):
        part = slice(start, start + _BLOCK)
        out[part] = _turn_hue(pixels[part], np.float32(6 * turn))
    return turned


def _turn_hue(pixels: Float[np.ndarray, "n 3"], sixths: np.floating) -> Float[np.ndarray, "n 3"]:
    """Turn by sixths of the circle; the hue runs from 0 at red over 2 at green and 4 at blue to 6."""
    red, green, blue = np.ascontiguousarray(pixels.T)
    value = np.maximum(np.maximum(red, green), blue)
    chroma = value - np.minimum(np.minimum(red, green), blue)
    scale = 1 / np.where(chroma > 0, chroma, np.float32(1))
    not_red = np.where(value == green, (blue - red) * scale + 2, (red - green) * scale + 4)
    hue = np.where(value == red, (green - blue) * scale, not_red) + sixths
    turned = np.empty((3, len(pixels)), np.float32)
    for channel, offset in zip(turned, (5, 3, 1), strict=True):
        k = hue + offset
        k -= 6 * np.floor(k / 6)
        channel[:] = value - chroma * np.clip(np.minimum(k, 4 - k), 0, 1)
    return turned.T


def _gray(frames: Frames) -> Float[np.ndarray, "t h w 1"]:
    return frames if frames.shape[-1] == 1 else (frames @ _GRAY)[..., None]


_JITTER = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
