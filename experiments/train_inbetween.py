"""Train 3D-convolution in-betweening: `python -m experiments.train_inbetween --dataset=kth --workdir=RUN`.

Trains on all visible devices, and writes checkpoints, logs and panels into the run's folder; the same command resumes
an interrupted run. Each evaluation compares the error on held-out clips with two baselines that need no training:
repeating the first frame, and cross-fading between both ends. `--clips=LIST.txt` trains on the videos of a list, and
`--inbetween.variant=video-completion` what the repository xih108/Video_Completion trains.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Annotated, Any, ClassVar

import jax
import tyro
from flax import nnx

from experiments.commands import run
from experiments.configs import EVERY_WINDOW
from experiments.options import DataOptions, TrainOptions, join_hosts
from experiments.resuming import windows_as_begun
from vidcomp_jax.data import Clips, KthConfig, as_stored, open_clips, prepare_frames, windows
from vidcomp_jax.data.clips import Channels
from vidcomp_jax.data.datasets import DataSet
from vidcomp_jax.devices import BatchShare
from vidcomp_jax.errors import require, require_at_least
from vidcomp_jax.inbetween.alternating import alternating_step
from vidcomp_jax.inbetween.generation import InbetweenModel, inbetween_errors, inbetween_panel
from vidcomp_jax.inbetween.losses import Inbetween, InbetweenLossConfig, objective, optimizer
from vidcomp_jax.inbetween.networks import InbetweenConfig
from vidcomp_jax.nn.precision import Precision, in_precision
from vidcomp_jax.storage.config import ADDED_LATER, MAY_CHANGE
from vidcomp_jax.training.loop import check_weights, fit
from vidcomp_jax.training.preparation import prepared, prepared_step
from vidcomp_jax.training.run_folder import check_workdir

STEPS = {"stochastic": 500_000, "video-completion": 30_000}
"""Numbers of steps for whole data sets, by variant."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class InbetweenTrainOptions(TrainOptions):
    """How long to train, and what to report; durations are in steps."""

    _fewest_steps: ClassVar[int] = 0

    num_steps: int = dataclasses.field(default=0, metadata=MAY_CHANGE)
    """Total number of steps, including those before a resume; 0 means 500,000, with the variant video-completion
    30,000."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainInbetweenConfig:
    """Train 3D-convolution in-betweening; run the same command again to resume an interrupted run."""

    dataset: str = "kth"
    """Configuration to start from: kth, bair, folder or synthetic."""
    workdir: Path = dataclasses.field(default=Path("runs/inbetween"), metadata=MAY_CHANGE)
    """Folder of the run: config, checkpoints, logs and panels."""
    coordinator: str = dataclasses.field(default="", metadata=MAY_CHANGE)
    """With several hosts: host:port of the first process; by default, detected from the cluster's environment."""
    num_processes: int = dataclasses.field(default=0, metadata=MAY_CHANGE)
    """With --coordinator: total number of processes."""
    process_id: int = dataclasses.field(default=-1, metadata=MAY_CHANGE)
    """With --coordinator: index of this process, from 0."""
    workers: int = dataclasses.field(default=0, metadata=MAY_CHANGE | ADDED_LATER)
    """Number of processes that read training data; 0 reads on threads of the process that trains, which is enough
    unless steps wait for data."""
    train: Annotated[InbetweenTrainOptions, tyro.conf.arg(name="")] = InbetweenTrainOptions()
    """How long to train, and what to report."""
    precision: Precision = dataclasses.field(default="float32", metadata=ADDED_LATER)
    """Compute in float32, or mostly in bfloat16, which is faster on GPUs and TPUs and takes less memory."""
    data: Annotated[DataOptions, tyro.conf.arg(name="")] = DataOptions()
    """Clips to train on, and what their frames look like."""
    inbetween: InbetweenConfig = InbetweenConfig()
    """Sizes of the networks."""
    loss: InbetweenLossConfig = InbetweenLossConfig()
    """Weights of the losses, and settings of the optimizer."""

    def __post_init__(self):
        require_at_least(self, workers=0)
        size, channels = self.data.size, self.data.num_channels
        require(self.inbetween.frame_size == size, self, "inbetween.frame_size", f"equal to `data.size`, {size}")
        same = self.inbetween.num_channels == channels
        require(same, self, "inbetween.num_channels", f"equal to `data.num_channels`, {channels}")


