"""Convolutions over images, each computed in the way that was fastest for its shape.

On CPUs, XLA is slow for some convolutions of the First Order Motion Model: those over few pixels with many channels,
those without padding, and the gradients of weights over large images or of few output channels. The tables `PATCHES`,
`UNPADDED`, `ROWS` and `SHIFTS` say for which shapes another way was measured to be faster; this file alone knows them.
All other shapes, and all devices but CPUs, use XLA's convolution. The ways agree up to rounding, and all can be
differentiated forward, backward, and repeatedly.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

LAYOUT = ("NHWC", "HWIO", "NHWC")
Padding = tuple[tuple[int, int], tuple[int, int]]


class Shapes(NamedTuple):
    """Shapes that are computed in one way: float32, stride 1, and all of these.

    Attributes:
        kernel: height and width of the kernel.
        pixels: smallest and largest height and width of the output.
        batch: smallest number of images.
        outputs: smallest number of output channels.
        products: smallest number of input channels times output channels.
        most_outputs: largest number of output channels.
    """

    kernel: int
    pixels: tuple[int, int]
    batch: int
    outputs: int
    products: int
    most_outputs: float = math.inf

    def hold(self, batch: int, kernel: tuple[int, ...], output: tuple[int, int]) -> bool:
        """Whether this many images, a kernel [kh, kw, c, d] and an output of this height and width are among them."""
        height, width, c, d = kernel
        smallest, largest = self.pixels
        return (
            height == width == self.kernel
            and smallest <= min(output)
            and max(output) <= largest
            and batch >= self.batch
            and self.outputs <= d <= self.most_outputs
            and c * d >= self.products
        )


# Milliseconds on two CPU cores, 4 images, XLA against the other way. Patches, forward and gradient of the input:
# 2x2 pixels, 1024 -> 1024 channels 262 and 282 against 5 and 4; 4x4, 1024 -> 512: 7 and 15 against 5 and 5; 8x8,
# 512 -> 512: 8 and 11 against 8 and 9, and with 12 images, 512 -> 256: 12 and 12 against 12 and 15.
PATCHES: tuple[Shapes, ...] = (Shapes(kernel=3, pixels=(1, 4), batch=1, outputs=1, products=128 * 128),)
"""Patches and one matrix product, forward and backward. Empty turns this way off."""
# 7x7 without padding, 12 images of 64 pixels, 33 -> 40 channels 262 against 100, 33 -> 10: 243 against 44; one image,
# 33 -> 40: 16 against 9; 4x4, 8 images of 128 pixels, 64 -> 128: 734 against 214; 2x2, 65 pixels, 256 -> 128: 74
# against 26. XLA copies all patches of the images into memory if nothing is padded, and only then.
UNPADDED: tuple[Shapes, ...] = tuple(Shapes(size, (8, 1024), batch=1, outputs=1, products=1) for size in (2, 3, 4, 7))
"""Convolutions without padding, with a row of zeros below the images. Empty turns this way off."""
# Gradients of weights: 3x3, 128 pixels, 64 -> 128 channels 343 against 108, 128 -> 128: 681 against 190; 64 pixels,
# 128 -> 256: 105 against 66; but 64 -> 64: 10 against 12, and one image of 128 pixels, 64 -> 128: 24 against 42.
# 32 pixels, 256 -> 256: 47 against 33; but 16 pixels, 1024 -> 256: 47 against 65.
# 2x2, 64 pixels, 256 -> 128: 76 against 41, 256 -> 64: 44 against 27; 32 pixels, 512 -> 256: 46 against 28.
# 4x4, 8 images, 253 pixels, 3 -> 64: 270 against 108; 125 pixels, 64 -> 128: 1730 against 305; 58 pixels, 128 -> 256:
# 633 against 190; 26 pixels, 256 -> 512: 496 against 211.
# 7x7, 12 images, 58 pixels, 33 -> 40: 245 against 62; but 33 -> 10: 21 against 36.
ROWS: tuple[Shapes, ...] = (
    Shapes(kernel=3, pixels=(64, 1024), batch=2, outputs=128, products=64 * 128),
    Shapes(kernel=3, pixels=(32, 63), batch=2, outputs=256, products=256 * 256),
    Shapes(kernel=2, pixels=(32, 1024), batch=2, outputs=64, products=128 * 128),
    Shapes(kernel=4, pixels=(24, 1024), batch=2, outputs=64, products=3 * 64),
    Shapes(kernel=7, pixels=(32, 1024), batch=2, outputs=32, products=32 * 32),
)
"""Weight gradients as one matrix product for each image and row of the kernel. Empty turns this way off."""
# Gradients of weights, 7x7: 128 pixels, 64 -> 1 channels 154 against 10, one image 299 against 2; 64 pixels, 86 -> 1:
# 97 against 3, 86 -> 11: 126 against 30; 256 pixels, 64 -> 3: 800 against 197; but 12 images, 58 pixels, 33 -> 10: 21
# against 42.
SHIFTS: tuple[Shapes, ...] = (
    Shapes(kernel=7, pixels=(32, 1024), batch=1, outputs=1, products=64, most_outputs=3),
    Shapes(kernel=7, pixels=(32, 1024), batch=1, outputs=4, products=64 * 8, most_outputs=16),
)
"""Weight gradients as one matrix product for each image, of its pixels and shifted gradients. Empty turns it off."""


def convolve(x: Array, kernel: Array, strides: Any, padding: Any, **options: Any) -> Array:
    """Convolve images [b, h, w, c] with a kernel [kh, kw, c, d]; a substitute for `jax.lax.conv_general_dilated`.

    Takes its arguments, and hands on to it all that the tables do not hold. Give it to
    `flax.nnx.Conv(conv_general_dilated=...)`.
    """
    if _is_plain(x, kernel, strides, padding, options):
        (top, bottom), (left, right) = padding = tuple((int(a), int(b)) for a, b in padding)
        output = x.shape[1] + top + bottom - kernel.shape[0] + 1, x.shape[2] + left + right - kernel.shape[1] + 1
        for table, way in (
            (PATCHES, by_patches),
            (ROWS, with_row_gradient),
            (SHIFTS, with_shift_gradient),
            (UNPADDED, by_xla),
        ):
            if _in(table, x, kernel, output):
                return way(x, kernel, padding)
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)


def _in(table: tuple[Shapes, ...], x: Array, kernel: Array, output: tuple[int, int]) -> bool:
    return any(shapes.hold(x.shape[0], kernel.shape, output) for shapes in table)


def _is_plain(x: Array, kernel: Array, strides: Any, padding: Any, options: dict[str, Any]) -> bool:
    """Whether images are convolved in float32 on a CPU, without strides, dilation, groups and shardings."""
    numbers = options.get("dimension_numbers")
    return (
        jax.default_backend() == "cpu"
        and x.ndim == 4
        and x.dtype == kernel.dtype == jnp.float32
        and set(strides) == {1}
        and not isinstance(padding, str)
        and numbers is not None
        and jax.lax.conv_dimension_numbers(x.shape, kernel.shape, numbers)
        == jax.lax.conv_dimension_numbers(x.shape, kernel.shape, LAYOUT)
        and set(options.get("lhs_dilation") or (1,)) == {1}
        and set(options.get("rhs_dilation") or (1,)) == {1}
        and options.get("feature_group_count", 1) == options.get("batch_group_count", 1) == 1
        and not any(options.get(name) for name in ("precision", "preferred_element_type", "out_sharding"))
    )


def by_patches(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k l c d"], padding: Padding
) -> Float[Array, "b i j d"]:
    """Convolve as one product of the matrix of all patches and that of the kernel.

    XLA exchanges the operands where the kernel has more entries than the images, and is then up to a hundred times
    slower. The patches are gathered by a product with a matrix of zeros and ones: a slice for each entry of the kernel
    runs as fast, but takes five times as long to compile.
    """
    (rows, columns, c, d), (b, height, width, _) = kernel.shape, x.shape
    gather = _choice_of_patches((height, width), (rows, columns), padding)
    count = gather.shape[0]
    choice = jnp.broadcast_to(gather.reshape(1, -1, height * width), (b, count * rows * columns, height * width))
    patches = jnp.einsum("bsp,bpc->bsc", choice, x.reshape(b, height * width, c), precision=jax.lax.Precision.HIGHEST)
    products = patches.reshape(b * count, rows * columns * c) @ kernel.reshape(-1, d)
    return products.reshape(b, height + sum(padding[0]) - rows + 1, width + sum(padding[1]) - columns + 1, d)


def _choice_of_patches(image: tuple[int, int], kernel: tuple[int, int], padding: Padding) -> Float[np.ndarray, "o k p"]:
    """1 where entry k of the kernel meets pixel p of the image for output pixel o, and 0 elsewhere."""
    along = []
    for size, taps, (before, after) in zip(image, kernel, padding, strict=True):
        outputs = np.arange(size + before + after - taps + 1)
        place = outputs[:, None] + np.arange(taps) - before
        along.append(place[..., None] == np.arange(size))
    both = np.einsum("ikp,jlq->ijklpq", *along)
    return both.reshape(both.shape[0] * both.shape[1], math.prod(kernel), math.prod(image)).astype(np.float32)


def by_xla(x: Float[Array, "b h w c"], kernel: Float[Array, "k l c d"], padding: Padding) -> Float[Array, "b i j d"]:
    """Convolve with XLA; a shape in `UNPADDED` with a row of zeros below the images, whose results are dropped."""
    output = x.shape[1] - kernel.shape[0] + 1, x.shape[2] - kernel.shape[1] + 1
    if padding == ((0, 0), (0, 0)) and _in(UNPADDED, x, kernel, output):
        return _convolution(x, kernel, ((0, 1), (0, 0)))[:, :-1]
    return _convolution(x, kernel, padding)


def _convolution(x: Array, kernel: Array, padding: Padding) -> Array:
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=LAYOUT)


def with_row_gradient(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k l c d"], padding: Padding
) -> Float[Array, "b i j d"]:
    """Convolve with XLA; the gradient of the kernel is computed by the transpose of `_by_rows`."""
    return _with_gradient(x, kernel, padding, _by_rows)


def with_shift_gradient(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k l c d"], padding: Padding
) -> Float[Array, "b i j d"]:
    """Convolve with XLA; the gradient of the kernel is computed by the transpose of `_by_shifts`."""
    return _with_gradient(x, kernel, padding, _by_shifts)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _with_gradient(x: Array, kernel: Array, padding: Padding, linear: Callable[..., Array]) -> Array:
    """Convolve with XLA; `linear(x, kernel, padding)` convolves as well, and gives the derivative by the kernel."""
    return by_xla(x, kernel, padding)


def _tangents(padding: Padding, linear: Callable[..., Array], primals: tuple, tangents: tuple) -> tuple[Array, Any]:
    x, kernel = primals
    dx, dk = tangents
    y = _with_gradient(x, kernel, padding, linear)
    # Frozen weights, such as those of VGG19, have no tangent, and their gradient must not be computed.
    parts = [] if isinstance(dx, SymbolicZero) else [by_xla(dx, kernel, padding)]
    parts += [] if isinstance(dk, SymbolicZero) else [linear(x, dk, padding)]
    return y, sum(parts[1:], parts[0]) if parts else jnp.zeros_like(y)


_with_gradient.defjvp(_tangents, symbolic_zeros=True)


def _by_rows(x: Float[Array, "b h w c"], kernel: Float[Array, "k l c d"], padding: Padding) -> Float[Array, "b i j d"]:
    """Convolve image by image, as a sum over the rows of the kernel of one matrix product each.

    Forward mode runs this, and reverse mode its transpose: for each image and row of the kernel, the product of the
    gradient [d, h * w] and the image with its columns gathered [h * w, l * c].
    """
    rows, columns, c, d = kernel.shape
    (top, bottom), (left, right) = padding
    height = x.shape[1] + top + bottom - rows + 1
    width = x.shape[2] + left + right - columns + 1
    matrices = list(kernel.reshape(rows, columns * c, d).mT)

    # The columns take as much memory as the image for each column of the kernel; they are gathered again for the
    # gradient of each image, and never kept.
    @jax.checkpoint
    def one(image: Array, matrices: list[Array]) -> Array:
        image = jnp.pad(image, (*padding, (0, 0)))
        gathered = jnp.concatenate([image[:, j : j + width] for j in range(columns)], axis=-1)
        products = [gathered[i : i + height].reshape(height * width, -1) @ m.T for i, m in enumerate(matrices)]
        return sum(products[1:], products[0]).reshape(height, width, d)

    return jax.lax.map(lambda image: one(image, matrices), x)


def _by_shifts(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k l c d"], padding: Padding
) -> Float[Array, "b i j d"]:
    """Convolve image by image: one matrix product for all entries of the kernel, then a sum of its shifted parts.

    Forward mode runs this, and reverse mode its transpose: for each image, the product of the gradient, shifted for
    each entry of the kernel [k * l * d, h * w], and the image [h * w, c]. With few output channels, this copies less
    than gathering the columns of the image.
    """
    rows, columns, _, d = kernel.shape
    (top, bottom), (left, right) = padding
    zero = jnp.zeros((), x.dtype)

    def one(image: Array) -> Array:
        products = jnp.einsum("klcd,hwc->kldhw", kernel, image).reshape(rows * columns * d, *image.shape[:2])
        shifted = [
            jax.lax.pad(
                part, zero, ((0, 0, 0), (top - i, bottom - rows + 1 + i, 0), (left - j, right - columns + 1 + j, 0))
            )
            for (i, j), part in zip(
                itertools.product(range(rows), range(columns)),
                jax.lax.split(products, [d] * rows * columns),
                strict=True,
            )
        ]
        return jnp.moveaxis(sum(shifted[1:], shifted[0]), 0, -1)

    return jax.lax.map(one, x)
