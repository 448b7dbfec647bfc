"""Convolution blocks over features [b, h, w, c], shared by all networks.

Every block follows the PyTorch modules that the official checkpoints were trained with: explicit padding,
batch statistics with an unbiased running variance, bilinear or nearest resampling without anti-aliasing.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from vidcomp_jax.devices import AXIS, inside_device_axis, mean_over_devices
from vidcomp_jax.nn.convolution import LAYOUT, convolve
from vidcomp_jax.nn.precision import as_input
from vidcomp_jax.nn.resampling import average_pool, upsample_nearest


class Constant(nnx.Variable):
    """Frozen weights of a module: neither trained nor checkpointed, yet an argument of the compiled training step.

    XLA would fold an array that the step closed over into the program as a constant, which takes minutes.
    """


def freeze(module: nnx.Module) -> None:
    """Turn all parameters of a module into constants, in place."""
    for _, part in nnx.iter_modules(module):
        for name, value in list(vars(part).items()):
            if isinstance(value, nnx.Param):
                setattr(part, name, Constant(value[...]))


def conv(
    in_features: int,
    out_features: int,
    size: int,
    *,
    padding: int,
    rngs: nnx.Rngs,
    conv_type: type = nnx.Conv,
) -> nnx.Conv:
    """A convolution with a square kernel, explicit padding on all sides, and PyTorch's initial weights.

    PyTorch draws kernel and bias uniformly from +-1/sqrt(fan_in). It computes in the type of its input. `conv_type` is
    the class to create, `nnx.Conv` or a subclass.
    """
    bound = 1 / math.sqrt(in_features * size * size)
    return conv_type(
        in_features,
        out_features,
        (size, size),
        padding=((padding, padding), (padding, padding)),
        kernel_init=functools.partial(_uniform, bound=bound),
        bias_init=functools.partial(_uniform, bound=bound),
        conv_general_dilated=convolve,
        promote_dtype=as_input,
        rngs=rngs,
    )


def _uniform(key, shape, dtype=jnp.float32, out_sharding=None, *, bound: float):
    """Draw uniformly from [-bound, bound), in blocks of `_BLOCK` entries, block i with the key `fold_in(key, i)`.

    Normally one small compiled program draws each block and the host joins them, so that a network with many weight
    shapes needs no compilation for each. While JAX traces, there are no values to join on the host, and a loop inside
    the program draws the same blocks. Both give the same weights, bit for bit, for every kind of key.
    """
    count = math.prod(shape)
    blocks = -(-count // _BLOCK)
    if isinstance(key, jax.core.Tracer):
        draws = jax.lax.map(functools.partial(_draw_block, key), jnp.arange(blocks)).ravel()
    else:
        draws = np.concatenate([np.asarray(_draw_block(key, i)) for i in range(blocks)])
    return jnp.asarray(bound * draws[:count].reshape(shape), dtype)


_BLOCK = 1 << 14


@jax.jit
def _draw_block(key, index):
    return jax.random.uniform(jax.random.fold_in(key, index), (_BLOCK,), minval=-1.0, maxval=1.0)


def constant(value: float, *shape: int) -> Array:
    """A float32 array filled with one value, created without compiling anything."""
    return jnp.asarray(np.full(shape, value, np.float32))


def convolve_doubled(x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c d"]) -> Float[Array, "b h2 w2 d"]:
    """Convolve `upsample_nearest(x)` with a 3x3 kernel and padding 1, without computing the upsampled array.

    Every output pixel depends on 2x2 pixels of `x`. Which of the nine taps fall on the same one depends on whether its
    row and its column are even or odd. Adding those taps up leaves four 2x2 convolutions: 16 products instead of 36.
    """

    def even_and_odd(taps: Array, axis: int) -> tuple[Array, Array]:
        first, second, third = jnp.split(taps, 3, axis)
        return jnp.concatenate([first, second + third], axis), jnp.concatenate([first + second, third], axis)

    def quarter(taps: Array, row: int, column: int) -> Array:
        padding = ((1 - row, row), (1 - column, column))
        return convolve(x, taps, (1, 1), padding, dimension_numbers=LAYOUT)

    kernel = kernel.astype(x.dtype)
    rows = []
    for row, taps in enumerate(even_and_odd(kernel, 0)):
        pixels = [quarter(part, row, column) for column, part in enumerate(even_and_odd(taps, 1))]
        rows.append(jnp.stack(pixels, axis=3))
    b, h, w, _ = x.shape
    return jnp.stack(rows, axis=2).reshape(b, 2 * h, 2 * w, kernel.shape[-1])


class BatchNorm(nnx.Module):
    """Batch normalization over all axes but the last (Ioffe and Szegedy, 2015), as PyTorch computes it.

    In training mode it normalizes with the mean and biased variance of the whole batch, across the devices of
    `AXIS`, and moves the running statistics by a tenth toward the mean and the *unbiased* variance. After
    `model.eval()`, or with `nnx.view(model, use_running_average=True)`, it normalizes with the running statistics.

    Statistics and results are computed in float32; the results are then rounded to the type of `x`.

    With `nnx.view(model, joined_batches=n)`, n batches of equal size, one after another along the first axis, are
    normalized each by its own statistics, and update the running statistics in turn, as n calls would.

    Attributes:
        scale, bias: learned scale and offset, shape [features].
        mean, var: running statistics, shape [features].
        num_batches: number of batches that updated them; kept because PyTorch checkpoints store it.
    """

    def __init__(self, features: int, *, epsilon: float = 1e-5, momentum: float = 0.9):
        self.scale = nnx.Param(constant(1.0, features))
        self.bias = nnx.Param(constant(0.0, features))
        self.mean = nnx.BatchStat(constant(0.0, features))
        self.var = nnx.BatchStat(constant(1.0, features))
        self.num_batches = nnx.BatchStat(jnp.asarray(np.int32(0)))
        self.epsilon = epsilon
        self.momentum = momentum
        self.use_running_average = False
        self.joined_batches = 1

    def set_view(self, use_running_average: bool | None = None, joined_batches: int | None = None):
        """Switch between batch and running statistics, or set the number of batches; called by `nnx.view`."""
        if use_running_average is not None:
            self.use_running_average = use_running_average
        if joined_batches is not None:
            self.joined_batches = joined_batches

    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        """Normalize `x`; in training mode also update the running statistics."""
        if self.use_running_average:
            return self._normalized(x, self.mean[...], self.var[...]).astype(x.dtype)
        batches = x.reshape(self.joined_batches, -1, *x.shape[1:]).astype(self.mean.dtype)
        axes = tuple(range(1, batches.ndim - 1))
        mean = mean_over_devices(batches.mean(axes, keepdims=True))
        var = mean_over_devices(jnp.square(batches - mean).mean(axes, keepdims=True))
        devices = jax.lax.axis_size(AXIS) if inside_device_axis() else 1
        count = batches[0, ..., 0].size * devices
        self._move(self.mean, mean)
        self._move(self.var, var * (count / max(count - 1, 1)))
        self.num_batches.set_value(self.num_batches[...] + self.joined_batches)
        return self._normalized(batches, mean, var).reshape(x.shape).astype(x.dtype)

    def _normalized(self, x: Array, mean: Array, var: Array) -> Array:
        scale = self.scale[...] * jax.lax.rsqrt(var + self.epsilon)
        return x * scale + (self.bias[...] - mean * scale)

    def _move(self, running: nnx.BatchStat, batches: Float[Array, "n *_ c"]):
        moved = running[...]
        for batch in jax.lax.stop_gradient(batches):
            moved = self.momentum * moved + (1 - self.momentum) * batch.ravel()
        running.set_value(moved)  # `running[...] = moved` takes 100 times as long to trace


class SameBlock(nnx.Module):
    """Convolution, batch norm and ReLU, which keep height and width."""

    def __init__(self, in_features: int, out_features: int, size: int, *, rngs: nnx.Rngs):
        self.conv = conv(in_features, out_features, size, padding=size // 2, rngs=rngs)
        self.norm = BatchNorm(out_features)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        """Apply the block."""
        return nnx.relu(self.norm(self.conv(x)))


class DownBlock(SameBlock):
    """Convolution, batch norm, ReLU, then 2x2 average pooling."""

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """Apply the block."""
        return average_pool(super().__call__(x))


class UpBlock(SameBlock):
    """Nearest-neighbor upsampling by two, then a 3x3 convolution, batch norm and ReLU."""

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """Apply the block."""
        # Twice as fast on a CPU, in training too, except for small images, where adding up the taps takes too long.
        if jax.default_backend() == "cpu" and min(x.shape[1:3]) >= 16:
            assert self.conv.bias is not None  # for the type checker; `conv` always creates a bias
            bias = self.conv.bias[...].astype(x.dtype)
            return nnx.relu(self.norm(convolve_doubled(x, self.conv.kernel[...]) + bias))
        return super().__call__(upsample_nearest(x))


class ResBlock(nnx.Module):
    """Pre-activation residual block (He et al., 2016) of two 3x3 convolutions."""

    def __init__(self, features: int, *, rngs: nnx.Rngs):
        self.conv1 = conv(features, features, 3, padding=1, rngs=rngs)
        self.conv2 = conv(features, features, 3, padding=1, rngs=rngs)
        self.norm1 = BatchNorm(features)
        self.norm2 = BatchNorm(features)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Apply the block."""
        out = self.conv1(nnx.relu(self.norm1(x)))
        return x + self.conv2(nnx.relu(self.norm2(out)))
