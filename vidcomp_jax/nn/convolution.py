"""Convolutions over images, each computed in the way that was fastest for its shape.

On CPUs, XLA is slow for two kinds of convolution of the First Order Motion Model: those over few pixels with many
channels, and the gradients of weights over large images. `PATCHES` and `ROWS` say for which shapes another way was
measured to be faster; this file alone knows them. All other shapes, and all devices but CPUs, use XLA's convolution.
The ways agree up to rounding, and all can be differentiated forward, backward, and repeatedly.
"""

import functools
import math
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
    """

    kernel: int
    pixels: tuple[int, int]
    batch: int
    outputs: int
    products: int

    def hold(self, batch: int, kernel: tuple[int, ...], output: tuple[int, int]) -> bool:
        """Whether this many images, a kernel [kh, kw, c, d] and an output of this height and width are among them."""
        height, width, c, d = kernel
        smallest, largest = self.pixels
        return (
            height == width == self.kernel
            and smallest <= min(output)
            and max(output) <= largest
            and batch >= self.batch
            and d >= self.outputs
            and c * d >= self.products
        )


# Milliseconds on two CPU cores, 4 images, XLA against the other way. Patches, forward and gradient of the input:
# 2x2 pixels, 1024 -> 1024 channels 262 and 282 against 5 and 4; 4x4, 1024 -> 512: 7 and 15 against 5 and 5; 8x8,
# 512 -> 512: 8 and 11 against 8 and 9, and with 12 images, 512 -> 256: 12 and 12 against 12 and 15.
PATCHES: tuple[Shapes, ...] = (Shapes(kernel=3, pixels=(1, 4), batch=1, outputs=1, products=128 * 128),)
"""Patches and one matrix product, forward and backward. Empty turns this way off."""
# Gradients of weights: 3x3, 128 pixels, 64 -> 128 channels 343 against 108, 128 -> 128: 681 against 190; 64 pixels,
# 128 -> 256: 105 against 66; but 64 -> 64: 10 against 12, and one image of 128 pixels, 64 -> 128: 24 against 42.
# 2x2, 64 pixels, 256 -> 128: 76 against 41, 256 -> 64: 44 against 27; 32 pixels, 512 -> 256: 46 against 28.
# 4x4, 124 pixels, 64 -> 128: 1140 against 349; but 60 pixels, 128 -> 256: 254 against 225, and below it loses.
ROWS: tuple[Shapes, ...] = (
    Shapes(kernel=3, pixels=(64, 1024), batch=2, outputs=128, products=64 * 128),
    Shapes(kernel=2, pixels=(32, 1024), batch=2, outputs=64, products=128 * 128),
    Shapes(kernel=4, pixels=(96, 1024), batch=2, outputs=128, products=64 * 128),
)
"""Weight gradients as one matrix product for each image and row of the kernel. Empty turns this way off."""


def convolve(x: Array, kernel: Array, strides: Any, padding: Any, **options: Any) -> Array:
    """Convolve images [b, h, w, c] with a kernel [kh, kw, c, d]; a substitute for `jax.lax.conv_general_dilated`.

    Takes its arguments, and hands on to it all that `PATCHES` and `ROWS` do not hold. Give it to
    `flax.nnx.Conv(conv_general_dilated=...)`.
    """
    if _is_plain(x, kernel, strides, padding, options):
        (top, bottom), (left, right) = padding = tuple((int(a), int(b)) for a, b in padding)
        output = x.shape[1] + top + bottom - kernel.shape[0] + 1, x.shape[2] + left + right - kernel.shape[1] + 1
        if any(shapes.hold(x.shape[0], kernel.shape, output) for shapes in PATCHES):
            return by_patches(x, kernel, padding)
        if any(shapes.hold(x.shape[0], kernel.shape, output) for shapes in ROWS):
            return with_row_gradient(x, kernel, padding)
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)


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


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def with_row_gradient(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k l c d"], padding: Padding
) -> Float[Array, "b i j d"]:
    """Convolve with XLA; the gradient of the kernel is computed by the transpose of `_by_rows`."""
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=LAYOUT)


def _tangents(padding: Padding, primals: tuple, tangents: tuple) -> tuple[Array, Any]:
    x, kernel = primals
    dx, dk = tangents
    y = with_row_gradient(x, kernel, padding)
    # Frozen weights, such as those of VGG19, have no tangent, and their gradient must not be computed.
    parts = [] if isinstance(dx, SymbolicZero) else [_linear_in_x(dx, kernel, padding)]
    parts += [] if isinstance(dk, SymbolicZero) else [_by_rows(x, dk, padding)]
    return y, sum(parts[1:], parts[0]) if parts else jnp.zeros_like(y)


with_row_gradient.defjvp(_tangents, symbolic_zeros=True)


def _linear_in_x(dx: Array, kernel: Array, padding: Padding) -> Array:
    return jax.lax.conv_general_dilated(dx, kernel, (1, 1), padding, dimension_numbers=LAYOUT)


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
