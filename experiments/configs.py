"""Training configurations of the First Order Motion Model: the released ones, and a small one for CPUs.

A released configuration lasts a number of epochs; the number of steps follows from the videos that are there.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from experiments.optimizers import AdamConfig, OptimizerConfig
from experiments.options import DataOptions, TrainOptions
from experiments.schedule import ScheduleConfig
from vidcomp_jax.data import AugmentationConfig, FolderConfig, KthConfig, SyntheticConfig
from vidcomp_jax.errors import require, require_at_least
from vidcomp_jax.fomm.dense_motion import DenseMotionConfig
from vidcomp_jax.fomm.discriminator import DiscriminatorConfig
from vidcomp_jax.fomm.generator import GeneratorConfig
from vidcomp_jax.fomm.keypoints import KeypointDetectorConfig
from vidcomp_jax.fomm.losses import FOMMLossConfig
from vidcomp_jax.fomm.model import FOMMConfig
from vidcomp_jax.media.panels import PanelConfig
from vidcomp_jax.motion.autoregressive import AutoregressiveConfig
from vidcomp_jax.motion.flow import FlowConfig
from vidcomp_jax.motion.wgan import WGANConfig
from vidcomp_jax.nn.precision import Precision
from vidcomp_jax.storage.config import ADDED_LATER, MAY_CHANGE


@dataclasses.dataclass(frozen=True, kw_only=True)
class FOMMTrainOptions(TrainOptions):
    """How long to train, and what to report; durations in steps, 0 where they are given in epochs or not at all."""

    _fewest_steps: ClassVar[int] = 0

    num_steps: int = dataclasses.field(default=1000, metadata=MAY_CHANGE)
    """Total number of steps, including those before a resume; 0 means --num-epochs."""
    panel_every: int | None = dataclasses.field(default=1000, metadata=MAY_CHANGE)
    """Steps between image panels; 0 means --panel-epochs."""
    checkpoint_every: int | None = dataclasses.field(default=1000, metadata=MAY_CHANGE)
    """Steps between checkpoints; 0 means --checkpoint-epochs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainFOMMConfig:
    """Train the First Order Motion Model; run the same command again to resume an interrupted run."""

    dataset: str = dataclasses.field(default="kth", metadata=MAY_CHANGE)
    """Configuration to start from: kth, bair, vox, vox-adv, taichi, taichi-adv, fashion, mgif, nemo, folder or
    synthetic."""
    config: Path | None = dataclasses.field(default=None, metadata=MAY_CHANGE | ADDED_LATER)
    """YAML file of the published code to start from, in place of --dataset."""
    workdir: Path = dataclasses.field(default=Path("runs/fomm"), metadata=MAY_CHANGE)
    """Folder of the run: config, checkpoints, logs and panels."""
    init_from: Path | None = dataclasses.field(default=None, metadata=MAY_CHANGE)
    """Model folder or training run whose weights a new run starts from; ignored when a run is resumed. A discriminator
    of other sizes is not taken over."""
    perceptual_weights: Path | None = None
    """Converted VGG19 weights; without them, a multi-scale L1 and gradient difference loss replaces the perceptual
    loss."""
    coordinator: str = dataclasses.field(default="", metadata=MAY_CHANGE)
    """With several hosts: host:port of the first process; by default, detected from the cluster's environment."""
    num_processes: int = dataclasses.field(default=0, metadata=MAY_CHANGE)
    """With --coordinator: total number of processes."""
    process_id: int = dataclasses.field(default=-1, metadata=MAY_CHANGE)
    """With --coordinator: index of this process, from 0."""
    workers: int = dataclasses.field(default=0, metadata=MAY_CHANGE | ADDED_LATER)
    """Number of processes that read training data; 0 reads on threads of the process that trains, which is enough
    unless steps wait for data."""
    train: Annotated[FOMMTrainOptions, tyro.conf.arg(name="")] = FOMMTrainOptions()
    """How long to train, and what to report."""
    schedule: Annotated[ScheduleConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default=ScheduleConfig(), metadata=ADDED_LATER
    )
    """How long to train, in epochs."""
    precision: Precision = dataclasses.field(default="float32", metadata=ADDED_LATER)
    """Compute in float32, or mostly in bfloat16, which is faster on GPUs and TPUs and takes less memory."""
    remat: bool = dataclasses.field(default=False, metadata=MAY_CHANGE | ADDED_LATER)
    """Compute activations of the hourglasses and the generator again for the backward pass, instead of keeping them:
    less memory, more time."""
    data: Annotated[DataOptions, tyro.conf.arg(name="")] = DataOptions()
    """Clips to train on, and what their frames look like."""
    augmentation: AugmentationConfig = AugmentationConfig()
    """Random augmentation of the training pairs."""
    augmented_in_step: Annotated[bool, tyro.conf.Suppress] = dataclasses.field(
        default=False, metadata=MAY_CHANGE | ADDED_LATER
    )
    """Whether all pairs of the run were augmented in the training step; earlier versions did that while reading."""
    fomm: FOMMConfig = FOMMConfig()
    """Sizes of the networks."""
    loss: FOMMLossConfig = FOMMLossConfig()
    """Weights of the losses."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Learning rates of the networks."""
    panel: PanelConfig = dataclasses.field(default=PanelConfig(), metadata=MAY_CHANGE | ADDED_LATER)
    """What image panels show, and how."""

    def __post_init__(self):
        require_at_least(self, workers=0)
        channels = self.data.num_channels
        require(
            self.fomm.num_channels == channels, self, "fomm.num_channels", f"equal to `data.num_channels`, {channels}"
        )

    def in_steps(self, num_videos: int) -> "TrainFOMMConfig":
        """The same with all durations in steps, where a pass over the training data has so many examples."""
        require(self.train.num_steps or self.schedule.num_epochs, self, "train.num_steps", "at least 1")
        schedule = self.schedule.counted(num_videos, self.train.batch_size)
        optimizer = self.optimizer.with_milestones(schedule.milestones)
        return dataclasses.replace(self, schedule=schedule, train=schedule.in_steps(self.train), optimizer=optimizer)


