"""Trains the motion models on curved synthetic motion and compares their samples with linear interpolation.

    python -m benchmarks.motion_quality

Rigid groups of keypoints turn by about half a circle while they cross the frame. In the set `turning`, side, speed and
direction vary between clips, so that the motion follows only from both end frames; in `alike`, each pose determines
the next. Output: a Markdown table of errors on held-out clips before, during and after training.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal

import jax
import numpy as np
import optax
import tyro
from flax import nnx

from vidcomp_jax.motion.autoregressive import AutoregressiveConfig, AutoregressiveMotion, next_frame_objective
from vidcomp_jax.motion.evaluation import motion_errors
from vidcomp_jax.motion.motion_file import motion_windows
from vidcomp_jax.motion.synthetic import turning_bodies
from vidcomp_jax.motion.vectors import measure_limits, to_vectors
from vidcomp_jax.motion.wgan import MotionGAN, WGANConfig
from vidcomp_jax.motion.wgan_training import rmsprop, training_step, windows_per_step
from vidcomp_jax.training.step import gradient_step, init_state, map_over_devices

Model = Literal["wgan", "autoregressive"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to train."""

    models: tuple[Model, ...] = ("wgan", "autoregressive")
    """Models to train."""
    motions: tuple[Literal["turning", "alike"], ...] = ("turning", "alike")
    """Data sets to train on."""
    keypoints: int = 5
    """Keypoints per body."""
    clips: int = 400
    """Clips to train on; 60 more are held out."""
    reports: int = 5
    """Evaluations per training run, besides the one before training."""
    wgan_steps: int = 1500
    """Training steps of the GAN, each of several updates."""
    autoregressive_steps: int = 3000
    """Training steps of the autoregressive model."""
    wgan: WGANConfig = WGANConfig(hidden=64, noise=10, learning_rate=5e-4)
    """Configuration of the GAN; smaller than the published one by default."""
    autoregressive: AutoregressiveConfig = AutoregressiveConfig(hidden=64, learning_rate=2e-3)
    """Configuration of the autoregressive model."""


def train(model: Model, motion: str, options: Options) -> Iterator[tuple[int, dict[str, float]]]:
    """Train a model; yield the number of completed steps with the errors and losses at that point."""
    train_set, held_out = (
        turning_bodies(count, num_keypoints=options.keypoints, alike=motion == "alike", seed=seed)
        for count, seed in ((options.clips, 1), (60, 2))
    )
    limits = measure_limits(train_set.jacobian)
    vectors = np.asarray(to_vectors(train_set, limits))
    clips, length, size = vectors.shape
    network: Any
    if model == "wgan":
        network = MotionGAN(options.wgan, options.keypoints, limits=limits, rngs=nnx.Rngs(0))
        tx = rmsprop(options.wgan.learning_rate)
        step, per_example = training_step(options.wgan, tx), windows_per_step(options.wgan)
        num_steps = options.wgan_steps
    else:
        network = AutoregressiveMotion(options.autoregressive, options.keypoints, limits=limits, rngs=nnx.Rngs(0))
        tx = optax.adam(options.autoregressive.learning_rate)
        step, per_example, num_steps = gradient_step(tx, next_frame_objective), 1, options.autoregressive_steps
    batches = motion_windows(
        vectors.reshape(-1, size),
        np.arange(clips) * length,
        num_frames=length,
        batch_size=8,
        per_example=per_example,
        seed=0,
    )
    devices = jax.devices()[:1]
    graphdef, constants, state = init_state(network, tx, devices)
    mapped = map_over_devices(graphdef, step, devices)
    yield 0, motion_errors(network, held_out)
    for number in range(1, num_steps + 1):
        state, losses = mapped(state, constants, next(batches)[None], jax.random.key(0))
        if number % max(num_steps // options.reports, 1) == 0:
            trained = nnx.merge(graphdef, state.params, state.batch_stats)
            losses = {name: float(value) for name, value in losses.items()}
            yield number, {**losses, **motion_errors(trained, held_out)}


def main() -> None:
    """Train all models and print the table."""
    options = tyro.cli(Options, description=__doc__)
    columns = ("error_linear", "error", "error_best", "velocity_linear", "velocity", "diversity", "wasserstein")
    print(f"| motion | model | step | {' | '.join(columns)} |\n|{'---|' * (3 + len(columns))}")
    for motion in options.motions:
        for model in options.models:
            for step, numbers in train(model, motion, options):
                cells = (f"{numbers[name]:.4f}" if name in numbers else "" for name in columns)
                print(f"| {motion} | {model} | {step} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
