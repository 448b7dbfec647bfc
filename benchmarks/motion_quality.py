"""Trains the motion models and compares their samples with linear interpolation, on three kinds of motion.

    python -m benchmarks.motion_quality

In the sets `turning` and `alike`, rigid groups of keypoints turn by about half a circle while they cross the frame. In
`turning`, side, speed and direction vary between clips, so that the motion follows only from both end frames; in
`alike`, each pose determines the next. `demo` is the motion that a small First Order Motion Model finds in the
synthetic clips; the model is trained first, unless the folder `--demo-run` holds it. Output: a Markdown table of errors
on 60 held-out clips, and with `--json` a file with all numbers.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import optax
import tyro
from flax import nnx

from benchmarks.demo_motion import demo_motion
from experiments.configs import SYNTHETIC_AUTOREGRESSIVE, SYNTHETIC_FLOW, SYNTHETIC_WGAN
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.motion.autoregressive import AutoregressiveConfig, AutoregressiveMotion, next_frame_objective
from vidcomp_jax.motion.evaluation import motion_errors
from vidcomp_jax.motion.flow import FlowConfig, FlowMotion
from vidcomp_jax.motion.flow_training import flow_optimizer, flow_step
from vidcomp_jax.motion.linear import LinearMotion
from vidcomp_jax.motion.model import MotionModel
from vidcomp_jax.motion.motion_file import motion_windows
from vidcomp_jax.motion.synthetic import turning_bodies
from vidcomp_jax.motion.vectors import measure_limits, measure_statistics, to_vectors
from vidcomp_jax.motion.wgan import MotionGAN, WGANConfig
from vidcomp_jax.motion.wgan_training import rmsprop, training_step, windows_per_step
from vidcomp_jax.storage.atomic import new_file
from vidcomp_jax.training.step import gradient_step, init_state, map_over_devices

Model = Literal["linear", "flow", "wgan", "wgan-absolute", "autoregressive", "autoregressive-absolute"]
Motion = Literal["demo", "turning", "alike"]
COLUMNS = ("error", "error_best_3", "error_best_10", "energy_score", "apd", "velocity", "acceleration")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to train."""

    models: tuple[Model, ...] = (
        "linear",
        "flow",
        "wgan",
        "wgan-absolute",
        "autoregressive",
        "autoregressive-absolute",
    )
    """Models to compare; `-absolute` is the variant that generates motion vectors, as published."""
    motions: tuple[Motion, ...] = ("demo", "turning", "alike")
    """Data sets to train on."""
    demo_run: Path = Path("runs/motion_quality")
    """Folder for the keypoint model and the motion files of `demo`."""
    keypoints: int = 5
    """Keypoints per body of `turning` and `alike`."""
    clips: int = 400
    """Clips of `turning` and `alike` to train on; 60 more are held out."""
    seed: int = 0
    """Seed of the initial weights and of the batches."""
    flow_steps: int = 1200
    """Training steps of the flow-matching model, of 64 windows each."""
    wgan_steps: int = 400
    """Training steps of the GAN, of several updates with 32 windows each."""
    autoregressive_steps: int = 1000
    """Training steps of the next-frame model, of 8 windows each."""
    flow: FlowConfig = SYNTHETIC_FLOW
    """Configuration of the flow-matching model."""
    wgan: WGANConfig = SYNTHETIC_WGAN
    """Configuration of the GAN."""
    autoregressive: AutoregressiveConfig = SYNTHETIC_AUTOREGRESSIVE
    """Configuration of the next-frame model."""
    json: Path | None = None
    """File for all numbers, written after every row."""


def data(motion: Motion, options: Options) -> tuple[Keypoints, Keypoints]:
    """Return the training and the held-out clips of a data set, keypoints [n, t, k, ...]."""
    if motion == "demo":
        return demo_motion(options.demo_run)
    train, held_out = (
        turning_bodies(count, num_keypoints=options.keypoints, alike=motion == "alike", seed=seed)
        for count, seed in ((options.clips, 1), (60, 2))
    )
    return train, held_out


def train(model: Model, clips: Keypoints, options: Options) -> MotionModel:
    """Train a model on clips that are one window long."""
    if model == "linear":
        return LinearMotion()
    limits = measure_limits(clips.jacobian)
    vectors = np.asarray(to_vectors(clips, limits))
    count, length, size = vectors.shape
    vectors, starts = vectors.reshape(-1, size), np.arange(count) * length
    statistics = measure_statistics(vectors, starts, length)
    num_keypoints, rngs = size // 6, nnx.Rngs(options.seed)
    common: dict[str, Any] = {"limits": limits, "rngs": rngs}
    network: Any
    per_example = 1
    if model == "flow":
        network = FlowMotion(options.flow, num_keypoints, num_frames=length, statistics=statistics, **common)
        tx = flow_optimizer(options.flow)
        step, num_steps, batch_size = flow_step(options.flow, tx), options.flow_steps, 64
    elif model in ("wgan", "wgan-absolute"):
        gan = options.wgan
        if model == "wgan-absolute":
            gan = dataclasses.replace(gan, variant="absolute", variety_weight=0.0)
        network = MotionGAN(gan, num_keypoints, spread=statistics.spread[-1], **common)
        tx = rmsprop(gan.learning_rate)
        step, num_steps, batch_size = training_step(gan, tx), options.wgan_steps, 32
        per_example = windows_per_step(gan)
    else:
        config = options.autoregressive
        if model == "autoregressive-absolute":
            config = dataclasses.replace(config, variant="absolute")
        network = AutoregressiveMotion(config, num_keypoints, spread=statistics.spread[-1], **common)
        tx = optax.adam(config.learning_rate)
        step, num_steps, batch_size = gradient_step(tx, next_frame_objective), options.autoregressive_steps, 8
    batches = motion_windows(
        vectors, starts, num_frames=length, batch_size=batch_size, per_example=per_example, seed=options.seed
    )
    devices = jax.devices()[:1]
    graphdef, constants, state = init_state(network, tx, devices)
    mapped = map_over_devices(graphdef, step, devices)
    for _ in range(num_steps):
        state, _ = mapped(state, constants, next(batches)[None], jax.random.key(options.seed))
    trained = nnx.merge(graphdef, state.params, state.batch_stats, constants)
    trained.eval()
    return trained


def main() -> None:
    """Train all models and print the table."""
    options = tyro.cli(Options, description=__doc__)
    print(f"| motion | model | {' | '.join(COLUMNS)} |\n|{'---|' * (2 + len(COLUMNS))}")
    numbers: dict[str, dict[str, dict[str, float]]] = {}
    for motion in options.motions:
        clips, held_out = data(motion, options)
        for model in options.models:
            errors = motion_errors(train(model, clips, options), held_out, num_samples=50)
            cells = (f"{errors[name]:.4f}" if name in errors else "" for name in COLUMNS)
            print(f"| {motion} | {model} | {' | '.join(cells)} |", flush=True)
            numbers.setdefault(motion, {})[model] = errors
            if options.json is not None:
                with new_file(options.json) as temporary:
                    temporary.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
