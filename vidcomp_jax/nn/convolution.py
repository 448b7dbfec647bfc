"""Convolutions over images, each computed in the way that was fastest for its shape.

On CPUs, XLA is slow for some convolutions of our networks: those over few pixels with many channels, those without
padding, some with strides, and the gradients of weights over large images or of few output channels. The tables
`PATCHES`, `BLOCKS`, `UNPADDED`, `ROWS` and `SHIFTS` say for which shapes another way was measured to be faster; this
file alone knows them. All other shapes, and all devices but CPUs, use XLA's convolution. The ways agree up to rounding,
and all can be differentiated forward, backward, and repeatedly.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array

from vidcomp_jax.nn.convolution_ways import (
    LAYOUT,
    Padding,
    by_patches,
    by_rows,
    by_shifts,
    by_xla,
    image_blocks,
    kernel_blocks,
)


class Shapes(NamedTuple):
    """Shapes that are computed in one way: float32, and all of these.

    Attributes:
        kernel: height and width of the kernel.
        pixels: smallest and largest height and width of the output.
        batch: smallest number of images.
        outputs: smallest number of output channels.
        products: smallest number of input channels times output channels.
        most_outputs: largest number of output channels.
        stride: step along height and width.
    """

    kernel: int
    pixels: tuple[int, int]
    batch: int
    outputs: int
    products: int
    most_outputs: float = math.inf
    stride: int = 1

    def hold(self, batch: int, kernel: tuple[int, ...], output: tuple[int, int], stride: int) -> bool:
        """Whether this many images, a kernel [kh, kw, c, d] and an output of this height and width are among them."""
        height, width, c, d = kernel
        smallest, largest = self.pixels
        return (
            height == width == self.kernel
            and stride == self.stride
            and smallest <= min(output)
            and max(output) <= largest
            and batch >= self.batch
            and self.outputs <= d <= self.most_outputs
            and c * d >= self.products
        )


# Milliseconds on two CPU cores, 4 images, XLA against the other way. Patches, forward and gradient of the input: 2x2
# pixels, 1024 -> 1024 channels 262 and 282 against 5 and 4; 4x4, 1024 -> 512: 7 and 15 against 5 and 5; 8x8, with the
# gradient of the weights, 2048 -> 512: 33, 69 and 21 against 18, 20 and 16, 512 -> 1024: 10, 20 and 10 against 8, 8 and
# 8; but 256 -> 512: 2, 3 and 3 against 2, 3 and 3. 4x4 with stride 2, 16 images, 4 pixels, 256 -> 2048: 51 and 45
# against 36 and 36; but 14 images, 256 -> 512: 6 and 7 against 5 and 7.
PATCHES: tuple[Shapes, ...] = (
    Shapes(kernel=3, pixels=(1, 4), batch=1, outputs=1, products=128 * 128),
    Shapes(kernel=3, pixels=(5, 8), batch=1, outputs=1, products=512 * 512),
    Shapes(kernel=4, stride=2, pixels=(1, 4), batch=1, outputs=1, products=256 * 1024),
)
"""Patches and one matrix product, forward and backward. Empty turns this way off."""
# 4x4 with stride 2, 16 images, 16 pixels, 64 -> 512, forward and both gradients: 19, 24 and 34 against 20, 20 and 26;
# 32 images: 38, 50 and 103 against 43, 36 and 52; but 16 images, 8 pixels, 128 -> 1024: 22, 21 and 21 against 22, 22
# and 30.
BLOCKS: tuple[Shapes, ...] = (Shapes(kernel=4, stride=2, pixels=(16, 1024), batch=16, outputs=512, products=64 * 512),)
"""Convolutions with strides as those of blocks of pixels without strides. Empty turns this way off."""
# 7x7 without padding, 12 images of 64 pixels, 33 -> 40 channels 262 against 100, 33 -> 10: 243 against 44; one image,
# 33 -> 40: 16 against 9; 4x4, 8 images of 128 pixels, 64 -> 128: 734 against 214; 2x2, 65 pixels, 256 -> 128: 74
# against 26. XLA copies all patches of the images into memory if nothing is padded, and only then.
UNPADDED: tuple[Shapes, ...] = tuple(Shapes(size, (8, 1024), batch=1, outputs=1, products=1) for size in (2, 3, 4, 7))
"""Convolutions without padding, with a row of zeros below the images. Empty turns this way off."""
# Gradients of weights: 3x3, 128 pixels, 64 -> 128 channels 343 against 108, 128 -> 128: 681 against 190; 64 pixels, 128
# -> 256: 105 against 66, 22 -> 128: 17 against 10; but 64 -> 64: 10 against 12, and one image of 128 pixels, 64 -> 128:
# 24 against 42. 32 pixels, 128 -> 256: 42 against 12, 512 -> 128: 48 against 25, two images, 128 -> 256: 10 against 6,
# 14 images, 64 -> 64: 30 against 9. 16 pixels, 32 images, 128 -> 384: 91 against 47; but 16 images: 22 against 26, 12
# images, 128 -> 256: 9 against 11.
# 2x2, 64 pixels, 256 -> 128: 76 against 41, 128 -> 64: 46 against 10, 128 -> 32: 16 against 8; 32 pixels, 256 -> 64: 8
# against 4; 16 pixels, 512 -> 128: 5 against 4, 32 images, 128 -> 192: 34 against 16; 17 pixels, 32 images, 256 -> 512:
# 160 against 52.
# 4x4, 8 images, 253 pixels, 3 -> 64: 270 against 108; 125 pixels, 64 -> 128: 1730 against 305; 58 pixels, 128 -> 256:
# 633 against 190; 26 pixels, 256 -> 512: 496 against 211.
# 7x7, 12 images, 58 pixels, 33 -> 40: 245 against 62; but 33 -> 10: 21 against 36.
ROWS: tuple[Shapes, ...] = (
    Shapes(kernel=3, pixels=(64, 1024), batch=2, outputs=128, products=16 * 128),
    Shapes(kernel=3, pixels=(32, 63), batch=2, outputs=128, products=64 * 128),
    Shapes(kernel=3, pixels=(32, 63), batch=12, outputs=64, products=64 * 64),
    Shapes(kernel=3, pixels=(16, 31), batch=28, outputs=128, products=128 * 128),
    Shapes(kernel=2, pixels=(32, 1024), batch=2, outputs=32, products=128 * 32),
    Shapes(kernel=2, pixels=(16, 31), batch=4, outputs=64, products=128 * 64),
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

# Video, whose kernel has frames: a convolution of images runs with these folded into its output channels, where the
# images need no copies. Batch 1, 16 frames of 64 pixels, kernel 4x4x4, stride 2, 1 -> 64 channels, forward and both
# gradients: 3, 6 and 7 with folded outputs against 1, 2 and 4 with folded inputs; but 32 pixels, 64 -> 128: 19, 24 and
# 34 against 26, 65 and 50.
FEW_INPUTS = 8
"""Kernels over video with fewer input channels are folded into those."""


class Ways(NamedTuple):
    """How a convolution and its derivatives are computed. All take images [b, h, w, c] and a kernel [kh, kw, c, d].

    Attributes:
        forward: the convolution itself.
        by_x, by_kernel: convolutions too: the derivatives by the images and by the kernel, which are linear in them.
            Forward mode runs these, and reverse mode their transposes.
    """

    forward: Callable[[Array, Array], Array]
    by_x: Callable[[Array, Array], Array]
    by_kernel: Callable[[Array, Array], Array]

    @classmethod
    def all_by(cls, way: Callable[[Array, Array], Array]) -> "Ways":
        """The convolution `way`, which is differentiated as it is written."""
        return cls(way, way, way)


def convolve(x: Array, kernel: Array, strides: Any, padding: Any, **options: Any) -> Array:
    """Convolve images [b, h, w, c] with a kernel [kh, kw, c, d]; a substitute for `jax.lax.conv_general_dilated`.

    Takes its arguments, and hands on to it all that the tables do not hold. Give it to
    `flax.nnx.Conv(conv_general_dilated=...)`.
    """
    if _is_plain(x, kernel, strides, padding, options):
        (top, bottom), (left, right) = padding
        sides = (int(top), int(bottom)), (int(left), int(right))
        return run(ways_for(x.shape, kernel.shape, int(strides[0]), sides, x.dtype), x, kernel)
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)


def ways_for(x: tuple[int, ...], kernel: tuple[int, ...], stride: int, padding: Padding, dtype: Any) -> Ways:
    """The ways to convolve images of shape `x` with a kernel of shape `kernel`, both of this type."""
    height, width = ((x[1 + i] + sum(padding[i]) - kernel[i]) // stride + 1 for i in range(2))
    output = height, width
    tables = jax.default_backend() == "cpu" and dtype == jnp.float32

    def among(table: tuple[Shapes, ...]) -> bool:
        return tables and any(shapes.hold(x[0], kernel, output, stride) for shapes in table)

    if among(PATCHES):
        return Ways.all_by(functools.partial(by_patches, padding=padding, stride=stride))
    if among(BLOCKS):
        return _by_blocks(x, kernel, stride, padding, output, dtype)
    unpadded = padding == ((0, 0), (0, 0)) and among(UNPADDED)
    ways = Ways.all_by(functools.partial(by_xla, padding=padding, stride=stride, extra_row=unpadded))
    for table, way in ((ROWS, by_rows), (SHIFTS, by_shifts)):
        if among(table):
            return ways._replace(by_kernel=functools.partial(way, padding=padding))
    return ways


def _by_blocks(
    x: tuple[int, ...], kernel: tuple[int, ...], stride: int, padding: Padding, output: tuple[int, int], dtype: Any
) -> Ways:
    """The ways to convolve blocks of pixels without strides, in place of pixels with strides."""
    rows, columns, c, d = kernel
    covered = stride * (output[0] - 1) + rows, stride * (output[1] - 1) + columns
    images = (x[0], covered[0] // stride, covered[1] // stride, stride**2 * c)
    inner = ways_for(images, (rows // stride, columns // stride, stride**2 * c, d), 1, ((0, 0), (0, 0)), dtype)

    def in_blocks(way: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
        return lambda x, kernel: way(image_blocks(x, stride, padding, covered), kernel_blocks(kernel, stride))

    return Ways(*map(in_blocks, inner))


def run(ways: Ways, x: Array, kernel: Array) -> Array:
    """Convolve images with a kernel in these ways."""
    return ways.forward(x, kernel) if len(set(ways)) == 1 else _with_derivatives(ways, x, kernel)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _with_derivatives(ways: Ways, x: Array, kernel: Array) -> Array:
    return ways.forward(x, kernel)


def _tangents(ways: Ways, primals: tuple, tangents: tuple) -> tuple[Array, Any]:
    x, kernel = primals
    dx, dk = tangents
    y = _with_derivatives(ways, x, kernel)
    # Frozen weights, such as those of VGG19, have no tangent, and their gradient must not be computed.
    parts = [] if isinstance(dx, SymbolicZero) else [ways.by_x(dx, kernel)]
    parts += [] if isinstance(dk, SymbolicZero) else [ways.by_kernel(x, dk)]
    return y, sum(parts[1:], parts[0]) if parts else jnp.zeros_like(y)


_with_derivatives.defjvp(_tangents, symbolic_zeros=True)


def _is_plain(x: Array, kernel: Array, strides: Any, padding: Any, options: dict[str, Any]) -> bool:
    """Whether images are convolved with one stride, and without dilation, groups, shardings and other options."""
    numbers = options.get("dimension_numbers")
    return (
        x.ndim == 4
        and x.dtype == kernel.dtype
        and len(set(strides)) == 1
        and not isinstance(padding, str)
        and numbers is not None
        and jax.lax.conv_dimension_numbers(x.shape, kernel.shape, numbers)
        == jax.lax.conv_dimension_numbers(x.shape, kernel.shape, LAYOUT)
        and set(options.get("lhs_dilation") or (1,)) == {1}
        and set(options.get("rhs_dilation") or (1,)) == {1}
        and options.get("feature_group_count", 1) == options.get("batch_group_count", 1) == 1
        and not any(options.get(name) for name in ("precision", "preferred_element_type", "out_sharding"))
    )
