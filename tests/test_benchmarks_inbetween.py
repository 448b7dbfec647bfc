"""The networks and losses of 3D-convolution in-betweening against an independent implementation in PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from benchmarks.inbetween import Options, clips
from benchmarks.torch_inbetween import Training
from vidcomp_jax.inbetween.losses import Inbetween, InbetweenLossConfig, draw_noise, objective
from vidcomp_jax.inbetween.networks import InbetweenConfig

CONFIG = InbetweenConfig(num_frames=8, frame_size=16, width=4, num_stages=1, noise_size=8, discriminator_width=2)


def randomized(model):
    """Draw weights that are all nonzero, so that every layer contributes."""
    rng = np.random.default_rng(0)
    definition, params, rest = nnx.split(model, nnx.Param, ...)
    params = jax.tree.map(lambda x: x + jnp.asarray(0.1 * rng.standard_normal(x.shape), x.dtype), params)
    return nnx.merge(definition, params, rest)


def test_losses_equal_those_of_pytorch():
    model = randomized(Inbetween(CONFIG, rngs=nnx.Rngs(jax.random.key(0, impl="rbg"))))
    weights = {
        ".".join(map(str, path)): np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(nnx.state(model, nnx.Param))
    }
    data, keys, loss = (
        clips(Options(batch=3, inbetween=CONFIG)),
        jax.random.split(jax.random.key(1), 3),
        InbetweenLossConfig(),
    )
    definition, state = nnx.split(model)
    state = nnx.to_pure_dict(state)
    run = jax.jit(lambda state, data: objective(nnx.merge(definition, state), data, keys, config=loss)[1])
    ours = run(state, data)

    training = Training(CONFIG, loss, weights, "cpu")
    noise = torch.from_numpy(np.array(draw_noise(keys, CONFIG.noise_size)))
    expected = training.step(torch.from_numpy(data).permute(0, 4, 1, 2, 3), noise)
    assert {name: float(ours[name]) for name in expected} == pytest.approx(
        {name: float(value) for name, value in expected.items()}, rel=1e-4
    )
    assert len(expected) == 8
