"""The recurrence of a GRU over time, with hand-written gradients that can themselves be differentiated.

Input: the projected inputs of all gates. Output: the hidden states.

The GRU is that of Cho et al. (2014) in PyTorch's form, where the reset gate also multiplies a bias. With the projected
input x, the gates g_t = h_{t-1} W + b, and r, z, n for reset, update and candidate:

    r = sigmoid(x_r + g_r),  z = sigmoid(x_z + g_z),  n = tanh(x_n + r g_n),  h_t = n + z (h_{t-1} - n)

Two measurements explain the design. First, differentiating a scan adds a weight gradient, as large as the weight, to
an accumulator in every step. Here the backward pass only propagates the cotangents of the states, and the weight
gradient is one matrix product over all steps. The backward pass is itself a linear recurrence with a hand-written
gradient, so a gradient penalty takes four such scans. Second, XLA's CPU compiler fuses the slice of a scan's current
step into the arithmetic that consumes it and then no longer vectorizes, which is five times slower. Slices are
therefore fetched one step ahead.

Axes: t time, d direction (or any independent GRUs run side by side), b batch, h hidden, g = 3 h gates.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.custom_vjp
def gru_recurrence(
    inputs: Float[Array, "t d b g"], weight: Float[Array, "d h g"], bias: Float[Array, "d g"]
) -> Float[Array, "t d b h"]:
    """Run the GRU from a zero state over inputs that are already projected, with the input bias added.

    Returns:
        The hidden state after each step.
    """
    return _states_and_gates(inputs, weight, bias)[0]


@jax.custom_vjp
def _states_and_gates(inputs, weight, bias):
    """The hidden states and the gates g_t that they were computed from."""

    def step(hidden, projected):
        gates = _product(hidden, weight) + bias[:, None]
        hidden = gru_step(projected, gates, hidden)
        return hidden, (hidden, gates)

    _, d, b, g = inputs.shape
    return _scan(step, jnp.zeros((d, b, g // 3), inputs.dtype), inputs)


def gru_step(
    inputs: Float[Array, "*b g"], gates: Float[Array, "*b g"], hidden: Float[Array, "*b h"]
) -> Float[Array, "*b h"]:
    """The next hidden state from one step's projected input and gates."""
    _, update, candidate, _ = _activations(inputs, gates)
    return candidate + update * (hidden - candidate)


def _activations(inputs, gates):
    (x_r, x_z, x_n), (g_r, g_z, g_n) = jnp.split(inputs, 3, -1), jnp.split(gates, 3, -1)
    reset, update = _sigmoid(x_r + g_r), _sigmoid(x_z + g_z)
    return reset, update, jnp.tanh(x_n + reset * g_n), g_n


def _sigmoid(x):
    return 0.5 + 0.5 * jnp.tanh(0.5 * x)  # cheaper on a CPU than an exponential and a division


def _recurrence_forward(inputs, weight, bias):
    states, gates = _states_and_gates(inputs, weight, bias)
    return states, (inputs, weight, states, gates)


def _states_and_gates_forward(inputs, weight, bias):
    states, gates = _states_and_gates(inputs, weight, bias)
    return (states, gates), (inputs, weight, states, gates)


def _recurrence_backward(residuals, d_states):
    return _backward(residuals, d_states, None)


def _states_and_gates_backward(residuals, cotangents):
    return _backward(residuals, *cotangents)


def _backward(residuals, d_states, d_gates):
    inputs, weight, states, gates = residuals
    before = _delay(states)
    reset, update, candidate, g_n = _activations(inputs, gates)
    # Derivatives of h_t with respect to the arguments of the tanh and of the two sigmoids.
    d_candidate = (1 - update) * (1 - candidate**2)
    d_reset = d_candidate * g_n * reset * (1 - reset)
    d_update = (before - candidate) * update * (1 - update)
    coupling = jnp.concatenate([d_reset, d_update, d_candidate * reset], -1)  # dh / d(gates)
    if d_gates is not None:
        d_states = d_states + _advance(_product(d_gates, weight.mT))
    adjoint = _adjoint(update, coupling, weight, d_states)
    d_inputs = _tile(adjoint) * jnp.concatenate([d_reset, d_update, d_candidate], -1)
    d_products = _tile(adjoint) * coupling
    if d_gates is not None:
        d_products = d_products + d_gates
    return d_inputs, _weight_gradient(before, d_products), d_products.sum((0, 2))


gru_recurrence.defvjp(_recurrence_forward, _recurrence_backward)
_states_and_gates.defvjp(_states_and_gates_forward, _states_and_gates_backward)


@jax.custom_vjp
def _adjoint(decay, coupling, weight, forcing):
    """Cotangents of the states: u_t = forcing_t + decay_{t+1} u_{t+1} + (coupling_{t+1} u_{t+1}) W^T."""
    transposed = weight.mT

    def step(incoming, now):
        decay, coupling, forcing = now
        u = forcing + incoming
        return decay * u + _product(coupling * _tile(u), transposed), u

    return _scan(step, jnp.zeros_like(forcing[0]), (decay, coupling, forcing), reverse=True)


def _adjoint_forward(decay, coupling, weight, forcing):
    u = _adjoint(decay, coupling, weight, forcing)
    return u, (decay, coupling, weight, u)


def _adjoint_backward(residuals, d_u):
    """The transpose runs forward in time: v_t = d_u_t + decay_t v_{t-1} + sum over gates of coupling_t (v_{t-1} W)."""
    decay, coupling, weight, u = residuals

    def step(incoming, now):
        decay, coupling, d_u = now
        gates = _product(incoming, weight)
        v = d_u + decay * incoming + sum(jnp.split(coupling * gates, 3, -1))
        return v, (v, gates)

    v, gates = _scan(step, jnp.zeros_like(d_u[0]), (decay, coupling, d_u))
    before = _delay(v)
    return before * u, gates * _tile(u), _weight_gradient(before, coupling * _tile(u)), v


_adjoint.defvjp(_adjoint_forward, _adjoint_backward)


def _scan(step: Callable, carry: Any, sequence: Any, *, reverse: bool = False) -> Any:
    """`jax.lax.scan` over time that fetches the slice of each step one step ahead; returns only the outputs."""
    length = jax.tree.leaves(sequence)[0].shape[0]

    def fetch(index):
        return jax.tree.map(
            lambda x: jax.lax.dynamic_index_in_dim(x, index, keepdims=False, allow_negative_indices=False), sequence
        )

    def fetch_ahead(state, following):
        carry, now = state
        carry, out = step(carry, now)
        return (carry, fetch(following)), out

    # The last fetch would be out of range; its index is clamped and its result not used.
    following = jnp.arange(length) + (-1 if reverse else 1)
    state = carry, fetch(length - 1 if reverse else 0)
    return jax.lax.scan(fetch_ahead, state, jnp.clip(following, 0, length - 1), reverse=reverse)[1]


def _product(x, weight):
    return jnp.einsum("...dbi,dij->...dbj", x, weight)


def _weight_gradient(x, y):
    return jnp.einsum("tdbi,tdbj->dij", x, y)


def _tile(x):
    return jnp.concatenate([x, x, x], -1)


def _delay(x):
    return jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]])


def _advance(x):
    return jnp.concatenate([x[1:], jnp.zeros_like(x[:1])])
