"""Augments training pairs with NumPy and SciPy, as a reference for the augmentation on devices.

Input and output: frames of one clip, which all get the same random change, in the order above. The jitter follows
torchvision's `ColorJitter`: factors for brightness, contrast and saturation are drawn from [max(0, 1 - x), 1 + x], and
a rotation of the hue from [-x, x] (1 is a full turn). The four are applied in random order, each result clipped to
[0, 1].
"""

from typing import Literal

import numpy as np
import scipy.ndimage
from jaxtyping import Float

from vidcomp_jax.data import AugmentationConfig

_GRAY = np.array([0.2989, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in gray; rounded as in torchvision, where ITU-R 601 has 0.299 for red."""
_BLOCK = 16384
"""Pixels whose hue is rotated at a time: chunks that fit into the processor's cache are seven times faster."""

Frames = Float[np.ndarray, "t h w c"]


def augment(frames: Frames, config: AugmentationConfig, rng: np.random.Generator) -> Float[np.ndarray, "t h2 w2 c"]:
    """Apply one random change to all `frames` of a clip, in [0, 1]; it depends only on the state of `rng`.

    Height and width change only with a crop.
    """
    mirror, reverse = rng.random(2) < 0.5
    swapped = config.time_flip and reverse
    if swapped:
        frames = frames[::-1]
    if config.horizontal_flip and mirror and not (config.exclusive_flips and swapped):
        frames = frames[:, :, ::-1]
    if config.rotation != (0.0, 0.0):
        frames = rotate(frames, rng.uniform(*config.rotation))
    if config.resizes:
        frames = resize_by(frames, rng.uniform(*config.resize), config.interpolation)
    if config.crop:
        frames = random_crop(frames, config.crop, rng)
    widths = np.array([config.brightness, config.contrast, config.saturation, config.hue])
    factors = rng.uniform(np.maximum(0, 1 - widths), 1 + widths)
    factors[3] = rng.uniform(-config.hue, config.hue)
    for which in rng.permutation(4):
        if widths[which] and not (which >= 2 and frames.shape[-1] == 1):
            frames = _JITTER[which](frames, np.float32(factors[which]))
    return np.ascontiguousarray(frames, np.float32)


def rotate(frames: Frames, degrees: float) -> Frames:
    """Rotate frames counterclockwise about their center, bilinearly; what comes from outside is black."""
    return scipy.ndimage.rotate(frames, degrees, axes=(2, 1), reshape=False, order=1, mode="grid-constant")


def resize_by(
    frames: Frames, factor: float, interpolation: Literal["nearest", "bilinear"] = "nearest"
) -> Float[np.ndarray, "t h2 w2 c"]:
    """Resize frames by one factor; height and width are rounded down.

    As with scikit-image in the released code, shrinking blurs first, with standard deviation (1 / factor - 1) / 2, and
    everything outside of a frame is black.
    """
    for axis in (1, 2):
        size = frames.shape[axis]
        new = max(int(size * factor), 1)
        if new < size:
            frames = scipy.ndimage.gaussian_filter1d(frames, (size / new - 1) / 2, axis, mode="constant")
        place = (np.arange(new) + 0.5) * (size / new) - 0.5
        if interpolation == "nearest":
            frames = frames.take(np.clip(np.floor(place + 0.5).astype(int), 0, size - 1), axis)
        else:
            before = np.floor(place).astype(int)
            weight = (place - before).astype(np.float32).reshape(-1, *[1] * (3 - axis))
            padded = np.pad(frames, [(int(i == axis),) * 2 for i in range(4)])
            frames = (1 - weight) * padded.take(before + 1, axis) + weight * padded.take(before + 2, axis)
    return frames


def random_crop(frames: Frames, size: int, rng: np.random.Generator) -> Float[np.ndarray, "t size size c"]:
    """Cut the same random square out of all frames, padded first by repeating their edges where they are smaller."""
    missing = [max(size - side, 0) for side in frames.shape[1:3]]
    frames = np.pad(frames, ((0, 0), *((m // 2, (m + 1) // 2) for m in missing), (0, 0)), mode="edge")
    top, left = (int(rng.integers(side - size + 1)) for side in frames.shape[1:3])
    return frames[:, top : top + size, left : left + size]


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
