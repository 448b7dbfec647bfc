"""Initial weights and constants in which the two variants of 3D-convolution in-betweening differ.

Those of the variant `video-completion` are the defaults of TensorFlow 1, which the network of that project has.
"""

from typing import Literal, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from vidcomp_jax.nn.conv3d import HE, HE_UP

Variant = Literal["stochastic", "video-completion"]
"""Which networks: those that draw noise for every clip, or those of the repository xih108/Video_Completion."""


class Rules(NamedTuple):
    """Initial weights and constants of a variant.

    Attributes:
        kernel: initial kernels of convolutions.
        up: initial kernels of the transposed convolutions that double height and width.
        linear, times: initial kernel and biases of the linear layer of a stage; it has one bias for each frame and
            channel.
        gates, gate_biases: initial kernel and biases of the convolution that computes the gates.
        residual: initial kernel of the last convolution of a stage.
        head: initial kernel of the linear layer of a discriminator.
        batch_epsilon, layer_epsilon: what batch norm and layer norm add to a variance.
    """

    kernel: nnx.Initializer
    up: nnx.Initializer
    linear: nnx.Initializer
    times: nnx.Initializer
    gates: nnx.Initializer
    gate_biases: nnx.Initializer
    residual: nnx.Initializer
    head: nnx.Initializer
    batch_epsilon: float
    layer_epsilon: float


def _gates_nearly_closed(key: Array, shape: tuple[int, ...], dtype=jnp.float32) -> Float[Array, " c3"]:
    """Biases for gates of about 0.12. Gates of 0.5 would sum to one and cut off the previous stages."""
    third = shape[0] // 3
    return jnp.concatenate([jnp.full(2 * third, -2.0, dtype), jnp.zeros(third, dtype)])


_ZEROS, _GLOROT = nnx.initializers.zeros_init(), nnx.initializers.glorot_uniform()
RULES: dict[str, Rules] = {
    "stochastic": Rules(
        kernel=HE,
        up=HE_UP,
        linear=nnx.initializers.lecun_normal(),
        # They encode the time of each frame; without them, frames would initially differ only through padding.
        times=nnx.initializers.normal(1.0),
        gates=nnx.initializers.variance_scaling(0.1, "fan_in", "normal"),
        gate_biases=_gates_nearly_closed,
        # It starts at zero so that activations neither grow nor vanish over two dozen stages without normalization.
        residual=_ZEROS,
        # With zero weights, all losses start at log 2, so that neither side starts out ahead.
        head=_ZEROS,
        batch_epsilon=1e-5,
        layer_epsilon=1e-5,
    ),
    "video-completion": Rules(
        kernel=_GLOROT,
        up=_GLOROT,
        linear=_GLOROT,
        times=_ZEROS,
        gates=_GLOROT,
        gate_biases=_ZEROS,
        residual=_GLOROT,
        head=nnx.initializers.normal(0.02),
        batch_epsilon=1e-3,
        layer_epsilon=1e-12,
    ),
}
"""The rules of each variant."""
