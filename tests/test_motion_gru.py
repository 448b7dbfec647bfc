"""The GRU's hand-written first and second derivatives against those that JAX derives from a plain scan."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vidcomp_jax.motion.gru import BidirectionalGRU
from vidcomp_jax.motion.gru_scan import gru_recurrence, gru_step

KEYS = jax.random.split(jax.random.key(0), 5)
INPUTS, WEIGHT = jax.random.normal(KEYS[0], (6, 2, 3, 12)), jax.random.normal(KEYS[1], (2, 4, 12))
BIAS, PROBE = jax.random.normal(KEYS[2], (2, 12)), jax.random.normal(KEYS[3], (6, 2, 3, 4))


def plain(inputs, weight, bias):
    def step(hidden, now):
        hidden = gru_step(now, jnp.einsum("dbi,dij->dbj", hidden, weight) + bias[:, None], hidden)
        return hidden, hidden

    return jax.lax.scan(step, jnp.zeros((2, 3, 4)), inputs)[1]


def loss(function, *arguments):
    return (jnp.tanh(function(*arguments)) * PROBE).sum()


def penalty(function, *arguments):
    gradient = jax.grad(loss, 1)(function, *arguments)
    return jnp.square(jnp.sqrt(jnp.square(gradient).sum((0, 1, 3))) - 1).sum()


def assert_trees_close(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * float(np.abs(b).max()))


def test_states():
    np.testing.assert_allclose(gru_recurrence(INPUTS, WEIGHT, BIAS), plain(INPUTS, WEIGHT, BIAS), atol=1e-6)


def test_gradients_of_the_first_and_second_order():
    for objective in (loss, penalty):
        ours, expected = (
            jax.jit(jax.grad(lambda *x, f=f, o=objective: o(f, *x), (0, 1, 2)))(INPUTS, WEIGHT, BIAS)
            for f in (gru_recurrence, plain)
        )
        assert_trees_close(ours, expected)


def test_the_backward_half_is_the_forward_one_on_the_reversed_sequence():
    gru = BidirectionalGRU(5, 4, rngs=nnx.Rngs(1))
    turned = BidirectionalGRU(5, 4, rngs=nnx.Rngs(1))
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
        setattr(turned, name, getattr(gru, f"{name}_reverse"))
        setattr(turned, f"{name}_reverse", getattr(gru, name))
    x = jax.random.normal(KEYS[4], (2, 6, 5))
    out, other = gru(x), turned(x[:, ::-1])[:, ::-1]
    np.testing.assert_allclose(out[..., :4], other[..., 4:], atol=1e-6)
    np.testing.assert_allclose(out[..., 4:], other[..., :4], atol=1e-6)


def test_forward_only_is_its_steps():
    gru, x = BidirectionalGRU(5, 4, rngs=nnx.Rngs(1)), jax.random.normal(KEYS[4], (2, 6, 5))
    out, state = gru.forward_only(x), gru.zero_state(2)
    for t in range(6):
        state = gru.step(x[:, t], state)
        np.testing.assert_allclose(out[:, t], jnp.concatenate([*state], -1), atol=1e-6)


def test_initialized_as_pytorch_does():
    gru = BidirectionalGRU(60, 256, rngs=nnx.Rngs(0))
    for variable in jax.tree.leaves(nnx.state(gru, nnx.Param)):
        spread = np.abs(np.asarray(variable))
        assert 0.9 / 16 < spread.max() <= 1 / 16
        assert abs(spread.mean() - 1 / 32) < 3e-3  # uniform within 1 / sqrt(hidden)
