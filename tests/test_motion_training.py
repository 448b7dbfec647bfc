"""Training of motion models: two devices equal one, resuming changes nothing, and curved motion is learned."""

import functools
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from experiments.train_autoregressive import TrainAutoregressiveConfig
from experiments.train_motion_gan import TrainMotionGANConfig
from vidcomp_jax.errors import InputError
from vidcomp_jax.motion.autoregressive import AutoregressiveConfig, AutoregressiveMotion, next_frame_objective
from vidcomp_jax.motion.evaluation import motion_errors
from vidcomp_jax.motion.motion_file import motion_windows
from vidcomp_jax.motion.synthetic import turning_bodies
from vidcomp_jax.motion.training import MotionFiles
from vidcomp_jax.motion.vectors import measure_limits, to_vectors
from vidcomp_jax.motion.wgan import MotionGAN, WGANConfig
from vidcomp_jax.motion.wgan_training import for_each_network, rmsprop, training_step, windows_per_step
from vidcomp_jax.storage.arrays import read_arrays
from vidcomp_jax.storage.config import claim_workdir, load_config
from vidcomp_jax.training.config import TrainConfig
from vidcomp_jax.training.loop import fit
from vidcomp_jax.training.step import gradient_step, init_state, map_over_devices

CPUS = jax.devices()


def windows_of(motion, num_frames, **options):
    vectors = np.asarray(to_vectors(motion, measure_limits(motion.jacobian)))
    count, length, size = vectors.shape
    starts = (np.arange(count)[:, None] * length + np.arange(length - num_frames + 1)).ravel()
    return functools.partial(motion_windows, vectors.reshape(-1, size), starts, num_frames=num_frames, **options)


def trained(model, tx, step, batches, num_steps, devices=CPUS[:1]):
    graphdef, constants, state = init_state(model, tx, devices)
    mapped, metrics = map_over_devices(graphdef, step, devices), []
    for _ in range(num_steps):
        batch = next(batches)
        batch = batch.reshape(len(devices), -1, *batch.shape[1:])
        state, values = mapped(state, constants, batch, jax.random.key(0))
        metrics.append({name: float(value) for name, value in values.items()})
    return nnx.merge(graphdef, state.params, state.batch_stats), metrics


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
    assert after["error_best"] < 0.9 * before["error_best"], (before, after)
    assert after["diversity"] > 1e-3
    assert metrics[0]["wasserstein"] < 0 < metrics[-1]["wasserstein"]  # the critic has learned to tell them apart
