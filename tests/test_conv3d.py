"""3D convolutions: both implementations agree, and upsampling equals a transposed convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vidcomp_jax.nn.conv3d import Conv3d, UpConv3d, fold_time, native


@pytest.mark.parametrize(("kernel", "stride"), [((3, 3, 3), 1), ((4, 4, 4), 2)])
def test_both_ways_to_convolve_video_agree(kernel, stride):
    x = jax.random.normal(jax.random.key(0), (2, 5, 6, 8, 3))
    weights = jax.random.normal(jax.random.key(1), (*kernel, 3, 4))
    padding = ((1, 2), (1, 1), (1, 1)) if stride == 2 else ((1, 1),) * 3

    def loss(convolve):
        return lambda x, weights: jnp.sin(convolve(x, weights, stride=stride, padding=padding)).sum()

    outputs = [f(x, weights, stride=stride, padding=padding) for f in (fold_time, native)]
    assert outputs[0].shape == (2, 5, 6 // stride, 8 // stride, 4)
    np.testing.assert_allclose(*outputs, atol=2e-5)
    for ours, expected in zip(*(jax.grad(loss(f), (0, 1))(x, weights) for f in (fold_time, native)), strict=True):
        np.testing.assert_allclose(ours, expected, atol=5e-4)


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
