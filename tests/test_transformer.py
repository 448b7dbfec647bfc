"""The transformer over frames: what it is before training, and what its attention depends on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vidcomp_jax.nn.transformer import Transformer

SIZES = {"width": 16, "num_layers": 2, "num_heads": 2, "feed_forward": 24}


def shaken() -> Transformer:
    """A transformer with random weights in place of the zeros that it starts with."""
    network = Transformer(5, 3, **SIZES, rngs=nnx.Rngs(0))
    state = nnx.state(network)
    leaves, structure = jax.tree.flatten(state)
    rng = np.random.default_rng(1)
    leaves = [x + 0.3 * jnp.asarray(rng.standard_normal(x.shape), x.dtype) for x in leaves]
    nnx.update(network, jax.tree.unflatten(structure, leaves))
    return network


def inputs(frames: int = 6):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(3, frames, 5)), jnp.float32), jnp.asarray(rng.normal(size=(3, 16)), jnp.float32)


@functools.partial(jax.jit, static_argnums=0)
def compiled(graphdef, state, *given):
    return nnx.merge(graphdef, state)(*given)


def call(network, *given):
    """Call a network in the one program that all tests share."""
    return compiled(*nnx.split(network), *given)


def test_the_output_is_zero_before_training_and_gradients_are_not():
    network = Transformer(5, 3, **SIZES, rngs=nnx.Rngs(0))
    tokens, condition = inputs()
    times = jnp.arange(6.0)[None]
    np.testing.assert_array_equal(call(network, tokens, times, condition), 0)
    graphdef, state = nnx.split(network)
    loss = lambda state: jnp.square(nnx.merge(graphdef, state)(tokens, times, condition) - 1).mean()  # noqa: E731
    gradient = nnx.to_pure_dict(jax.jit(jax.grad(loss))(state))
    assert np.abs(gradient["output"]["kernel"]).max() > 0


def test_only_differences_of_time_count():
    network, (tokens, condition) = shaken(), inputs()
    times = jnp.array([[0, 1, 2.5, 3, 7, 8]])
    here, later = (call(network, tokens, t, condition) for t in (times, times + 13))
    np.testing.assert_allclose(here, later, atol=2e-4)
    assert np.abs(here - call(network, tokens, 2 * times, condition)).max() > 1e-3


def test_frames_have_no_order_but_their_times():
    network, (tokens, condition) = shaken(), inputs()
    times, order = jnp.arange(6.0)[None], np.array([3, 0, 5, 1, 2, 4])
    straight, mixed = (
        call(network, tokens, times, condition),
        call(network, tokens[:, order], times[:, order], condition),
    )
    np.testing.assert_allclose(straight[:, order], mixed, atol=1e-4)


def test_the_condition_counts_and_clips_do_not_mix():
    network, (tokens, condition) = shaken(), inputs()
    times = jnp.arange(6.0)[None]
    out = call(network, tokens, times, condition)
    other = call(network, tokens, times, condition.at[0].add(1))
    assert np.abs(out - other)[0].min(-1).max() > 1e-3
    np.testing.assert_allclose(out[1:], other[1:], atol=1e-5)
