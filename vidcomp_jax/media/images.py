"""Reads, writes, crops and resizes still images, with Pillow."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from vidcomp_jax.storage.atomic import new_file
from vidcomp_jax.storage.untrusted import check_file, check_memory, reading

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
"""Suffixes of the files in a folder that are taken for still images."""

_SOFTWARE = "vidcomp_jax"

Frames = UInt8[np.ndarray, "t h w c"]
Picture = UInt8[np.ndarray, "h w c"] | Float[np.ndarray, "h w c"]


def resize(frames: Frames, size: int) -> UInt8[np.ndarray, "t size size c"]:
    """Frames of any shape, resized to `size` x `size` pixels.

    Every data set is resized by this function. The filter is bilinear; when shrinking, it widens with the scale
    factor, which avoids aliasing.
    """
    if frames.shape[1:3] == (size, size):
        return frames
    resized = np.empty((len(frames), size, size, frames.shape[-1]), np.uint8)
    for source, target in zip(frames, resized, strict=True):
        image = Image.fromarray(source[..., 0] if source.shape[-1] == 1 else source)
        target[:] = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)).reshape(target.shape)
    return resized


def center_square(frames: Frames) -> UInt8[np.ndarray, "t side side c"]:
    """The largest centered square of the frames."""
    height, width = frames.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return frames[:, top : top + side, left : left + side]


def to_channels(frames: Frames, num_channels: int) -> UInt8[np.ndarray, "t h w num_channels"]:
    """Frames with `num_channels` channels: RGB is converted to gray (ITU-R 601 luma) and gray to RGB as needed."""
    if frames.shape[-1] == num_channels:
        return frames
    if num_channels == 3:
        return np.repeat(frames, 3, -1)
    return np.stack([np.asarray(Image.fromarray(frame).convert("L")) for frame in frames])[..., None]


def read_image(path: Path, *, num_channels: int = 3) -> UInt8[np.ndarray, "h w c"]:
    """Read a still image, rotated as its EXIF data says, composited on white, and scaled from 16 bits to 8.

    Raises:
        InputError: the file is missing, is a folder, or cannot be decoded as an image.
    """
    check_file(path)
    with reading(path, "not an image that can be read"), Image.open(path) as stored:
        check_memory(8 * stored.width * stored.height, f"{path}")
        image = ImageOps.exif_transpose(stored)
        if image.mode.startswith("I"):
            image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        pixels = np.asarray(image.convert("L" if num_channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], num_channels)


def write_image(path: Path, image: Picture, *, written_as: str = ""):
    """Write an image, uint8 or float in [0, 1], as PNG; the file appears under its name only when it is complete.

    Args:
        path: of the file.
        image: gray or RGB.
        written_as: what it is, for `written_as` to find out later; nothing is stored if empty.
    """
    pixels, info = to_uint8(image), PngInfo()
    if written_as:
        info.add_text("Software", f"{_SOFTWARE} {written_as}")
    with new_file(path) as temporary:
        stored = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        stored.save(temporary, format="PNG", pnginfo=info)


def written_as(path: Path, what: str) -> bool:
    """Whether the file at `path` is an image that `write_image` wrote with this `written_as`; it need not exist."""
    text = b"Software\0" + f"{_SOFTWARE} {what}".encode()
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return text in file.read(256)


def write_strip(path: Path, frames: Frames):
    """Write frames side by side into one PNG image, as the data sets of the First Order Motion Model store videos."""
    write_image(path, np.concatenate(list(frames), axis=1))


def to_float(frames: UInt8[np.ndarray, "*t h w c"]) -> Float[np.ndarray, "*t h w c"]:
    """uint8 frames or an image as float32 in [0, 1]."""
    return np.divide(frames, np.float32(255), dtype=np.float32)


def to_uint8(frames: Shaped[np.ndarray, "*t h w c"]) -> UInt8[np.ndarray, "*t h w c"]:
    """Frames or an image as uint8: floats in [0, 1] are scaled to 0..255 and rounded; uint8 is returned unchanged.

    Floats outside [0, 1] are clipped; values that are not finite become black.

    Raises:
        ValueError: the last axis is neither 1 (gray) nor 3 (RGB).
    """
    if frames.shape[-1] not in (1, 3):
        raise ValueError(f"frames of shape {frames.shape}; the last axis must be 1 (gray) or 3 (RGB)")
    if frames.dtype == np.uint8:
        return frames
    return np.rint(np.clip(np.nan_to_num(frames, nan=0, posinf=0, neginf=0), 0, 1) * 255).astype(np.uint8)
