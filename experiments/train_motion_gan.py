"""Train the motion GAN: `python -m experiments.train_motion_gan --motion=motion.npz --workdir=RUN`.

A generator learns to move keypoints from a first to a last frame, given noise; `experiments.complete --method=wgan`
uses it. Run the same command again to resume an interrupted run.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro
from flax import nnx

from experiments.commands import run
from experiments.configs import SYNTHETIC_WGAN
from experiments.options import TrainOptions
from vidcomp_jax.motion.loading import TrainedOn
from vidcomp_jax.motion.training import MotionData, MotionFiles
from vidcomp_jax.motion.wgan import MotionGAN, WGANConfig
from vidcomp_jax.motion.wgan_training import rmsprop, training_step, windows_per_step
from vidcomp_jax.storage.config import ADDED_LATER, MAY_CHANGE
from vidcomp_jax.training.loop import fit


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainMotionGANConfig:
    """Train a Wasserstein GAN of keypoint motion."""

    preset: Literal["default", "synthetic"] = dataclasses.field(default="default", metadata=MAY_CHANGE | ADDED_LATER)
    """Settings to start from; `synthetic` suits the synthetic clips, and trains in minutes on two CPU cores."""
    files: Annotated[MotionFiles, tyro.conf.arg(name="")] = MotionFiles()
    """Motion files to train and validate on."""
    workdir: Path = dataclasses.field(default=Path("runs/motion_gan"), metadata=MAY_CHANGE)
    """Folder of the run: config, checkpoints, logs, curves and panels."""
    train: Annotated[TrainOptions, tyro.conf.arg(name="")] = TrainOptions(
        num_steps=5000, evaluate_every=500, checkpoint_every=500
    )
    """How long to train, and what to report; one step makes several updates, see --wgan.rounds-per-step."""
    wgan: WGANConfig = WGANConfig()
    """Sizes of the networks, and settings of the training."""
    trained_on: tyro.conf.Suppress[TrainedOn] = TrainedOn()
    """Description of the training data; filled in by the command."""


def main(config: TrainMotionGANConfig) -> int:
    """Train, and return the exit code."""
    data = MotionData.open(config.files)
    trained_on = data.trained_on("wgan")
    gan = MotionGAN(
        config.wgan,
        trained_on.num_keypoints,
        limits=data.limits,
        spread=data.statistics(config.wgan.order).spread[-1],
        rngs=nnx.Rngs(config.train.seed),
    )
    tx = rmsprop(config.wgan.learning_rate)
    result = fit(
        gan,
        tx=tx,
        step=training_step(config.wgan, tx),
        batches=data.batches(
            config.wgan.order,
            batch_size=config.train.batch_size,
            seed=config.train.seed,
            per_example=windows_per_step(config.wgan),
        ),
        config=config.train,
        workdir=config.workdir,
        run_config=dataclasses.replace(config, trained_on=trained_on),
        **data.reports(config.workdir),
    )
    return result.exit_code


PRESETS = {
    "default": TrainMotionGANConfig(),
    "synthetic": TrainMotionGANConfig(
        preset="synthetic",
        train=TrainOptions(num_steps=400, batch_size=32, evaluate_every=None, checkpoint_every=500),
        wgan=SYNTHETIC_WGAN,
    ),
}

if __name__ == "__main__":
    run(main, TrainMotionGANConfig, PRESETS, "--preset")
