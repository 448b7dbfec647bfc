"""Convolutions over video features [b, t, h, w, c], padded so that only strides change the size.

On a CPU, XLA's three-dimensional convolution trains three to nine times slower than the same sum written as one
two-dimensional convolution with the frames of the kernel as channels, so the CPU runs the latter. Other devices run the
native convolution. The two agree up to rounding.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from vidcomp_jax.nn.convolution import FEW_INPUTS, Ways, run, ways_for
from vidcomp_jax.nn.precision import as_input

Video = Float[Array, "b t h w c"]
Kernel = Float[Array, "kt kh kw c d"]
HE = nnx.initializers.he_normal()
# Only a quarter of the taps contributes to any output pixel, hence four times the usual variance of 2 / fan-in.
HE_UP = nnx.initializers.variance_scaling(8.0, "fan_in", "truncated_normal")
Padding = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def conv3d(x: Video, kernel: Kernel, *, stride: int = 1, padding: Padding) -> Float[Array, "b t2 h2 w2 d"]:
    """Convolve over time, height and width.

    Args:
        x: the video features.
        kernel: the weights.
        stride: step along height and width; it is 1 along time.
        padding: numbers of zeros before and after, for time, height and width.
    """
    way = fold_time if jax.default_backend() == "cpu" else native
    return way(x, kernel, stride=stride, padding=padding)


def native(x: Video, kernel: Kernel, *, stride: int, padding: Padding) -> Float[Array, "b t2 h2 w2 d"]:
    """Compute `conv3d` as one three-dimensional convolution."""
    layout = ("NDHWC", "DHWIO", "NDHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, stride, stride), padding, dimension_numbers=layout)


def fold_time(x: Video, kernel: Kernel, *, stride: int, padding: Padding) -> Float[Array, "b t2 h2 w2 d"]:
    """Compute `conv3d` as one two-dimensional convolution, with the frames of the kernel as further channels of it."""
    (kt, kh, kw, c, d), (b, t, h, w, _) = kernel.shape, x.shape
    before, after = padding[0]
    length = t + before + after - kt + 1

    def ways(fold: Callable, images: int, inputs: int, outputs: int) -> Ways:
        flat = ways_for((images, h, w, inputs), (kh, kw, inputs, outputs), stride, padding[1:], x.dtype)
        return Ways(*(functools.partial(fold, way, before, length) for way in flat))

    inputs = ways(fold_inputs, b * length, kt * c, d)
    # Folded outputs are rounded before they are added, which costs accuracy in bfloat16.
    if c < FEW_INPUTS or x.dtype != jnp.float32:
        # The stacked frames take `kt` times the memory of `x` and are cheap to stack again: the backward pass does so.
        return jax.checkpoint(functools.partial(run, inputs))(x, kernel)
    outputs = ways(fold_outputs, b * t, c, kt * d)
    # The transpose of folded inputs has folded outputs, as it should.
    return run(outputs._replace(by_x=inputs.by_x) if stride == 1 else outputs, x, kernel)


def fold_inputs(
    way: Callable[[Array, Array], Array], before: int, length: int, x: Video, kernel: Kernel
) -> Float[Array, "b t2 h2 w2 d"]:
    """Convolve images with the channels of `kt` neighboring frames in the way `way`.

    Args:
        way: convolves images [b, h, w, c] with a kernel [kh, kw, c, d].
        before: number of zero frames before the video.
        length: number of frames of the result.
    """
    taps = kernel.shape[0]
    after = length + taps - 1 - before - x.shape[1]
    padded = jnp.pad(x, ((0, 0), (before, after), (0, 0), (0, 0), (0, 0)))
    stacked = jnp.concatenate([padded[:, tap : tap + length] for tap in range(taps)], axis=-1)
    flat = jnp.moveaxis(kernel, 0, 2).reshape(*kernel.shape[1:3], -1, kernel.shape[-1])
    y = way(stacked.reshape(-1, *stacked.shape[2:]), flat)
    return y.reshape(x.shape[0], length, *y.shape[1:])


def fold_outputs(
    way: Callable[[Array, Array], Array], before: int, length: int, x: Video, kernel: Kernel
) -> Float[Array, "b t2 h2 w2 d"]:
    """Convolve each frame with all `kt` images of the kernel in the way `way`, and add what meets at each frame.

    The arguments are those of `fold_inputs`.
    """
    taps, *size, _, features = kernel.shape
    flat = jnp.moveaxis(kernel, 0, 3).reshape(*size, -1, taps * features)
    y = way(x.reshape(-1, *x.shape[2:]), flat)
    y = y.reshape(*x.shape[:2], *y.shape[1:3], taps, features)
    zero = jnp.zeros((), y.dtype)
    shifts = [before - tap for tap in range(taps)]
    ends = [length - x.shape[1] - shift for shift in shifts]
    still = (0, 0, 0)
    parts = [
        jax.lax.pad(y[..., tap, :], zero, (still, (start, end, 0), still, still, still))
        for tap, (start, end) in enumerate(zip(shifts, ends, strict=True))
    ]
    return sum(parts[1:], parts[0])


class Conv3d(nnx.Module):
    """A convolution over video that keeps the number of frames and divides height and width by `stride`, rounding down.

    Attributes:
        kernel: shape [kt, kh, kw, in, out].
        bias: shape [out].
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        kernel_size: tuple[int, int, int],
        *,
        stride: int = 1,
        kernel_init: nnx.Initializer = HE,
        rngs: nnx.Rngs,
    ):
        self.kernel = nnx.Param(kernel_init(rngs.params(), (*kernel_size, in_features, features)))
        self.bias = nnx.Param(jnp.zeros(features))
        self.stride = stride

    def __call__(self, x: Video) -> Float[Array, "b t h2 w2 d"]:
        """Convolve `x`."""
        kt, kh, kw = self.kernel.shape[:3]
        time = ((kt - 1) // 2, kt // 2)
        height, width = ((size - self.stride + 1) // 2 for size in (kh, kw))
        padding = (time, (height, kh - self.stride - height), (width, kw - self.stride - width))
        x, kernel, bias = as_input((x, self.kernel[...], self.bias[...]))
        return conv3d(x, kernel, stride=self.stride, padding=padding) + bias


class UpConv3d(nnx.Module):
    """A transposed convolution with a 3x4x4 kernel and stride 1x2x2: height and width double.

    Every output pixel depends on 2x2 input pixels. Which four of the sixteen spatial taps apply to them depends on
    whether its row and its column are even or odd. So the layer computes four 2x2 convolutions and interleaves their
    results, which avoids multiplying by the zeros that a transposed convolution inserts.

    Attributes:
        kernel: shape [3, 4, 4, in, out]; spatial taps are in the order of a transposed convolution, temporal taps in
            that of a convolution.
        bias: shape [out].
    """

    def __init__(self, in_features: int, features: int, *, kernel_init: nnx.Initializer = HE_UP, rngs: nnx.Rngs):
        self.kernel = nnx.Param(kernel_init(rngs.params(), (3, 4, 4, in_features, features)))
        self.bias = nnx.Param(jnp.zeros(features))

    def __call__(self, x: Video) -> Float[Array, "b t h2 w2 d"]:
        """Double the height and width of `x`."""
        b, t, h, w, c = x.shape
        features = self.kernel.shape[-1]
        x, kernel, bias = as_input((x, self.kernel[...], self.bias[...]))
        # Tap k of the transposed convolution adds input i to output 2 i - 1 + k. So even outputs weight their
        # two inputs by taps 3 and 1, odd ones by 2 and 0: tap = 3 - parity - 2 * position.
        taps = kernel[:, ::-1, ::-1].reshape(3, 2, 2, 2, 2, c, features)

        def convolve(row: int, column: int) -> Array:
            padding = ((1, 1), (1 - row, row), (1 - column, column))
            return conv3d(x, taps[:, :, row, :, column], padding=padding)

        rows = [jnp.stack([convolve(row, column) for column in range(2)], axis=4) for row in range(2)]
        return jnp.stack(rows, axis=3).reshape(b, t, 2 * h, 2 * w, features) + bias
