"""Convolution blocks shared by all networks: NHWC features in, NHWC features out.

Every block follows the PyTorch modules that the official checkpoints were trained with: explicit padding,
batch statistics with an unbiased running variance, bilinear or nearest resampling without anti-aliasing.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from vidcomp_jax.devices import inside_device_axis, mean_over_devices, AXIS


class BatchNorm(nnx.Module):
    """Batch normalisation over all axes but the last (Ioffe and Szegedy, 2015), as PyTorch computes it.

    While training it normalises with the mean and biased variance of the whole batch across the devices of
    `AXIS`, and moves the running statistics by a tenth towards the mean and the *unbiased* variance.
    `model.eval()`, or `nnx.view(model, use_running_average=True)`, normalises with the running statistics.

    Attributes:
        scale, bias: learned, shape [features].
        mean, var: running statistics, shape [features].
    """

    def __init__(self, features: int, *, epsilon: float = 1e-5, momentum: float = 0.9):
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        self.mean = nnx.BatchStat(jnp.zeros(features))
        self.var = nnx.BatchStat(jnp.ones(features))
        self.epsilon = epsilon
        self.momentum = momentum
        self.use_running_average = False

    def set_view(self, use_running_average: bool | None = None):
        """Let `nnx.view` switch between batch and running statistics."""
        if use_running_average is not None:
            self.use_running_average = use_running_average

    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        """Normalise `x`; in training mode also update the running statistics."""
        if self.use_running_average:
            mean, var = self.mean[...], self.var[...]
        else:
            axes = tuple(range(x.ndim - 1))
            mean = mean_over_devices(x.mean(axes))
            var = mean_over_devices(jnp.square(x - mean).mean(axes))
            count = x.size // x.shape[-1] * (jax.lax.axis_size(AXIS) if inside_device_axis() else 1)
            unbiased = var * (count / max(count - 1, 1))
            self._move(self.mean, mean)
            self._move(self.var, unbiased)
        scale = self.scale[...] * jax.lax.rsqrt(var + self.epsilon)
        return x * scale + (self.bias[...] - mean * scale)

    def _move(self, running: nnx.BatchStat, batch: Float[Array, " c"]):
        running[...] = self.momentum * running[...] + (1 - self.momentum) * jax.lax.stop_gradient(batch)
