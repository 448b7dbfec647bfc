"""Train a next-frame model: `python -m experiments.train_autoregressive --motion=motion.npz --workdir=RUN`.

A GRU learns to predict the keypoints of the next frame from those of the frames before;
`experiments.complete --method=autoregressive` rolls it out from both ends. Run the same command again to resume an
interrupted run.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import optax
import tyro
from flax import nnx

from experiments.commands import run
from experiments.configs import SYNTHETIC_AUTOREGRESSIVE
from experiments.options import TrainOptions
from vidcomp_jax.motion.autoregressive import AutoregressiveConfig, AutoregressiveMotion, next_frame_objective
from vidcomp_jax.motion.loading import TrainedOn
from vidcomp_jax.motion.training import MotionData, MotionFiles
from vidcomp_jax.storage.config import ADDED_LATER, MAY_CHANGE
from vidcomp_jax.training.loop import fit


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainAutoregressiveConfig:
    """Train a next-frame model of keypoint motion."""

    preset: Literal["default", "synthetic"] = dataclasses.field(default="default", metadata=MAY_CHANGE | ADDED_LATER)
    """Settings to start from; `synthetic` suits the synthetic clips, and trains in minutes on two CPU cores."""
    files: Annotated[MotionFiles, tyro.conf.arg(name="")] = MotionFiles()
    """Motion files to train and validate on."""
    workdir: Path = dataclasses.field(default=Path("runs/autoregressive"), metadata=MAY_CHANGE)
    """Folder of the run: config, checkpoints, logs, curves and panels."""
    train: Annotated[TrainOptions, tyro.conf.arg(name="")] = TrainOptions(
        num_steps=5000, evaluate_every=500, checkpoint_every=500
    )
    """How long to train, and what to report."""
    autoregressive: AutoregressiveConfig = AutoregressiveConfig()
    """Sizes of the networks, and the learning rate."""
    trained_on: tyro.conf.Suppress[TrainedOn] = TrainedOn()
    """Description of the training data; filled in by the command."""


def main(config: TrainAutoregressiveConfig) -> int:
    """Train, and return the exit code."""
    data = MotionData.open(config.files)
    trained_on = data.trained_on("autoregressive")
    model, in_order = config.autoregressive, config.autoregressive.variant == "video-completion"
    limits = data.limits_per_entry if in_order else data.limits
    size: dict[str, int] = {"batch_size": config.train.batch_size, "seed": config.train.seed}
    motion = AutoregressiveMotion(
        model,
        trained_on.num_keypoints,
        limits=limits,
        spread=data.statistics(model.order).spread[-1],
        rngs=nnx.Rngs(config.train.seed),
    )
    result = fit(
        motion,
        tx=optax.adam(model.learning_rate),
        objective=next_frame_objective,
        batches=data.frames_in_order(model.order, limits, **size) if in_order else data.batches(model.order, **size),
        config=config.train,
        workdir=config.workdir,
        run_config=dataclasses.replace(config, trained_on=trained_on),
        **data.reports(config.workdir),
    )
    return result.exit_code


PRESETS = {
    "default": TrainAutoregressiveConfig(),
    "synthetic": TrainAutoregressiveConfig(
        preset="synthetic",
        train=TrainOptions(num_steps=1000, batch_size=8, evaluate_every=None, checkpoint_every=500),
        autoregressive=SYNTHETIC_AUTOREGRESSIVE,
    ),
}

if __name__ == "__main__":
    run(main, TrainAutoregressiveConfig, PRESETS, "--preset")
