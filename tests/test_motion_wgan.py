"""The motion GAN: converted weights, outputs and training steps against golden values."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from converters.weight_map import dump_state, load_state
from tests.support import golden
from tools.make_checkpoint import recipe_state
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.motion.wgan import MotionGAN, WGANConfig
from vidcomp_jax.motion.wgan_training import Updates, critic_loss, rmsprop

VALUES = np.load(golden.FOLDER / "motion-wgan.npz")
LOSSES = json.loads((golden.FOLDER / "motion-wgan.json").read_text())["losses"]


def recipe_gan(constraint="gradient-penalty") -> MotionGAN:
    gan = MotionGAN(WGANConfig(constraint=constraint, show_true_ends=False), 10, rngs=nnx.Rngs(0))
    for name, state in recipe_state("wgan").items():
        load_state(getattr(gan, name), state)
    return gan


def test_weights_survive_the_way_there_and_back():
    gan = recipe_gan()
    for name, state in recipe_state("wgan").items():
        dumped = dump_state(getattr(gan, name))
        assert {k: v.shape for k, v in dumped.items()} == {k: v.shape for k, v in state.items()}
        assert all(np.array_equal(dumped[key], state[key]) for key in state)


def test_networks_give_the_golden_outputs():
    gan, real = recipe_gan(), jnp.asarray(VALUES["real"][0])
    noise, alpha = jnp.asarray(VALUES["noise"][0, 0]), jnp.asarray(VALUES["alpha"][0])
    graphdef, state = nnx.split(gan)

    @jax.jit
    def outputs(state):
        gan = nnx.merge(graphdef, state)
        fake = gan.generator(real[:, 0], real[:, -1], noise)
        return fake, gan.critic(real), critic_loss(gan.critic, real, fake, alpha)[1]

    fake, scores, metrics = outputs(state)
    np.testing.assert_allclose(fake, VALUES["generator_output"], atol=1e-5)
    np.testing.assert_allclose(scores, VALUES["critic_output"], atol=1e-5)
    np.testing.assert_allclose(metrics["penalty"], VALUES["gradient_penalty"], rtol=1e-5)


@pytest.mark.parametrize("constraint", ["gradient-penalty", "weight-clipping"])
def test_six_training_iterations_follow_the_golden_ones(constraint):
    gan, tx = recipe_gan(constraint), rmsprop(1e-4)
    graphdef, *state = nnx.split(gan, nnx.Param, nnx.BatchStat)
    params, batch_stats = map(nnx.to_pure_dict, state)
    updates = Updates(graphdef, gan.config, tx)
    critic_update, generator_update = jax.jit(updates.critic), jax.jit(updates.generator)
    opt_state = tx.init(params)
    name = constraint.replace("-", "_")
    for i, expected in enumerate(LOSSES[name]):
        real, noise, alpha = (jnp.asarray(VALUES[part][i]) for part in ("real", "noise", "alpha"))
        params, opt_state, metrics = critic_update(params, batch_stats, opt_state, real, noise[0], alpha)
        np.testing.assert_allclose(-metrics["wasserstein"], expected["wasserstein_critic"], rtol=1e-3, atol=1e-4)
        if "gradient_penalty" in expected:
            np.testing.assert_allclose(metrics["penalty"], expected["gradient_penalty"], rtol=1e-3)
        if "generator" in expected:
            params, opt_state, metrics = generator_update(params, batch_stats, opt_state, real, noise[1])
            np.testing.assert_allclose(metrics["generator_loss"], expected["generator"], rtol=1e-3)
    generate = jax.jit(lambda params, *given: nnx.merge(graphdef, params, batch_stats).generator(*given))
    real, noise = VALUES["real"][0], VALUES["noise"][0, 0]
    out = generate(params, jnp.asarray(real[:, 0]), jnp.asarray(real[:, -1]), jnp.asarray(noise))
    np.testing.assert_allclose(out, VALUES[f"{name}/final_generator_output"], atol=1e-3)


def test_video_completion_settles_the_rules_that_depend_on_it():
    config = WGANConfig(variant="video-completion")
    assert (config.constraint, config.show_true_ends) == ("weight-clipping", False)
    assert WGANConfig() == WGANConfig(variant="absolute", constraint="gradient-penalty", show_true_ends=True)


def test_video_completion_overwrites_the_ends_and_pulls_nothing():
    gan = MotionGAN(WGANConfig(hidden=4, noise=2, encoding=3, variant="video-completion"), 2, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    known = Keypoints(*(rng.uniform(-0.9, 0.9, shape).astype(np.float32) for shape in ((1, 2, 2, 2), (1, 2, 2, 2, 2))))
    keys = jax.random.split(jax.random.key(0), 1)
    drawn = gan.generate(known, np.array([0, 5]), 6, keys)
    ends = [gan.scaling.to_vectors(Keypoints(*(x[:, i] for x in known))) for i in (0, 1)]
    noise = jax.random.normal(keys[0], (6, 2))[None]
    raw = gan.scaling.to_keypoints(gan.generator(*ends, noise))
    for part, inner, end in zip(drawn, raw, known, strict=True):
        np.testing.assert_allclose(part[:, 1:-1], inner[:, 1:-1], atol=1e-6)
        np.testing.assert_array_equal(part[:, [0, -1]], end)
    assert np.abs(raw.position[:, [0, -1]] - known.position).max() > 0.1


@pytest.mark.parametrize("variant", ["absolute", "video-completion"])
def test_weights_are_clipped_before_or_after_the_update(variant):
    config = WGANConfig(hidden=4, noise=2, encoding=3, variant=variant, constraint="weight-clipping")
    graphdef, *state = nnx.split(MotionGAN(config, 2, rngs=nnx.Rngs(0)), nnx.Param, nnx.BatchStat)
    params, batch_stats = map(nnx.to_pure_dict, state)
    tx = rmsprop(1e-4)
    rng = np.random.default_rng(0)
    real, noise = (jnp.asarray(rng.standard_normal((3, 5, size)), jnp.float32) for size in (12, 2))
    update = jax.jit(Updates(graphdef, config, tx).critic)
    after, _, _ = update(params, batch_stats, tx.init(params), real, noise, None)
    before, after = (np.asarray(x["critic"]["gru"]["weight_ih_l0"]) for x in (params, after))
    # The first step of RMSprop moves every weight by ten times the learning rate, or less where a gradient is tiny.
    assert np.abs(before).max() > 0.1
    if variant == "absolute":
        assert np.abs(after).max() == np.float32(0.01)
    else:
        np.testing.assert_allclose(np.abs(after - np.clip(before, -0.01, 0.01)), 1e-3, rtol=0.05)