def synthetic(num_steps: int = 3000) -> TrainInbetweenConfig:
    """A small model of synthetic gray clips, without discriminators, which trains in minutes on two CPU cores."""
    return TrainInbetweenConfig(
        dataset="synthetic",
        data=DataOptions(name="synthetic", size=32),
        inbetween=InbetweenConfig(frame_size=32, width=16, num_stages=2, noise_size=16, discriminator_width=8),
        loss=InbetweenLossConfig(
            gradient_weight=0.1, adversarial_weight=0.0, learning_rate=3e-3, cosine_steps=num_steps
        ),
        train=InbetweenTrainOptions(
            num_steps=num_steps, batch_size=8, evaluate_every=500, panel_every=500, checkpoint_every=500
        ),
    )


def _whole(dataset: DataSet, num_channels: Channels) -> TrainInbetweenConfig:
    kth = EVERY_WINDOW if dataset == "kth" else KthConfig()
    return TrainInbetweenConfig(
        dataset=dataset,
        data=DataOptions(name=dataset, size=64, num_channels=num_channels, kth=kth),
        inbetween=InbetweenConfig(num_channels=num_channels),
        train=InbetweenTrainOptions(batch_size=32, log_every=100, panel_every=5000, evaluate_every=5000),
    )


CONFIGS = {"kth": _whole("kth", 1), "bair": _whole("bair", 3), "folder": _whole("folder", 3)}
CONFIGS["synthetic"] = synthetic()


def main(config: TrainInbetweenConfig) -> int:
    """Join the other hosts, if there are any, and train."""
    join_hosts(config.coordinator, config.num_processes, config.process_id)
    return train(config)


def train(config: TrainInbetweenConfig) -> int:
    """Train, and return the exit code, which is not 0 if a signal stopped the run."""
    check_workdir(config.workdir)
    config = windows_as_begun(config)
    if not config.train.num_steps:
        steps = STEPS[config.inbetween.variant]
        config = dataclasses.replace(config, train=dataclasses.replace(config.train, num_steps=steps))
    train_clips, test_clips = open_clips(as_stored(config.data), "train"), open_clips(config.data, "test")
    # XLA's own random generator: the default one is compiled for every shape, which takes half a minute here.
    rngs = nnx.Rngs(jax.random.key(config.train.seed, impl="rbg"))
    check_weights(lambda: Inbetween(config.inbetween, rngs=nnx.Rngs(0)))
    result = fit(
        in_precision(Inbetween(config.inbetween, rngs=rngs), config.precision),
        **_rule(config),
        batches=functools.partial(_batches, config, train_clips),
        config=config.train,
        workdir=config.workdir,
        run_config=config,
        panels=lambda model: inbetween_panel(InbetweenModel(model.generator, config.inbetween), test_clips),
        evaluate=lambda model: inbetween_errors(InbetweenModel(model.generator, config.inbetween), test_clips),
        best="l1",
    )
    return result.exit_code


def _rule(config: TrainInbetweenConfig) -> dict[str, Any]:
    """The optimizer and the objective or step, as arguments of `fit`."""

    def prepare(clips, keys):
        return prepare_frames(clips, size=config.data.size, num_channels=config.data.num_channels)

    if config.inbetween.as_in_video_completion and config.loss.adversarial_weight:
        tx, step = alternating_step(config.loss)
        return {"tx": tx, "step": prepared_step(step, prepare)}
    chosen = functools.partial(objective, config=config.loss)
    return {"tx": optimizer(config.loss), "objective": prepared(chosen, prepare)}


def _batches(config: TrainInbetweenConfig, clips: Clips, share: BatchShare):
    return windows(
        clips,
        num_frames=config.inbetween.num_frames,
        batch_size=config.train.batch_size,
        seed=config.train.seed,
        mirror=config.inbetween.as_in_video_completion,
        share=share,
        workers=config.workers,
    )


if __name__ == "__main__":
    run(main, TrainInbetweenConfig, CONFIGS)
