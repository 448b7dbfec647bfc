"""Draws labeled panels of frames and keypoints.

Input: images in [0, 1] and keypoint positions. Output: RGB images.
"""

import dataclasses
import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from vidcomp_jax.errors import InputError, require_at_least
from vidcomp_jax.media.images import to_uint8

_GAP = 2
_TITLE_SIZE = 11
_GIST_RAINBOW = (
    (0.000, 0.030, 0.215, 0.400, 0.586, 0.770, 0.954, 1.000),
    ((1, 0, 0.16), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1), (1, 0, 0.75)),
)
"""Matplotlib's color map of this name: places in [0, 1] and the colors there, linear between them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PanelConfig:
    """What panels of the First Order Motion Model show, and how."""

    keypoint_size: float = 0.0
    """Radius of drawn keypoints in pixels; 0 means 1/32 of the frame, but at least 1.5."""
    border: bool = False
    """Draw a white border at the left and right edge of every frame."""
    colormap: str = "hsv"
    """Colors of the keypoints: hsv, gist_rainbow, or, if matplotlib is installed, any of its color maps."""
    motions: bool = False
    """Also show the source warped by each candidate motion, the mask of each, and the sum of the masks in the colors
    of their keypoints."""
    equivariance: bool = False
    """Also show the driving frame under a random warp of the equivariance losses, with its keypoints."""

    def __post_init__(self):
        require_at_least(self, keypoint_size=0)
        keypoint_colors(1, self.colormap)


def keypoint_colors(count: int, colormap: str = "hsv") -> Float[np.ndarray, "k 3"]:
    """`count` colors at even distances along a color map, RGB in [0, 1]; keypoint k has one color everywhere.

    Raises:
        InputError: the color map is neither hsv nor gist_rainbow nor, if it is installed, one of matplotlib's.
    """
    place = np.arange(count) / max(count, 1)
    if colormap == "hsv":
        hue = place[:, None] * 6 + np.array([0.0, 4.0, 2.0])
        return np.clip(np.abs(hue % 6 - 3) - 1, 0, 1)
    if colormap == "gist_rainbow":
        places, colors = _GIST_RAINBOW
        entry = np.floor(place * 256) / 255  # the nearest of 256 entries, as matplotlib does
        return np.stack([np.interp(entry, places, channel) for channel in zip(*colors, strict=True)], axis=-1)
    try:
        import matplotlib
    except ImportError:
        raise InputError(
            f"`colormap` is '{colormap}'; it must be hsv or gist_rainbow, others need matplotlib to be installed"
        ) from None
    if colormap not in matplotlib.colormaps:
        raise InputError(f"`colormap` is '{colormap}'; it must be a color map of matplotlib, such as gist_rainbow")
    return np.asarray(matplotlib.colormaps[colormap](place))[:, :3]


def with_border(image: Float[np.ndarray, "h w c"]) -> Float[np.ndarray, "h w c"]:
    """The image with its first and last column white."""
    image = np.array(image)
    image[:, [0, -1]] = 1
    return image


def draw_keypoints(
    image: Float[np.ndarray, "h w c"],
    positions: Float[np.ndarray, "k 2"],
    *,
    radius: float | None = None,
    colormap: str = "hsv",
) -> Float[np.ndarray, "h w 3"]:
    """Draw a colored disc with an anti-aliased edge for each keypoint.

    Args:
        image: gray or RGB, in [0, 1].
        positions: (x, y) in [-1, 1], with -1 and 1 at the centers of the corner pixels. Keypoints that are outside
            the frame or not finite are not drawn.
        radius: of the discs in pixels; None means 1/32 of the longer side, but at least 1.5.
        colormap: of the discs, see `keypoint_colors`.

    Returns:
        RGB in [0, 1].
    """
    height, width, _ = image.shape
    radius = radius if radius is not None else max(1.5, max(height, width) / 32)
    picture = np.clip(to_rgb(image), 0, 1).astype(np.float32)
    rows, columns = np.mgrid[:height, :width]
    for (x, y), color in zip(positions, keypoint_colors(len(positions), colormap), strict=True):
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