EVERY_WINDOW = KthConfig(train_windows="every")
"""The settings of KTH to train with: windows start at every frame of a range."""
_EPOCHS = FOMMTrainOptions(
    num_steps=0, log_every=100, panel_every=None, checkpoint_every=None, evaluate_every=2000, batch_size=36
)
_FLIPS: dict[str, Any] = {"exclusive_flips": True, "equal_frames": True}
_NO_JITTER: dict[str, Any] = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
_RGB_256 = DataOptions(name="folder", size=256, num_channels=3)
_PEOPLE = dataclasses.replace(_RGB_256, folder=FolderConfig(id_sampling=True))
_SPECTRAL = FOMMConfig(discriminator=DiscriminatorConfig(spectral_norm=True))
_WITH_KEYPOINTS = FOMMConfig(discriminator=DiscriminatorConfig(use_keypoints=True))
_NO_GAN = FOMMLossConfig(generator_gan=0.0)
_PANEL = PanelConfig(keypoint_size=5.0, border=True, colormap="gist_rainbow", motions=True, equivariance=True)


def _preset(dataset: str, batch_size: int, repeats: int, epochs: int = 100, **changes) -> TrainFOMMConfig:
    """A released configuration; `changes` are those fields that most of them do not have."""
    schedule = {"epoch_milestones": (60, 90), "checkpoint_epochs": 50} | changes.pop("schedule", {})
    common: dict[str, Any] = {
        "data": _RGB_256,
        "augmentation": AugmentationConfig(**_FLIPS),
        "train": dataclasses.replace(_EPOCHS, batch_size=batch_size),
        "schedule": ScheduleConfig(num_epochs=epochs, num_repeats=repeats, panel_epochs=1, **schedule),
        "panel": _PANEL,
    }
    return TrainFOMMConfig(dataset=dataset, **common | changes)


