"""Train the flow-matching motion model: `python -m experiments.train_flow --motion=motion.npz --workdir=RUN`.

A transformer learns to draw the keypoints between known frames; `experiments.complete --method=flow` uses it. Run the
same command again to resume an interrupted run.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro
from flax import nnx

from experiments.commands import run
from experiments.configs import SYNTHETIC_FLOW
from experiments.options import TrainOptions
from vidcomp_jax.motion.flow import FlowConfig, FlowMotion
from vidcomp_jax.motion.flow_training import flow_optimizer, flow_step
from vidcomp_jax.motion.loading import TrainedOn
from vidcomp_jax.motion.training import MotionData, MotionFiles
from vidcomp_jax.storage.config import ADDED_LATER, MAY_CHANGE
from vidcomp_jax.training.loop import fit


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainFlowConfig:
    """Train flow matching of keypoint motion."""

    preset: Literal["default", "synthetic"] = dataclasses.field(default="default", metadata=MAY_CHANGE | ADDED_LATER)
    """Settings to start from; `synthetic` suits the synthetic clips, and trains in minutes on two CPU cores."""
    files: Annotated[MotionFiles, tyro.conf.arg(name="")] = MotionFiles()
    """Motion files to train and validate on."""
    workdir: Path = dataclasses.field(default=Path("runs/flow"), metadata=MAY_CHANGE)
    """Folder of the run: config, checkpoints, logs, curves and panels."""
    train: Annotated[TrainOptions, tyro.conf.arg(name="")] = TrainOptions(
        num_steps=5000, batch_size=64, evaluate_every=1000, checkpoint_every=500
    )
    """How long to train, and what to report."""
    flow: FlowConfig = FlowConfig()
    """Sizes of the network, and settings of training and sampling."""
    trained_on: tyro.conf.Suppress[TrainedOn] = TrainedOn(method="flow")
    """Description of the training data; filled in by the command."""


def main(config: TrainFlowConfig) -> int:
    """Train, and return the exit code."""
    data = MotionData.open(config.files)
    trained_on = data.trained_on("flow")
    motion = FlowMotion(
        config.flow,
        trained_on.num_keypoints,
        num_frames=config.files.num_frames,
        limits=data.limits,
        statistics=data.statistics(),
        rngs=nnx.Rngs(config.train.seed),
    )
    tx = flow_optimizer(config.flow)
    result = fit(
        motion,
        tx=tx,
        step=flow_step(config.flow, tx),
        batches=data.batches(batch_size=config.train.batch_size, seed=config.train.seed),
        config=config.train,
        workdir=config.workdir,
        run_config=dataclasses.replace(config, trained_on=trained_on),
        **data.reports(config.workdir),
    )
    return result.exit_code


PRESETS = {
    "default": TrainFlowConfig(),
    "synthetic": TrainFlowConfig(
        preset="synthetic",
        train=TrainOptions(num_steps=1200, batch_size=64, evaluate_every=None, checkpoint_every=500),
        flow=SYNTHETIC_FLOW,
    ),
}

if __name__ == "__main__":
    run(main, TrainFlowConfig, PRESETS, "--preset")
