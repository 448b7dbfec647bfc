"""Loss curves of a run, drawn as an image from its log."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from vidcomp_jax.training.run_log import entry_of

_WIDTH, _HEIGHT, _TOP, _MARGIN, _COLUMNS = 320, 160, 18, 6, 2
_INK, _PALE, _LINE = (40, 40, 40), (210, 210, 210), (31, 90, 180)


def read_scalars(path: pathlib.Path) -> dict[str, list[tuple[int, float]]]:
    """Read the (step, value) pairs of every number in `metrics.jsonl`, by name, in order of first appearance.

    Lines that cannot be read are left out.
    """
    curves: dict[str, list[tuple[int, float]]] = {}
    for line in pathlib.Path(path).read_bytes().splitlines():
        entry = entry_of(line) or {}
        for name, value in entry.items():
            if name != "step":
                curves.setdefault(name, []).append((int(entry["step"]), float(value)))
    return curves


def draw_curves(
    curves: Mapping[str, Sequence[tuple[int, float]]], leave_out: Sequence[str] = ("steps_per_second", "data_wait")
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw one chart per name, with the range of values at the left edge and the last value in the title."""
    names = [name for name, points in curves.items() if points and name not in leave_out]
    rows = max(-(-len(names) // _COLUMNS), 1)
    picture = Image.new("RGB", (_COLUMNS * _WIDTH, rows * _HEIGHT), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(11)
    for i, name in enumerate(names):
        left, top = i % _COLUMNS * _WIDTH + _MARGIN, i // _COLUMNS * _HEIGHT + _TOP
        right, bottom = left + _WIDTH - 2 * _MARGIN, top + _HEIGHT - _TOP - _MARGIN
        steps, values = np.array(curves[name], np.float64).T
        low, high = values.min(), values.max()
        draw.rectangle((left, top, right, bottom), outline=_PALE)
        x = left + (steps - steps[0]) / max(steps[-1] - steps[0], 1) * (right - left)
        y = bottom - (values - low) / (high - low if high > low else 1) * (bottom - top)
        points = list(zip(x.tolist(), y.tolist(), strict=True))
        draw.line(points if len(points) > 1 else points * 2, fill=_LINE, width=1)
        draw.text((left, top - 15), f"{name}  {values[-1]:.4g} at step {int(steps[-1])}", fill=_INK, font=font)
        draw.text((left + 2, top + 1), f"{high:.4g}", fill=_INK, font=font)
        draw.text((left + 2, bottom - 14), f"{low:.4g}", fill=_INK, font=font)
    return np.array(picture)
