"""Coordinates and warps: grids, bilinear sampling, keypoint heatmaps, 2x2 inverses and the random thin-plate warp.

Coordinates are (x, y) in [-1, 1]. With `align_corners=True` (the default here, and the rule of PyTorch 1.0), -1 and
1 lie on the centers of the corner pixels; with `align_corners=False` they lie on the outer edges of the image.
A *sampling grid* holds, for every output pixel, the absolute coordinate at which the input is sampled.
"""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from vidcomp_jax.errors import require_at_least

AnyArray = Array | np.ndarray
"""A JAX or NumPy array, as the functions of this module accept them."""

MIN_DETERMINANT = 1e-4
"""Smallest absolute determinant that `inverse_2x2` divides by. Jacobians of trained models stay above 1e-2."""


def coordinate_grid(height: int, width: int) -> Float[Array, "h w 2"]:
    """Coordinates (x, y) of all pixel centers of an image; those of the corner pixels are at -1 and 1."""
    x, y = jnp.linspace(-1.0, 1.0, width), jnp.linspace(-1.0, 1.0, height)
    return jnp.stack(jnp.meshgrid(x, y), axis=-1)


def inverse_2x2(matrix: Float[AnyArray, "*b 2 2"]) -> Float[Array, "*b 2 2"]:
    """Inverse of 2x2 matrices in closed form, finite even for singular ones.

    A determinant smaller than `MIN_DETERMINANT` in absolute value is replaced by it, keeping the sign. A keypoint whose
    Jacobian collapses during training then gives a large but finite gradient instead of NaN.
    """
    a, b, c, d = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 0], matrix[..., 1, 1]
    determinant = a * d - b * c
    sign = jnp.where(determinant < 0, -1.0, 1.0)
    determinant = sign * jnp.maximum(jnp.abs(determinant), MIN_DETERMINANT)
    adjugate = jnp.stack([jnp.stack([d, -b], -1), jnp.stack([-c, a], -1)], -2)
    return adjugate / determinant[..., None, None]


def multiply_2x2(a: Float[AnyArray, "*#b 2 2"], b: Float[AnyArray, "*#b 2 2"]) -> Float[Array, "*b 2 2"]:
    """Matrix product of stacks of 2x2 matrices, in float32 on every device.

    Written as a sum because matrix units round float32 inputs to fewer bits, too few for keypoints.
    """
    return jnp.sum(a[..., :, :, None] * b[..., None, :, :], axis=-2)


def transform_points(matrix: Float[AnyArray, "*#b 2 2"], points: Float[AnyArray, "*#b 2"]) -> Float[Array, "*b 2"]:
    """Matrix times column vector for stacks of 2x2 matrices and points, in float32 on every device."""
    return jnp.sum(matrix * points[..., None, :], axis=-1)


def gaussian_heatmaps(
    position: Float[AnyArray, "*b k 2"], height: int, width: int, variance: float = 0.01
) -> Float[Array, "*b h w k"]:
    """Unnormalized Gaussians that are 1 at each keypoint's position; `variance` is in squared coordinate units."""
    x = jnp.linspace(-1.0, 1.0, width) - position[..., 0:1]
    y = jnp.linspace(-1.0, 1.0, height) - position[..., 1:2]
    across, down = (jnp.moveaxis(jnp.exp(-0.5 / variance * jnp.square(offset)), -1, -2) for offset in (x, y))
    return down[..., :, None, :] * across[..., None, :, :]


def resize_bilinear(x: Float[AnyArray, "*b h w c"], height: int, width: int) -> Float[Array, "*b h2 w2 c"]:
    """Resize bilinearly with half-pixel centers and no anti-aliasing, as PyTorch's `interpolate` does by default."""
    if x.shape[-3:-1] == (height, width):
        return jnp.asarray(x)
    shape = (*x.shape[:-3], height, width, x.shape[-1])
    return jax.image.resize(x, shape, "bilinear", antialias=False)


def warp(
    image: Float[AnyArray, "b h w c"],
    grid: Float[AnyArray, "b *n 2"],
    *,
    align_corners: bool = True,
    padding: Literal["zeros", "reflection"] = "zeros",
) -> Float[Array, "b *n c"]:
    """Sample each image bilinearly at the coordinates of its sampling grid.

    The grid may have any number of axes, so that one call can sample an image with many grids. Gives the same result
    as `torch.nn.functional.grid_sample`.

    Args:
        image: images with any number of channels.
        grid: absolute (x, y) coordinates; values outside [-1, 1] are allowed.
        align_corners: whether -1 and 1 are the centers of the corner pixels, or the outer edges of the image.
        padding: what lies outside the image: black (`zeros`) or the mirrored image (`reflection`).
    """
    image = jnp.asarray(image)
    height, width = image.shape[1:3]
    x = _to_pixels(grid[..., 0], width, align_corners, padding)
    y = _to_pixels(grid[..., 1], height, align_corners, padding)
    left, top = jnp.floor(x), jnp.floor(y)
    # In float32, so that the gradients of a pixel that is sampled many times are added up in float32.
    pixels = image.reshape(image.shape[0], height * width, image.shape[3]).astype(jnp.float32)

    right, below = x - left, y - top  # weights of the right and of the lower pixels

    def corner(column, row, weight):
        inside = (column >= 0) & (column <= width - 1) & (row >= 0) & (row <= height - 1)
        # Clip before the conversion: far outside the image, the float may not fit in an integer.
        column = jnp.clip(column, 0, width - 1).astype(jnp.int32)
        row = jnp.clip(row, 0, height - 1).astype(jnp.int32)
        values = jax.vmap(lambda flat, index: flat[index])(pixels, row * width + column)
        return jnp.where(inside, weight, 0.0)[..., None] * values

    warped = (
        corner(left, top, (1 - right) * (1 - below))
        + corner(left + 1, top, right * (1 - below))
        + corner(left, top + 1, (1 - right) * below)
        + corner(left + 1, top + 1, right * below)
    )
    return warped.astype(image.dtype)


