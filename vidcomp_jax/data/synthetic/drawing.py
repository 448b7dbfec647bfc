"""Draws moving capsules with anti-aliasing, from which the synthetic scenes are composed.

Positions are (x, y) with -1 and 1 on the centers of the corner pixels, y downwards. Coverage comes from the signed
distance of each pixel center to the shape's edge, so no supersampling is needed and motion is smooth below a pixel.
"""

import numpy as np
from jaxtyping import Float


def draw_capsule(
    canvas: Float[np.ndarray, "t h w c"],
    start: Float[np.ndarray, "t 2"],
    end: Float[np.ndarray, "t 2"],
    radius: float,
    color: Float[np.ndarray, " c"],
    *,
    shading: float = 0.35,
):
    """Paint, in place, the points within `radius` of the segment from `start` to `end` of every frame.

    Args:
        canvas: square frames in [0, 1], float32.
        start, end: where the capsule's axis begins and ends; equal points give a disc.
        radius: half the thickness, in the units of positions.
        color: in [0, 1]; darkened by `shading` toward the rim, which makes limbs look round.
    """
    size = canvas.shape[1]
    pixel = 2 / (size - 1)
    ends = np.stack([start, end])
    low = np.floor((ends.min((0, 1)) - radius + 1) / pixel - 0.5).astype(int).clip(0, size)
    high = np.ceil((ends.max((0, 1)) + radius + 1) / pixel + 1.5).astype(int).clip(0, size)
    window = canvas[:, low[1] : high[1], low[0] : high[0]]
    grid = (np.arange(size, dtype=np.float32) * pixel - 1).astype(np.float32)
    start, end = start.astype(np.float32)[:, :, None, None], end.astype(np.float32)[:, :, None, None]
    x = grid[low[0] : high[0]][None, None, :] - start[:, 0]
    y = grid[low[1] : high[1]][None, :, None] - start[:, 1]
    dx, dy = end[:, 0] - start[:, 0], end[:, 1] - start[:, 1]
    along = np.clip((x * dx + y * dy) / np.maximum(dx * dx + dy * dy, 1e-9), 0, 1)
    distance = np.hypot(x - along * dx, y - along * dy)
    coverage = np.clip((np.float32(radius) - distance) / np.float32(pixel) + 0.5, 0, 1)
    shade = 1 - np.float32(shading) * np.square(np.minimum(distance / np.float32(radius), 1))
    window += coverage[..., None] * (shade[..., None] * color.astype(np.float32) - window)


def smooth_texture(
    rng: np.random.Generator, size: int, *, waves: int = 4, frequency: float = 3.0
) -> Float[np.ndarray, "h w"]:
    """A smooth random texture in [-1, 1] with a mean near 0: a sum of long waves in random directions."""
    grid = np.linspace(-1, 1, size, dtype=np.float32)
    texture = np.zeros((size, size), np.float32)
    for _ in range(waves):
        u, v = rng.normal(0, frequency, 2)
        texture += np.sin(u * grid[None, :] + v * grid[:, None] + rng.uniform(0, 2 * np.pi), dtype=np.float32)
    return texture / waves
