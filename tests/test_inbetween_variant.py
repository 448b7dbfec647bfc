"""The variant `video-completion` of 3D-convolution in-betweening equals its network and training in TensorFlow."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tests.support import tf_inbetween
from vidcomp_jax.devices import replicate, shard
from vidcomp_jax.errors import InputError
from vidcomp_jax.inbetween.alternating import Moving, alternating_step, following
from vidcomp_jax.inbetween.generation import InbetweenModel
from vidcomp_jax.inbetween.losses import Inbetween, InbetweenLossConfig, inner_frames
from vidcomp_jax.inbetween.networks import InbetweenConfig
from vidcomp_jax.storage.checkpoint import CHECKPOINTS, Checkpoints, load_checkpoint
from vidcomp_jax.training.step import init_state, map_over_devices

SIZES = {"num_frames": 16, "frame_size": 16, "width": 4, "num_stages": 1, "noise_size": 8, "discriminator_width": 2}
TINY = InbetweenConfig(**SIZES, variant="video-completion")
RATE = 0.1


def rngs():
    """Return seeds for XLA's own generator, which compiles several times faster than the default one."""
    return nnx.Rngs(jax.random.key(0, impl="rbg"))


def count(module):
    return sum(value.size for value in jax.tree.leaves(nnx.state(module, nnx.Param)))


@pytest.fixture(scope="module")
def model():
    """Networks none of whose weights is zero, as the initial biases are."""
    model, rng = nnx.eval_shape(lambda: Inbetween(TINY, rngs=rngs())), np.random.default_rng(0)

    def drawn(path, value):
        name = path[-1].key
        if name in ("mean", "var", "num_batches"):
            return jnp.full(value.shape, name == "var", value.dtype)
        size = np.sqrt(1.5 / np.prod(value.shape[:-1])) if value.ndim > 1 else 0.1
        return jnp.asarray((name == "scale") + size * rng.standard_normal(value.shape), value.dtype)

    nnx.update(model, jax.tree_util.tree_map_with_path(drawn, nnx.to_pure_dict(nnx.state(model))))
    return model


@pytest.fixture(scope="module")
def clips():
    """Clips of a bright square that crosses a gray background, and some noise."""
    rng = np.random.default_rng(1)
    frames = np.full((4, 16, 16, 16, 1), 0.2, np.float32)
    for clip in range(4):
        for t in range(16):
            frames[clip, t, 3 + 2 * clip : 8 + 2 * clip, t : t + 6] = 0.9
    return frames + rng.uniform(0, 0.1, frames.shape).astype(np.float32)


def test_the_full_networks_have_the_sizes_of_the_published_code():
    model = nnx.eval_shape(lambda: Inbetween(InbetweenConfig(variant="video-completion"), rngs=rngs()))
    # Of each layer of midnet.py: kernel and bias, and scale and offset of the norms.
    assert count(model.generator.encoder) == 1_580_864
    assert count(model.generator.latent) == 8_050_176
    assert count(model.generator.decoder) == 4_736_641 + 2  # the norm at its end
    assert model.generator.noise.shape == (128,)
    assert count(model.video_discriminator) == 11_148_097
    assert count(model.image_discriminator) == 3_713_165 + 2 * (64 + 128 + 256 + 512)  # the norms of the shortcuts


def test_all_networks_equal_tensorflow(model, clips):
    definition, params, rest = nnx.split(model, nnx.Param, ...)

    @jax.jit
    def run(params, rest, clips):
        model = nnx.merge(definition, params, rest)
        generated = model.generator.generate(clips[:, 0], clips[:, -1], jnp.ones((4, 8)))
        return generated, model.video_discriminator(clips), model.image_discriminator(inner_frames(clips))

    generated, *logits = run(params, rest, clips)
    weights = jax.tree.map(np.asarray, nnx.to_pure_dict(params))
    signed = 2 * clips - 1
    expected = tf_inbetween.generate(signed[:, 0], signed[:, -1], weights["generator"]).numpy()
    np.testing.assert_allclose(2 * generated - 1, expected, atol=2e-4)
    assert expected.std() > 0.3
    for found, there in zip(logits, tf_inbetween.logits(signed, weights), strict=True):
        assert there.numpy().std() > 1e-3
        np.testing.assert_allclose(found, there[:, 0], rtol=1e-3, atol=1e-4)