def _to_pixels(coordinate: AnyArray, size: int, align_corners: bool, padding: str) -> AnyArray:
    """Convert coordinates in [-1, 1] to fractional pixel indices, mirrored into the image for `reflection`."""
    if align_corners:
        pixel, low, span = (coordinate + 1) / 2 * (size - 1), 0.0, size - 1.0
    else:
        pixel, low, span = ((coordinate + 1) * size - 1) / 2, -0.5, float(size)
    if padding == "zeros":
        return pixel
    if span == 0:
        return jnp.zeros_like(pixel)
    offset = jnp.mod(pixel - low, 2 * span)
    mirrored = jnp.where(offset > span, 2 * span - offset, offset) + low
    return jnp.clip(mirrored, 0, size - 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomWarpConfig:
    """Strength of the random warp in the equivariance losses (First Order Motion Model, section 3.1)."""

    sigma_affine: float = 0.05
    """Standard deviation of the six affine parameters around the identity."""
    sigma_thin_plate: float = 0.005
    """Standard deviation of the thin-plate control parameters."""
    points_thin_plate: int = 5
    """Control points along each side of the image."""

    def __post_init__(self):
        require_at_least(self, points_thin_plate=2)


class RandomWarp(NamedTuple):
    """An affine map plus a thin-plate spline, acting on coordinates.

    The spline uses the L1 distance to its control points and adds the same offset to x and y, as in the released code.

    Attributes:
        affine: rows (a, b, t) of the affine map; the identity is [[1, 0, 0], [0, 1, 0]].
        control: one parameter for each of the p x p control points of `coordinate_grid(p, p)`.
    """

    affine: Float[AnyArray, "b 2 3"]
    control: Float[AnyArray, "b p2"]

    @staticmethod
    def draw(keys: Key[Array, " b"], config: RandomWarpConfig) -> "RandomWarp":
        """Draw one random warp for each key."""

        def one(key):
            affine_key, control_key = jax.random.split(key)
            affine = jnp.eye(2, 3) + config.sigma_affine * jax.random.normal(affine_key, (2, 3))
            control = config.sigma_thin_plate * jax.random.normal(control_key, (config.points_thin_plate**2,))
            return RandomWarp(affine, control)

        return jax.vmap(one)(keys)

    def __call__(self, points: Float[AnyArray, "b n 2"]) -> Float[Array, "b n 2"]:
        """Map points; a frame warped with `warp_frame` shows at `p` what the original shows at `self(p)`."""
        distance, _ = self._distances(points)
        bend = jnp.square(distance) * jnp.log(distance + 1e-6)
        offset = jnp.sum(bend * self.control[:, None], axis=-1, keepdims=True)
        return transform_points(self.affine[:, None, :, :2], points) + self.affine[:, None, :, 2] + offset

    def jacobian(self, points: Float[AnyArray, "b n 2"]) -> Float[Array, "b n 2 2"]:
        """Jacobian of the map at points, in closed form: rows are outputs, columns inputs."""
        distance, sign = self._distances(points)
        slope = 2 * distance * jnp.log(distance + 1e-6) + jnp.square(distance) / (distance + 1e-6)
        gradient = jnp.sum((slope * self.control[:, None])[..., None] * sign, axis=-2)
        return jnp.add(self.affine[:, None, :, :2], gradient[..., None, :])

    def warp_frame(self, frame: Float[AnyArray, "b h w c"], *, align_corners: bool = True) -> Float[Array, "b h w c"]:
        """Warp each frame by its own map; beyond the borders, the frame is mirrored."""
        b, height, width, _ = frame.shape
        points = jnp.broadcast_to(coordinate_grid(height, width).reshape(1, -1, 2), (b, height * width, 2))
        grid = self(points).reshape(b, height, width, 2)
        return warp(frame, grid, align_corners=align_corners, padding="reflection")

    def _distances(self, points: AnyArray) -> tuple[Array, Array]:
        """L1 distance to each control point [b, n, p2], and the signs of its two terms [b, n, p2, 2]."""
        side = round(self.control.shape[-1] ** 0.5)
        offset = points[:, :, None] - coordinate_grid(side, side).reshape(-1, 2)
        return jnp.abs(offset).sum(-1), jnp.sign(offset)
