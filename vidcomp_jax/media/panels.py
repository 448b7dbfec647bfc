"""Draws labeled panels of frames and keypoints.

Input: images in [0, 1] and keypoint positions. Output: RGB images.
"""

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from vidcomp_jax.media.images import to_uint8

_GAP = 2
_TITLE_SIZE = 11


def keypoint_colors(count: int) -> Float[np.ndarray, "k 3"]:
    """`count` saturated colors with evenly spaced hues, RGB in [0, 1]; keypoint k has one color everywhere."""
    hue = np.arange(count)[:, None] / max(count, 1) * 6 + np.array([0.0, 4.0, 2.0])
    return np.clip(np.abs(hue % 6 - 3) - 1, 0, 1)


def draw_keypoints(
    image: Float[np.ndarray, "h w c"],
    positions: Float[np.ndarray, "k 2"],
    *,
    radius: float | None = None,
) -> Float[np.ndarray, "h w 3"]:
    """Draw a colored disc with an anti-aliased edge for each keypoint.

    Args:
        image: gray or RGB, in [0, 1].
        positions: (x, y) in [-1, 1], with -1 and 1 at the centers of the corner pixels. Keypoints that are outside
            the frame or not finite are not drawn.
        radius: of the discs in pixels; None means 1/32 of the longer side, but at least 1.5.

    Returns:
        RGB in [0, 1].
    """
    height, width, _ = image.shape
    radius = radius if radius is not None else max(1.5, max(height, width) / 32)
    picture = np.clip(to_rgb(image), 0, 1).astype(np.float32)
    rows, columns = np.mgrid[:height, :width]
    for (x, y), color in zip(positions, keypoint_colors(len(positions)), strict=True):
        if not np.isfinite((x, y)).all():
            continue
        distance = np.hypot(columns - (x + 1) / 2 * (width - 1), rows - (y + 1) / 2 * (height - 1))
        # The fraction of the pixel that the disc covers, to first order in the distance from the disc's edge.
        cover = np.clip(radius + 0.5 - distance, 0, 1)[..., None].astype(np.float32)
        picture += cover * (color.astype(np.float32) - picture)
    return picture


def panel(
    rows: Sequence[Sequence[Float[np.ndarray, "_h _w _c"]]],
    titles: Sequence[str] = (),
) -> UInt8[np.ndarray, "h w 3"]:
    """Arrange images in a grid, with one example per row and a title above each column.

    Args:
        rows: images in [0, 1], gray or RGB; every row has one image per title. Smaller images are enlarged to the
            size of the largest, without smoothing.
        titles: of the columns; no titles by default.

    Returns:
        One RGB image.
    """
    cells = [[np.asarray(cell) for cell in row] for row in rows]
    if not cells or not cells[0] or any(len(row) != len(titles or cells[0]) for row in cells):
        raise ValueError(f"rows of {[len(row) for row in cells]} images under {len(titles)} titles")
    height = max(cell.shape[0] for row in cells for cell in row)
    width = max(cell.shape[1] for row in cells for cell in row)
    font = ImageFont.load_default(_TITLE_SIZE)
    lines = [_broken(title, font, width) for title in titles]
    top = max((len(line) for line in lines), default=0) * (_TITLE_SIZE + 3)
    count = len(cells[0])
    canvas = np.full((top + len(cells) * (height + _GAP), count * (width + _GAP), 3), 255, np.uint8)
    for i, row in enumerate(cells):
        for j, cell in enumerate(row):
            y, x = top + i * (height + _GAP), j * (width + _GAP)
            canvas[y : y + height, x : x + width] = _enlarged(to_uint8(to_rgb(cell)), height, width)
    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    for j, line in enumerate(lines):
        for k, text in enumerate(line):
            draw.text((j * (width + _GAP) + 1, k * (_TITLE_SIZE + 3)), text, fill=(0, 0, 0), font=font)
    return np.array(picture)


def to_rgb(image: Float[np.ndarray, "h w c"]) -> Float[np.ndarray, "h w 3"]:
    """Repeat the channel of a gray image three times; return an RGB image unchanged."""
    if image.shape[-1] not in (1, 3):
        raise ValueError(f"an image of {image.shape[-1]} channels; 1 or 3 were expected")
    return np.broadcast_to(image, (*image.shape[:2], 3))


def encode_png(image: UInt8[np.ndarray, "h w c"]) -> bytes:
    """A gray or RGB image, encoded as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, format="PNG")
    return buffer.getvalue()


def _enlarged(image: np.ndarray, height: int, width: int) -> np.ndarray:
    if image.shape[:2] == (height, width):
        return image
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.NEAREST))


def _broken(title: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    lines = [""]
    for word in title.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
