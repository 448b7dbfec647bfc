"""Other ways than XLA's to compute a convolution over images; `convolution` says which shapes are computed so.

Each takes images [b, h, w, c] and a kernel [kh, kw, c, d], and equals `by_xla` up to rounding.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

LAYOUT = ("NHWC", "HWIO", "NHWC")
Padding = tuple[tuple[int, int], tuple[int, int]]


def by_xla(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "k l c d"],
    padding: Padding,
    stride: int = 1,
    *,
    extra_row: bool = False,
) -> Float[Array, "b i j d"]:
    """Convolve with XLA; with `extra_row`, add a row of zeros below the images, and drop what follows from it.

    XLA copies all patches of the images into memory if nothing is padded, and only then.
    """
    if extra_row:
        (top, bottom), sides = padding
        return by_xla(x, kernel, ((top, bottom + 1), sides), stride)[:, :-1]
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=LAYOUT)


def by_patches(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k l c d"], padding: Padding, stride: int = 1
) -> Float[Array, "b i j d"]:
    """Convolve as one product of the matrix of all patches and that of the kernel.

    XLA exchanges the operands where the kernel has more entries than the images, and is then up to a hundred times
    slower. The patches are gathered by a product with a matrix of zeros and ones: a slice for each entry of the kernel
    runs as fast, but takes five times as long to compile.
    """
    (rows, columns, c, d), (b, height, width, _) = kernel.shape, x.shape
    gather = _choice_of_patches((height, width), (rows, columns), padding, stride)
    size, count = gather.shape[:2], math.prod(gather.shape[:2])
    choice = jnp.broadcast_to(gather.reshape(1, -1, height * width), (b, count * rows * columns, height * width))
    patches = jnp.einsum("bsp,bpc->bsc", choice, x.reshape(b, height * width, c), precision=jax.lax.Precision.HIGHEST)
    products = patches.reshape(b * count, rows * columns * c) @ kernel.reshape(-1, d)
    return products.reshape(b, *size, d)


def _choice_of_patches(
    image: tuple[int, int], kernel: tuple[int, int], padding: Padding, stride: int
) -> Float[np.ndarray, "i j k p"]:
    """1 where entry k of the kernel meets pixel p of the image for output pixel (i, j), and 0 elsewhere."""
    along = []
    for size, taps, (before, after) in zip(image, kernel, padding, strict=True):
        outputs = np.arange((size + before + after - taps) // stride + 1)
        place = stride * outputs[:, None] + np.arange(taps) - before
        along.append(place[..., None] == np.arange(size))
    both = np.einsum("ikp,jlq->ijklpq", *along)
    return both.reshape(*both.shape[:2], math.prod(kernel), math.prod(image)).astype(np.float32)


def image_blocks(
    x: Float[Array, "b h w c"], stride: int, padding: Padding, covered: tuple[int, int]
) -> Float[Array, "b m n e"]:
    """Pad images and make each block of `stride` x `stride` pixels one pixel with all of their channels.

    Args:
        covered: height and width of the part of the padded images that a convolution reads, divisible by `stride`.
    """
    size = [x.shape[1 + i] + sum(padding[i]) for i in range(2)]
    cropped = [(before, after - (n - m)) for (before, after), n, m in zip(padding, size, covered, strict=True)]
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((a, b, 0) for a, b in cropped), (0, 0, 0)])
    b, height, width, c = x.shape
    x = x.reshape(b, height // stride, stride, width // stride, stride, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, height // stride, width // stride, -1)


def kernel_blocks(kernel: Float[Array, "k l c d"], stride: int) -> Float[Array, "m n e d"]:
    """The kernel that convolves `image_blocks` without strides; its height and width must be divisible by `stride`."""
    rows, columns, c, d = kernel.shape
    kernel = kernel.reshape(rows // stride, stride, columns // stride, stride, c, d)
    return kernel.transpose(0, 2, 1, 3, 4, 5).reshape(rows // stride, columns // stride, -1, d)


def by_rows(x: Float[Array, "b h w c"], kernel: Float[Array, "k l c d"], padding: Padding) -> Float[Array, "b i j d"]:
    """Convolve image by image, as a sum over the rows of the kernel of one matrix product each.

    Its transpose gives the gradient of the kernel: for each image and row of the kernel, the product of the gradient
    [d, h * w] and the image with its columns gathered [h * w, l * c].
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


def by_shifts(x: Float[Array, "b h w c"], kernel: Float[Array, "k l c d"], padding: Padding) -> Float[Array, "b i j d"]:
    """Convolve image by image: one matrix product for all entries of the kernel, then a sum of its shifted parts.

    Its transpose gives the gradient of the kernel: for each image, the product of the gradient, shifted for each entry
    of the kernel [k * l * d, h * w], and the image [h * w, c]. With few output channels, this copies less than
    gathering the columns of the image.
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