def _released() -> dict[str, TrainFOMMConfig]:
    gray = FOMMConfig(
        num_channels=1, detector=KeypointDetectorConfig(scale=0.5), dense_motion=DenseMotionConfig(scale=0.5)
    )
    no_jitter = AugmentationConfig(**_FLIPS | _NO_JITTER)
    mgif = AugmentationConfig(**_FLIPS | _NO_JITTER | {"hue": 0.5, "resize": (0.9, 1.1), "crop": 256})
    one_jacobian = dataclasses.replace(_SPECTRAL, detector=KeypointDetectorConfig(single_jacobian=True))
    still = OptimizerConfig(detector=AdamConfig(learning_rate=0.0))
    adversarial: dict[str, Any] = {"fomm": _WITH_KEYPOINTS, "data": _PEOPLE, "schedule": {"epoch_milestones": ()}}
    presets = [
        _preset(
            *("kth", 50, 30),
            data=DataOptions(name="kth", size=128, num_channels=1, kth=EVERY_WINDOW),
            fomm=gray,
            loss=_NO_GAN,
            schedule={"checkpoint_epochs": 3},
        ),
        _preset(
            *("bair", 36, 1, 20),
            data=DataOptions(name="bair", size=256, num_channels=3),
            fomm=_SPECTRAL,
            schedule={"epoch_milestones": (12, 18), "checkpoint_epochs": 10},
        ),
        _preset("vox", 40, 75, data=_PEOPLE, fomm=_SPECTRAL, loss=_NO_GAN),
        _preset("vox-adv", 36, 75, 150, **adversarial),
        _preset("taichi", 30, 150, data=_PEOPLE, loss=_NO_GAN),
        _preset("taichi-adv", 27, 150, 150, optimizer=still, **adversarial),
        _preset("fashion", 27, 50, augmentation=dataclasses.replace(no_jitter, hue=0.1)),
        _preset("mgif", 36, 25, augmentation=mgif, fomm=one_jacobian, schedule={"checkpoint_epochs": 100}),
        _preset("nemo", 36, 8, augmentation=no_jitter, fomm=_SPECTRAL),
        _preset("folder", 20, 75, loss=_NO_GAN, augmentation=AugmentationConfig()),
    ]
    return {preset.dataset: preset for preset in presets}


def small_fomm(num_channels: int = 1, width: int = 16, num_keypoints: int = 16) -> FOMMConfig:
    """Small networks for 64-pixel clips, which estimate keypoints and motion at 32 pixels."""
    hourglass: dict[str, Any] = {"width": width, "max_width": 8 * width, "num_blocks": 4, "scale": 0.5}
    return FOMMConfig(
        num_channels=num_channels,
        num_keypoints=num_keypoints,
        detector=KeypointDetectorConfig(**hourglass),
        # Narrow heatmaps: the limbs of a 64-pixel figure are close to each other.
        dense_motion=DenseMotionConfig(heatmap_variance=0.004, **hourglass),
        # Only one downsampling block: after two, the arms of a 64-pixel figure are no longer resolved.
        generator=GeneratorConfig(
            width=width,
            max_width=8 * width,
            num_down_blocks=1,
            num_bottleneck_blocks=2,
            full_resolution_skip=True,
        ),
        discriminator=DiscriminatorConfig(width=width, max_width=8 * width, num_blocks=3),
    )


def synthetic(num_steps: int = 1200) -> TrainFOMMConfig:
    """A small model of synthetic gray 64-pixel clips, which trains in minutes on two CPU cores."""
    return TrainFOMMConfig(
        dataset="synthetic",
        data=DataOptions(name="synthetic", synthetic=SyntheticConfig(num_train=800)),
        augmentation=AugmentationConfig(**_NO_JITTER),
        fomm=small_fomm(),
        loss=FOMMLossConfig(scales=(1.0, 0.5, 0.25), generator_gan=0.0, feature_matching=(10.0, 10.0, 10.0)),
        optimizer=OptimizerConfig.same(learning_rate=6e-4, cosine_steps=num_steps),
        train=FOMMTrainOptions(
            num_steps=num_steps, batch_size=8, panel_every=500, evaluate_every=None, checkpoint_every=500
        ),
    )


SYNTHETIC_FLOW = FlowConfig(decay_steps=1200)
SYNTHETIC_WGAN = WGANConfig(hidden=64, learning_rate=5e-4, variant="offset", variety_weight=2.0)
SYNTHETIC_AUTOREGRESSIVE = AutoregressiveConfig(hidden=64, learning_rate=2e-3, variant="offset")
"""Motion models of synthetic clips, which train in minutes on two CPU cores: 1200, 400 and 1000 steps."""


CONFIGS: dict[str, TrainFOMMConfig] = _released() | {"synthetic": synthetic()}
"""Configurations by the name that `--dataset` of `experiments.train_fomm` takes."""

Preset = Annotated[str, tyro.conf.arg(help=f"Data settings to start from: {', '.join(CONFIGS)}.")]
"""The option `--dataset` of the commands that read a data set without training on it."""
