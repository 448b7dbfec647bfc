"""3D convolutions: both implementations agree, and upsampling equals a transposed convolution."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.support.convolutions import hold_for_all
from vidcomp_jax.nn.conv3d import Conv3d, UpConv3d, fold_time, native
from vidcomp_jax.nn.convolution import FEW_INPUTS


@pytest.mark.parametrize("ways", [{}, {"patches": 9, "rows": True, "unpadded": True, "blocks": True}], ids=str)
@pytest.mark.parametrize("channels", [3, FEW_INPUTS])
@pytest.mark.parametrize(("kernel", "stride"), [((3, 3, 3), 1), ((4, 4, 4), 2), ((3, 2, 2), 1)])
def test_both_ways_to_convolve_video_agree(kernel, stride, channels, ways, monkeypatch):
    hold_for_all(monkeypatch, **ways)
    x = jax.random.normal(jax.random.key(0), (2, 5, 6, 8, channels))
    weights = jax.random.normal(jax.random.key(1), (*kernel, channels, 4)) / channels
    padding = {4: ((1, 2), (1, 1), (1, 1)), 3: ((1, 1),) * 3, 2: ((1, 1), (1, 0), (0, 1))}[kernel[-1]]

    def both(convolve):
        run = functools.partial(convolve, stride=stride, padding=padding)
        gradients = jax.grad(lambda *args: jnp.sin(run(*args)).sum(), (0, 1))
        forward = jax.jvp(run, (x, weights), (x + 1, weights - 1))
        return *forward, *gradients(x, weights), *jax.jvp(gradients, (x, weights), (x + 1, weights - 1))[1]

    ours, expected = (jax.jit(both, static_argnums=0)(f) for f in (fold_time, native))
    assert ours[0].shape == (2, 5, 6 // stride, 8 // stride, 4)
    for one, other in zip(ours, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * float(abs(other).max()))


def test_other_precisions_and_a_frozen_kernel(monkeypatch):
    hold_for_all(monkeypatch, patches=9, rows=True)
    x = jax.random.normal(jax.random.key(0), (1, 3, 6, 6, FEW_INPUTS))
    weights = jax.random.normal(jax.random.key(1), (3, 3, 3, FEW_INPUTS, 4))
    run = functools.partial(fold_time, stride=1, padding=((1, 1),) * 3)
    exact = run(x, weights)
    rounded = run(x.astype(jnp.bfloat16), weights.astype(jnp.bfloat16))
    assert rounded.dtype == jnp.bfloat16
    np.testing.assert_allclose(rounded.astype(jnp.float32), exact, atol=0.3)
    once = native(x.astype(jnp.bfloat16), weights.astype(jnp.bfloat16), stride=1, padding=((1, 1),) * 3)
    np.testing.assert_array_equal(rounded, once)  # rounded once, and not each of the frames that are added
    hold_for_all(monkeypatch, rows=True)
    assert "dot_general" not in str(jax.make_jaxpr(jax.grad(lambda x: run(x, weights).sum()))(x))
    assert "dot_general" in str(jax.make_jaxpr(jax.grad(lambda w: run(x, w).sum()))(weights))


def test_convolution_keeps_or_halves_the_size():
    x = jnp.zeros((1, 4, 8, 8, 2))
    assert Conv3d(2, 3, (4, 4, 4), stride=2, rngs=nnx.Rngs(0))(x).shape == (1, 4, 4, 4, 3)
    assert Conv3d(2, 3, (3, 3, 3), rngs=nnx.Rngs(0))(x).shape == (1, 4, 8, 8, 3)


def test_up_convolution_is_a_transposed_convolution():
    up = UpConv3d(3, 2, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 4, 5, 6, 3))
    layout = ("NDHWC", "DHWIO", "NDHWC")
    # A transposed convolution inserts zeros between the pixels, pads, and convolves with the mirrored kernel.
    expected = jax.lax.conv_general_dilated(
        x,
        up.kernel[...][:, ::-1, ::-1],
        (1, 1, 1),
        [(1, 1), (2, 2), (2, 2)],
        lhs_dilation=(1, 2, 2),
        dimension_numbers=layout,
    )
    np.testing.assert_allclose(up(x), expected, atol=1e-5)
    assert up(x).shape == (2, 4, 10, 12, 2)
