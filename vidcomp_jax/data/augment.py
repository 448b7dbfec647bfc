"""Augments training pairs like the released First Order Motion Model: flips, rotation, resizing, crops, color jitter.

Input and output: frames of one clip, which all get the same random change, in the order above. The jitter follows
torchvision's `ColorJitter`: factors for brightness, contrast and saturation are drawn from [max(0, 1 - x), 1 + x], and
a rotation of the hue from [-x, x] (1 is a full turn). The four are applied in random order, each result clipped to
[0, 1].
"""

import dataclasses
from typing import Literal

import numpy as np
import scipy.ndimage
from jaxtyping import Float

from vidcomp_jax.errors import require, require_at_least, require_one_of
from vidcomp_jax.storage.config import ADDED_LATER

_GRAY = np.array([0.2989, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in gray; rounded as in torchvision, where ITU-R 601 has 0.299 for red."""
_BLOCK = 16384
"""Pixels whose hue is rotated at a time: chunks that fit into the processor's cache are seven times faster."""

Frames = Float[np.ndarray, "t h w c"]


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