class Blend(nnx.Module):
    """The toy generator of `tf_inbetween`."""

    def __init__(self, num_frames):
        self.mix = nnx.Param(jnp.zeros((num_frames, 3)))

    def generate(self, first, last, noise):
        start, end, bright = (self.mix[...][:, i, None, None, None] for i in range(3))
        mixed = start * (2 * first - 1)[:, None] + end * (2 * last - 1)[:, None] + bright
        return (jax.nn.leaky_relu(mixed, 0.2) + 1) / 2


class Weigh(nnx.Module):
    """A toy discriminator of `tf_inbetween`."""

    def __init__(self, shape):
        self.weight = nnx.Param(jnp.zeros(shape))

    def __call__(self, x):
        return ((2 * x - 1) * self.weight[...]).reshape(len(x), -1).sum(1)


class Toys(Inbetween):
    def __init__(self, clip_shape):
        self.generator = Blend(clip_shape[0])
        self.video_discriminator, self.image_discriminator = Weigh(clip_shape), Weigh(clip_shape[1:])
        self.noise_size, self.as_in_video_completion = 8, True


def test_a_step_equals_tensorflow(clips, tmp_path):
    devices, rng = jax.devices()[:1], np.random.default_rng(0)
    tx, step = alternating_step(InbetweenLossConfig(), optax.sgd(RATE))
    graphdef, constants, state = init_state(Toys(clips.shape[1:]), tx, devices)
    weights = jax.tree.map(lambda x: 0.05 * rng.standard_normal(x.shape).astype(np.float32), state.params)
    weights["generator"]["mix"] += 0.5
    state = state._replace(params=replicate(weights, devices))
    run = map_over_devices(graphdef, step, devices)
    batch, key = shard(clips, len(clips), devices), jax.random.key(0)
    copy = jax.tree.map(jnp.copy, state)
    after, metrics = run(state, constants, batch, key)
    expected, losses, verdict = tf_inbetween.step(2 * clips - 1, weights, RATE)
    for name, value in losses.items():
        assert float(metrics[name]) == pytest.approx(value, rel=1e-4), name
    for before, found, there in zip(*map(jax.tree.leaves, (weights, after.params, expected)), strict=True):
        np.testing.assert_allclose(found - before, there - before, atol=1e-3 * abs(there - before).max())
    moving = following(Moving(jnp.bool_(True), jnp.bool_(True)), jnp.array(verdict), 0.3)
    assert after.opt_state.moving == moving and not all(moving)
    with Checkpoints(tmp_path / CHECKPOINTS) as checkpoints:
        checkpoints.save(1, after)
    stored = load_checkpoint(after, tmp_path)
    jax.tree.map(np.testing.assert_array_equal, stored, after)

    paused = copy._replace(opt_state=copy.opt_state._replace(moving=Moving(jnp.bool_(False), jnp.bool_(True))))
    held, metrics = run(paused, constants, batch, key)
    assert metrics["active_generator"] == 0 and metrics["active_discriminators"] == 1
    np.testing.assert_array_equal(held.params["generator"]["mix"], weights["generator"]["mix"])
    for name in ("video_discriminator", "image_discriminator"):
        np.testing.assert_array_equal(held.params[name]["weight"], after.params[name]["weight"])


@pytest.mark.parametrize(
    ("moving", "losses", "expected"),
    [
        ((1, 1), (0.6, 0.6), (1, 1)),  # neither side is ahead
        ((1, 1), (0.6, 0.2), (1, 0)),  # the discriminators are ahead and pause
        ((1, 0), (0.6, 0.6), (1, 0)),  # and stay paused
        ((1, 0), (0.6, 0.8), (1, 1)),  # until the generator would pause as well
        ((1, 1), (0.8, 0.6), (0, 1)),  # the discriminators are behind, so the generator pauses
        ((0, 1), (0.6, 0.6), (0, 1)),  # and stays paused
        ((0, 1), (0.2, 0.6), (1, 1)),
        ((1, 1), (0.2, 0.8), (1, 1)),  # both at once
    ],
)
def test_a_pause_lasts_until_the_other_side_pauses(moving, losses, expected):
    found = following(Moving(*map(jnp.bool_, moving)), jnp.array(losses), 0.3)
    assert tuple(map(int, found)) == expected


def test_the_variant_has_one_clip_for_two_ends(model):
    assert not InbetweenModel(model.generator, TINY).stochastic
    assert InbetweenModel(model.generator, InbetweenConfig(**SIZES)).stochastic


def test_numbers_of_frames_that_two_latent_frames_cannot_become_are_refused():
    with pytest.raises(InputError, match="`num_frames` is 12; it must be a multiple of 8 with the variant video-compl"):
        InbetweenConfig(num_frames=12, variant="video-completion")
