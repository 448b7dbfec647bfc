"""Writes a web page that plays clips side by side.

Input: clips with their keypoints. Output: one self-contained HTML file. All players on the page run in sync, with
play, pause, single steps, a slider and a choice of speeds. The frames of each clip are stored as tiles of one image.
"""

import base64
import html
import io
import json
import math
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image

from vidcomp_jax.media.images import to_uint8
from vidcomp_jax.media.panels import keypoint_colors, to_rgb
from vidcomp_jax.storage.atomic import new_file

_LOSSLESS_PIXELS = 2**18


class Player(NamedTuple):
    """One clip, or one still image.

    Attributes:
        title: shown above the clip.
        frames: in [0, 1]; a still image is a clip of one frame.
        positions: of the keypoints, (x, y) in [-1, 1], which the viewer can show or hide; None if there are none.
    """

    title: str
    frames: Float[np.ndarray, "t h w c"]
    positions: Float[np.ndarray, "t k 2"] | None = None


class Row(NamedTuple):
    """Players side by side.

    Attributes:
        name: shown above the row.
        players: from left to right.
    """

    name: str
    players: Sequence[Player]


def write_page(path: Path, rows: Sequence[Row], *, title: str, fps: float) -> None:
    """Write the page; the file appears under its name only when it is complete.

    Args:
        path: of the HTML file.
        rows: what to play.
        title: of the page.
        fps: frames per second at normal speed.
    """
    body, clips = [], []
    for row in rows:
        body.append(f"<h2>{html.escape(row.name)}</h2><div class=row>")
        for player in row.players:
            body.append(f"<figure><figcaption>{html.escape(player.title)}</figcaption><canvas></canvas></figure>")
            clips.append(_clip(player))
        body.append("</div>")
    most = max((len(player.frames) for row in rows for player in row.players), default=1)
    template = resources.files("vidcomp_jax.media").joinpath("player.html").read_text()
    fields = {
        "TITLE": html.escape(title),
        "BODY": "\n".join(body),
        "LAST": str(most - 1),
        "DATA": json.dumps({"fps": fps, "frames": most, "clips": clips}).replace("</", "<\\/"),
    }
    for name, value in fields.items():
        template = template.replace(f"<!--{name}-->", value)
    with new_file(Path(path)) as temporary:
        temporary.write_text(template, encoding="utf-8")


def _clip(player: Player) -> dict:
    """The data of one clip for the script of the page."""
    count, height, width, _ = player.frames.shape
    columns = math.ceil(math.sqrt(count))
    sheet = np.zeros((-(-count // columns) * height, columns * width, 3), np.uint8)
    for i, frame in enumerate(player.frames):
        y, x = i // columns * height, i % columns * width
        sheet[y : y + height, x : x + width] = to_uint8(to_rgb(frame))
    clip = {"width": width, "height": height, "columns": columns, "count": count, "image": _data_url(sheet)}
    if player.positions is not None:
        positions = np.asarray(player.positions, np.float64)
        colors = np.round(keypoint_colors(positions.shape[1]) * 255).astype(int)
        clip |= {"points": positions.round(3).tolist(), "colors": colors.tolist()}
    return clip


def _data_url(image: np.ndarray) -> str:
    """The image as a data URL: small ones as PNG, large ones as high-quality JPEG."""
    buffer = io.BytesIO()
    lossless = image.shape[0] * image.shape[1] <= _LOSSLESS_PIXELS
    options = {"format": "PNG"} if lossless else {"format": "JPEG", "quality": 92, "subsampling": 0}
    Image.fromarray(image).save(buffer, **options)
    kind = "png" if lossless else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
