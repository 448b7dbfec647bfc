"""A bidirectional GRU layer with the same parameters, names and initialization as PyTorch's.

Input: sequences [b, t, i]. Output: the hidden states of both directions, [b, t, 2 h].

`nnx.GRUCell` cannot hold these weights, because it has no hidden bias that the reset gate multiplies.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from vidcomp_jax.motion.gru_scan import gru_recurrence, gru_step


class BidirectionalGRU(nnx.Module):
    """Two GRUs side by side. Called as a layer, one reads the sequence forward and the other backward.

    Both directions advance in the same scan, and their inputs are projected in a single product before it.

    Attributes:
        weight_ih_l0, weight_ih_l0_reverse: input weights [3 hidden, in], rows in the order reset, update, candidate.
        weight_hh_l0, weight_hh_l0_reverse: hidden-state weights [3 hidden, hidden], in the same order.
        bias_ih_l0, bias_ih_l0_reverse, bias_hh_l0, bias_hh_l0_reverse: input and hidden biases [3 hidden].
    """

    def __init__(self, in_features: int, hidden_features: int, *, rngs: nnx.Rngs):
        gates, bound = 3 * hidden_features, 1 / math.sqrt(hidden_features)

        def uniform(*shape: int) -> nnx.Param:
            return nnx.Param(jax.random.uniform(rngs.params(), shape, minval=-bound, maxval=bound))

        self.weight_ih_l0, self.weight_ih_l0_reverse = uniform(gates, in_features), uniform(gates, in_features)
        self.weight_hh_l0 = uniform(gates, hidden_features)
        self.weight_hh_l0_reverse = uniform(gates, hidden_features)
        self.bias_ih_l0, self.bias_ih_l0_reverse = uniform(gates), uniform(gates)
        self.bias_hh_l0, self.bias_hh_l0_reverse = uniform(gates), uniform(gates)
        self.hidden_features = hidden_features

    def __call__(self, x: Float[Array, "b t i"]) -> Float[Array, "b t h2"]:
        """Read `x` in both directions from zero states, as `torch.nn.GRU(bidirectional=True)` does.

        Returns:
            The forward and backward hidden states of each frame, concatenated (h2 = 2 hidden).
        """
        inputs = self._project(x)
        both_directions = jnp.stack([inputs[:, 0], inputs[::-1, 1]], 1)
        states = gru_recurrence(both_directions, *self._recurrent())
        return _by_frame(jnp.stack([states[:, 0], states[::-1, 1]], 1))

    def forward_only(self, x: Float[Array, "b t i"]) -> Float[Array, "b t h2"]:
        """Let both halves read `x` forward, so that no state depends on a later frame.

        This is equivalent to feeding PyTorch's layer one frame at a time and carrying both of its states over.
        """
        return _by_frame(gru_recurrence(self._project(x), *self._recurrent()))

    def step(self, x: Float[Array, "b i"], state: Float[Array, "2 b h"]) -> Float[Array, "2 b h"]:
        """Advance both halves by one frame; `forward_only` is a sequence of these steps."""
        weight, bias = self._recurrent()
        gates = jnp.einsum("dbi,dij->dbj", state, weight) + bias[:, None]
        return gru_step(self._project(x[:, None])[0], gates, state)

    def zero_state(self, batch_size: int) -> Float[Array, "2 b h"]:
        """The state before the first step."""
        return jnp.zeros((2, batch_size, self.hidden_features))

    def _project(self, x: Float[Array, "b t i"]) -> Float[Array, "t 2 b g"]:
        weight = jnp.stack([self.weight_ih_l0[...], self.weight_ih_l0_reverse[...]])
        bias = jnp.stack([self.bias_ih_l0[...], self.bias_ih_l0_reverse[...]])
        return jnp.einsum("bti,dgi->tdbg", x, weight) + bias[:, None]

    def _recurrent(self) -> tuple[Float[Array, "2 h g"], Float[Array, "2 g"]]:
        weight = jnp.stack([self.weight_hh_l0[...].T, self.weight_hh_l0_reverse[...].T])
        return weight, jnp.stack([self.bias_hh_l0[...], self.bias_hh_l0_reverse[...]])


def pytorch_linear(in_features: int, out_features: int, *, rngs: nnx.Rngs) -> nnx.Linear:
    """A linear layer with weight and bias drawn uniformly from +-1 / sqrt(in_features), as in PyTorch."""
    bound = 1 / math.sqrt(in_features)

    def uniform(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return nnx.Linear(in_features, out_features, kernel_init=uniform, bias_init=uniform, rngs=rngs)


def _by_frame(states: Float[Array, "t 2 b h"]) -> Float[Array, "b t h2"]:
    t, d, b, h = states.shape
    return states.transpose(2, 0, 1, 3).reshape(b, t, d * h)
