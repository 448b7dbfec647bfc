"""Training of motion models: two devices equal one, resuming changes nothing, and curved motion is learned."""

import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from experiments.train_autoregressive import TrainAutoregressiveConfig
from experiments.train_motion_gan import TrainMotionGANConfig
from tests.support.motion import CPUS, statistics_of, straight_lines, trained, windows_of
from vidcomp_jax.errors import InputError
from vidcomp_jax.motion.autoregressive import AutoregressiveConfig, AutoregressiveMotion, next_frame_objective
from vidcomp_jax.motion.evaluation import draw_samples, motion_errors
from vidcomp_jax.motion.synthetic import turning_bodies
from vidcomp_jax.motion.training import MotionFiles
from vidcomp_jax.motion.vectors import measure_limits
from vidcomp_jax.motion.wgan import MotionGAN, WGANConfig
from vidcomp_jax.motion.wgan_training import Updates, for_each_network, rmsprop, training_step, windows_per_step
from vidcomp_jax.storage.arrays import read_arrays
from vidcomp_jax.storage.config import claim_workdir, load_config
from vidcomp_jax.training.config import TrainConfig
from vidcomp_jax.training.loop import fit
from vidcomp_jax.training.step import gradient_step


@pytest.mark.parametrize("constraint", ["gradient-penalty", "weight-clipping"])
def test_two_devices_are_one(constraint):
    config = WGANConfig(
        hidden=8, noise=4, encoding=4, num_critic_updates=2, rounds_per_step=2, constraint=constraint, clip=0.05
    )
    tx = for_each_network(optax.sgd(1e-3))  # RMSprop would magnify rounding errors where gradients are almost zero
    motion = turning_bodies(8, 6, 2)
    results = []
    for devices in (CPUS[:1], CPUS[:2]):
        batches = windows_of(motion, 5, batch_size=4, per_example=windows_per_step(config), seed=0)()
        gan = MotionGAN(config, 2, rngs=nnx.Rngs(0))
        gan, metrics = trained(gan, tx, training_step(config, tx), batches, 2, devices)
        results.append((jax.tree.leaves(nnx.state(gan)), metrics))
    for a, b in zip(*(leaves for leaves, _ in results), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    for a, b in zip(*(metrics for _, metrics in results), strict=True):
        assert a == pytest.approx(b, abs=1e-5)
    critic = nnx.state(nnx.merge(*nnx.split(gan)).critic, nnx.Param)
    largest = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(critic))
    assert (largest <= 0.05 + 1e-6) == (constraint == "weight-clipping")


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    config = WGANConfig(hidden=8, noise=4, encoding=4, num_critic_updates=1, rounds_per_step=1)
    tx, windows = rmsprop(1e-3), windows_of(turning_bodies(8, 6, 2), 5)

    def batches(share):
        return windows(batch_size=4, per_example=windows_per_step(config), seed=0, share=share)

    def run(name, num_steps):
        train = TrainConfig(num_steps=num_steps, batch_size=4, log_every=2)
        gan = MotionGAN(config, 2, limits=measure_limits(np.eye(2, dtype=np.float32)[None, None]), rngs=nnx.Rngs(0))
        step = training_step(config, tx)
        fit(gan, tx=tx, step=step, batches=batches, config=train, workdir=tmp_path / name, devices=CPUS[:2])

    run("whole", 4)
    run("parts", 2)
    run("parts", 4)
    whole, parts = (read_arrays(tmp_path / name / "checkpoints" / "4" / "arrays") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert "batch_stats.scaling.upper" in whole
    for name in whole:
        np.testing.assert_array_equal(whole[name], parts[name], err_msg=name)


def test_a_run_goes_on_with_files_that_were_moved(tmp_path):
    there = MotionFiles(motion=Path("a.npz"), validation=Path("b.npz"))
    moved = MotionFiles(motion=Path("c/a.npz"), fomm=Path("fomm"))
    for kind in (TrainMotionGANConfig, TrainAutoregressiveConfig):
        workdir = tmp_path / kind.__name__
        claim_workdir(workdir, kind(files=there))
        claim_workdir(workdir, kind(files=moved))
        assert load_config(workdir / "config.json", MotionFiles, part="files") == moved
        with pytest.raises(InputError, match=r"files.num_frames is 16 there, 8 now"):
            claim_workdir(workdir, kind(files=MotionFiles(num_frames=8)))


def test_next_frame_model_beats_a_straight_line_where_poses_tell_the_next():
    motion = turning_bodies(100, num_keypoints=3, alike=True, seed=1)
    held_out = turning_bodies(40, num_keypoints=3, alike=True, seed=2)
    config = AutoregressiveConfig(hidden=32, learning_rate=3e-3)
    model = AutoregressiveMotion(config, 3, limits=measure_limits(motion.jacobian), rngs=nnx.Rngs(0))
    tx = optax.adam(config.learning_rate)
    model, _ = trained(
        model, tx, gradient_step(tx, next_frame_objective), windows_of(motion, 16, batch_size=16, seed=0)(), 400
    )
    errors = motion_errors(model, held_out)
    assert errors["error"] < 0.6 * errors["error_linear"], errors
    assert errors["diversity"] < 1e-6


def test_gan_approaches_the_data():
    """Tests the first updates; `benchmarks.motion_quality` trains long enough to beat linear interpolation."""
    motion, held_out = (turning_bodies(100, num_keypoints=3, seed=seed) for seed in (1, 2))
    config = WGANConfig(hidden=64, noise=8, learning_rate=1e-3)
    gan = MotionGAN(config, 3, limits=measure_limits(motion.jacobian), rngs=nnx.Rngs(0))
    before, tx = motion_errors(gan, held_out), rmsprop(config.learning_rate)
    batches = windows_of(motion, 16, batch_size=8, per_example=windows_per_step(config), seed=0)()
    gan, metrics = trained(gan, tx, training_step(config, tx), batches, 25)
    after = motion_errors(gan, held_out)
    assert after["velocity"] < 0.5 * before["velocity"], (before, after)
    assert after["error_best_3"] < 0.9 * before["error_best_3"], (before, after)
    assert after["diversity"] > 1e-3
    assert metrics[0]["wasserstein"] < 0 < metrics[-1]["wasserstein"]  # the critic has learned to tell them apart


@pytest.mark.parametrize("variant", ["wgan", "autoregressive"])
def test_offsets_keep_straight_motion_straight(variant):
    lines, held_out = straight_lines(64), straight_lines(8, seed=1)
    options = {"limits": measure_limits(lines.jacobian), "spread": statistics_of(lines).spread[-1], "rngs": nnx.Rngs(0)}
    if variant == "wgan":
        config = WGANConfig(hidden=8, noise=4, encoding=4, variant="offset", variety_weight=1.0, rounds_per_step=1)
        tx, per_example = rmsprop(1e-3), windows_per_step(config)
        model, step = MotionGAN(config, 2, **options), training_step(config, tx)
    else:
        following = AutoregressiveConfig(hidden=8, variant="offset")
        tx, per_example = optax.adam(1e-3), 1
        model, step = AutoregressiveMotion(following, 2, **options), gradient_step(tx, next_frame_objective)
    batches = windows_of(lines, 8, batch_size=8, per_example=per_example, seed=0)()
    model, _ = trained(model, tx, step, batches, 5)
    found = draw_samples(model, held_out)[:, 0]
    np.testing.assert_allclose(found, held_out.position, atol=1e-3)
    np.testing.assert_array_equal(found[:, [0, -1]], held_out.position[:, [0, -1]])


def test_a_next_offset_model_learns_what_both_ends_tell():
    """The turning bodies' side and speed follow from both ends alone, so that the published model cannot learn them."""
    motion, held_out = (turning_bodies(100, num_keypoints=3, seed=seed) for seed in (1, 2))
    config = AutoregressiveConfig(hidden=32, learning_rate=3e-3, variant="offset")
    options = {"limits": measure_limits(motion.jacobian), "spread": statistics_of(motion).spread[-1]}
    model, tx = AutoregressiveMotion(config, 3, **options, rngs=nnx.Rngs(0)), optax.adam(config.learning_rate)
    batches = windows_of(motion, 16, batch_size=16, seed=0)()
    model, metrics = trained(model, tx, gradient_step(tx, next_frame_objective), batches, 300)
    errors = motion_errors(model, held_out)
    assert errors["error"] < 0.5 * errors["error_linear"], errors
    assert metrics[-1]["next_frame_mse"] < 0.2 * metrics[0]["next_frame_mse"]


def test_the_variety_loss_is_the_error_of_the_best_sample():
    motion = turning_bodies(4, 6, 2)
    options = {"limits": measure_limits(motion.jacobian), "spread": statistics_of(motion).spread[-1]}
    config = WGANConfig(
        hidden=4, noise=2, encoding=2, variant="offset", variety_weight=3.0, variety_samples=2, rounds_per_step=1
    )
    gan, tx = MotionGAN(config, 2, **options, rngs=nnx.Rngs(0)), for_each_network(optax.sgd(0.0))
    graphdef, params, stats = nnx.split(gan, nnx.Param, nnx.BatchStat)
    params, stats = map(nnx.to_pure_dict, (params, stats))
    real = jnp.asarray(next(windows_of(motion, 6, batch_size=4, seed=0)())[:, 0])
    noise = jax.random.normal(jax.random.key(0), (4, 2, 6, 2))
    _, _, metrics = jax.jit(Updates(graphdef, config, tx).generator)(params, stats, tx.init(params), real, noise)

    @jax.jit
    def one(params, stats, real, noise):
        gan = nnx.merge(graphdef, params, stats)
        fake = gan.draw(real[None, 0], real[None, -1], noise[None])
        return fake[0], gan.critic(gan.seen_by_critic(fake)).mean()

    errors = np.zeros((4, 2))
    scores = []
    for clip, sample in itertools.product(range(4), range(2)):
        fake, score = one(params, stats, real[clip], noise[clip, sample])
        errors[clip, sample] = np.square((fake - real[clip]) / gan.spread[...]).mean()
        scores.append(float(score))
    assert float(metrics["variety"]) == pytest.approx(errors.min(1).mean(), rel=1e-4)
    assert float(metrics["generator_loss"]) == pytest.approx(3 * errors.min(1).mean() - np.mean(scores), rel=1e-3)
    with pytest.raises(InputError, match=r"`variety_weight` is 1\.0; it must be 0, unless `variant` is offset"):
        WGANConfig(variety_weight=1.0)
