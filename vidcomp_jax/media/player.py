"""Writes a web page that plays clips side by side.

Input: clips with their keypoints. Output: one self-contained HTML file, or the parts of one. All players on the page
run in sync, with play, pause, single steps, a slider and a choice of speeds. The frames of each clip are stored as
tiles of one image. Nothing is loaded from elsewhere.
"""

import base64
import html
import io
import json
import math
import re
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
_DATA = 'id="player-data"'
_CONTROLS = """<div class="controls" role="group" aria-label="Playback">
<button id="play" type="button">Play</button>
<button id="back" type="button" aria-label="One frame back">&minus;1</button>
<button id="forward" type="button" aria-label="One frame forward">+1</button>
<input id="slider" type="range" min="0" max="{last}" value="0" aria-label="Frame">
<output id="where" for="slider"></output>
<label>speed <select id="speed">
<option value="0.1">0.1</option><option value="0.25">0.25</option><option value="0.5">0.5</option>
<option value="1" selected>1</option><option value="2">2</option>
</select></label>
<label><input id="points" type="checkbox"> keypoints</label>
</div>
<p class="hint">Space plays and pauses, the arrow keys step.</p>
"""


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
    """Write a page that plays clips; the file appears under its name only when it is complete.

    Args:
        path: of the HTML file.
        rows: what to play.
        title: of the page.
        fps: frames per second at normal speed.
    """
    with new_file(Path(path)) as temporary:
        temporary.write_text(page(title, players(rows, fps=fps)), encoding="utf-8")


def page(title: str, body: str, *, style: str = "", script: str = "") -> str:
    """A self-contained HTML page with the player's style and, if the body has players, its script.

    Args:
        title: of the page, as plain text.
        body: HTML below the title, in which all text is escaped.
        style: additional CSS.
        script: additional JavaScript.
    """
    fields = {
        "TITLE": html.escape(title),
        "STYLE": f"{_resource('player.css')}{style}",
        "BODY": body,
        "SCRIPT": f"{_resource('player.js') if _DATA in body else ''}{script}",
    }
    # In one pass, so that a field whose text looks like the name of another stays as it is.
    return re.sub("<!--([A-Z]+)-->", lambda match: fields[match[1]], _resource("page.html"))


def players(rows: Sequence[Row], *, fps: float) -> str:
    """The HTML of players that run in step, with their controls and data. A page has them once."""
    parts, clips = [], []
    for row in rows:
        name = html.escape(row.name)
        parts.append(f'<h3>{name}</h3><div class="row">')
        for player in row.players:
            title = html.escape(player.title)
            label = f"{title}, {name}"
            parts.append(
                f'<figure><figcaption>{title}</figcaption><canvas role="img" aria-label="{label}"></canvas></figure>'
            )
            clips.append(_clip(player))
        parts.append("</div>")
    most = max((len(player.frames) for row in rows for player in row.players), default=1)
    data = json.dumps({"fps": fps, "frames": most, "clips": clips}).replace("<", "\\u003c")
    return (
        _CONTROLS.format(last=most - 1)
        + f'<div id="players">{"".join(parts)}</div>\n<script type="application/json" {_DATA}>{data}</script>'
    )


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


def _resource(name: str) -> str:
    return resources.files("vidcomp_jax.media").joinpath(name).read_text(encoding="utf-8")
