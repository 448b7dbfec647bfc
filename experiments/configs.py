"""Training configurations of the First Order Motion Model: the released ones, and a small one for CPUs.

The number of steps of a released configuration is epochs x repeats x training videos / batch size, with the sizes of
the published data sets: KTH 383 videos, BAIR 43,264, VoxCeleb 1,200 people, TaiChi 252 videos, Fashion 500, MGif 900,
Nemo 744.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import optax
import tyro

from experiments.options import DataOptions, TrainOptions
from vidcomp_jax.data import AugmentationConfig, FolderConfig, SyntheticConfig
from vidcomp_jax.errors import require, require_at_least, require_positive
from vidcomp_jax.fomm.dense_motion import DenseMotionConfig
from vidcomp_jax.fomm.discriminator import DiscriminatorConfig
from vidcomp_jax.fomm.generator import GeneratorConfig
from vidcomp_jax.fomm.keypoints import KeypointDetectorConfig
from vidcomp_jax.fomm.losses import FOMMLossConfig
from vidcomp_jax.fomm.model import FOMMConfig
from vidcomp_jax.motion.autoregressive import AutoregressiveConfig
from vidcomp_jax.motion.flow import FlowConfig
from vidcomp_jax.motion.wgan import WGANConfig
from vidcomp_jax.storage.config import MAY_CHANGE


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamConfig:
    """Adam for one network."""

    learning_rate: float = 2e-4
    """Learning rate before the first milestone."""
    milestones: tuple[int, ...] = ()
    """Steps after which the learning rate is divided by ten."""
    cosine_steps: int = 0
    """If not 0, number of steps over which the learning rate decays to a hundredth along a cosine; excludes
    milestones."""

    def __post_init__(self):
        require_positive(self, "learning_rate")
        require_at_least(self, cosine_steps=0)
        if self.cosine_steps:
            require(not self.milestones, self, "milestones", "empty where `cosine_steps` is given")

    def build(self) -> optax.GradientTransformation:
        """The optimizer, with the betas of the released training code."""
        if self.cosine_steps:
            schedule = optax.cosine_decay_schedule(self.learning_rate, self.cosine_steps, alpha=0.01)
        else:
            schedule = optax.piecewise_constant_schedule(self.learning_rate, dict.fromkeys(self.milestones, 0.1))
        return optax.adam(schedule, b1=0.5, b2=0.999, eps=1e-8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimizer of each network; dense motion shares that of the generator."""

    generator: AdamConfig = AdamConfig()
    """Generator and dense motion."""
    detector: AdamConfig = AdamConfig()
    """Keypoint detector."""
    discriminator: AdamConfig = AdamConfig()
    """Discriminator."""

    @staticmethod
    def same(**options) -> "OptimizerConfig":
        """The same options for all three."""
        adam = AdamConfig(**options)
        return OptimizerConfig(generator=adam, detector=adam, discriminator=adam)

    def build(self) -> optax.GradientTransformation:
        """The optimizer of `TrainingNetworks`."""
        networks = {name: getattr(self, name).build() for name in ("generator", "detector", "discriminator")}
        owners = {"dense_motion": "generator"}
        return optax.multi_transform(
            networks, lambda params: {"model": {part: owners.get(part, part) for part in params["model"]}}
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainFOMMConfig:
    """Train the First Order Motion Model; run the same command again to resume an interrupted run."""

    dataset: str = "kth"
    """Configuration to start from: kth, bair, vox, taichi, fashion, mgif, nemo, folder or synthetic."""
    workdir: Path = dataclasses.field(default=Path("runs/fomm"), metadata=MAY_CHANGE)
    """Folder of the run: config, checkpoints, logs and panels."""
    init_from: Path | None = dataclasses.field(default=None, metadata=MAY_CHANGE)
    """Model folder or training run whose weights a new run starts from; ignored when a run is resumed."""
    perceptual_weights: Path | None = None
    """Converted VGG19 weights; without them, a multi-scale L1 and gradient difference loss replaces the perceptual
    loss."""
    coordinator: str = dataclasses.field(default="", metadata=MAY_CHANGE)
    """With several hosts: host:port of the first process; by default, detected from the cluster's environment."""
    num_processes: int = dataclasses.field(default=0, metadata=MAY_CHANGE)
    """With --coordinator: total number of processes."""
    process_id: int = dataclasses.field(default=-1, metadata=MAY_CHANGE)
    """With --coordinator: index of this process, from 0."""
    train: Annotated[TrainOptions, tyro.conf.arg(name="")] = TrainOptions()
    """How long to train, and what to report."""
    data: Annotated[DataOptions, tyro.conf.arg(name="")] = DataOptions()
    """Clips to train on, and what their frames look like."""
    augmentation: AugmentationConfig = AugmentationConfig()
    """Random augmentation of the training pairs."""
    fomm: FOMMConfig = FOMMConfig()
    """Sizes of the networks."""
    loss: FOMMLossConfig = FOMMLossConfig()
    """Weights of the losses."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Learning rates of the networks."""

    def __post_init__(self):
        channels = self.data.num_channels
        require(
            self.fomm.num_channels == channels, self, "fomm.num_channels", f"equal to `data.num_channels`, {channels}"
        )


def _schedule(epochs_times_videos: int, batch_size: int, milestones: tuple[float, float] = (0.6, 0.9)):
    """Steps, batch size and milestones of a released configuration."""
    steps = epochs_times_videos // batch_size
    train = TrainOptions(num_steps=steps, batch_size=batch_size, log_every=100, panel_every=2000, evaluate_every=2000)
    return {
        "train": train,
        "optimizer": OptimizerConfig.same(milestones=tuple(round(m * steps) for m in milestones)),
    }


_PLAIN: dict[str, Any] = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
_RGB_256 = DataOptions(name="folder", size=256, num_channels=3)
_SPECTRAL = FOMMConfig(discriminator=DiscriminatorConfig(spectral_norm=True))
_PEOPLE = dataclasses.replace(_RGB_256, folder=FolderConfig(id_sampling=True))


def _released() -> dict[str, TrainFOMMConfig]:
    no_gan, half = FOMMLossConfig(generator_gan=0.0), 0.5
    return {
        "kth": TrainFOMMConfig(
            dataset="kth",
            data=DataOptions(name="kth", size=128, num_channels=1),
            fomm=FOMMConfig(
                num_channels=1,
                detector=KeypointDetectorConfig(scale=half),
                dense_motion=DenseMotionConfig(scale=half),
            ),
            loss=no_gan,
            **_schedule(100 * 30 * 383, 50),
        ),
        "bair": TrainFOMMConfig(
            dataset="bair",
            data=DataOptions(name="bair", size=256, num_channels=3),
            fomm=_SPECTRAL,
            **_schedule(20 * 43264, 36),
        ),
        "vox": TrainFOMMConfig(
            dataset="vox", data=_PEOPLE, fomm=_SPECTRAL, loss=no_gan, **_schedule(100 * 75 * 1200, 40)
        ),
        "taichi": TrainFOMMConfig(dataset="taichi", data=_PEOPLE, loss=no_gan, **_schedule(100 * 150 * 252, 30)),
        "fashion": TrainFOMMConfig(
            dataset="fashion",
            data=_RGB_256,
            augmentation=AugmentationConfig(**_PLAIN | {"hue": 0.1}),
            **_schedule(100 * 50 * 500, 27),
        ),
        "mgif": TrainFOMMConfig(
            dataset="mgif",
            data=_RGB_256,
            augmentation=AugmentationConfig(**_PLAIN | {"hue": 0.5}),
            fomm=dataclasses.replace(_SPECTRAL, detector=KeypointDetectorConfig(single_jacobian=True)),
            **_schedule(100 * 25 * 900, 36),
        ),
        "nemo": TrainFOMMConfig(
            dataset="nemo",
            data=_RGB_256,
            augmentation=AugmentationConfig(**_PLAIN),
            fomm=_SPECTRAL,
            **_schedule(100 * 8 * 744, 36),
        ),
        "folder": TrainFOMMConfig(dataset="folder", data=_RGB_256, loss=no_gan, **_schedule(100 * 75 * 500, 20)),
    }


def small_fomm(num_channels: int = 1, width: int = 16, num_keypoints: int = 8) -> FOMMConfig:
    """Small networks for 64-pixel clips, which estimate keypoints and motion at 32 pixels."""
    hourglass: dict[str, Any] = {"width": width, "max_width": 8 * width, "num_blocks": 4, "scale": 0.5}
    return FOMMConfig(
        num_channels=num_channels,
        num_keypoints=num_keypoints,
        detector=KeypointDetectorConfig(**hourglass),
        dense_motion=DenseMotionConfig(**hourglass),
        # Only one downsampling block: after two, the arms of a 64-pixel figure are no longer resolved.
        generator=GeneratorConfig(width=width, max_width=8 * width, num_down_blocks=1, num_bottleneck_blocks=2),
        discriminator=DiscriminatorConfig(width=width, max_width=8 * width, num_blocks=3),
    )


def synthetic(num_steps: int = 1200) -> TrainFOMMConfig:
    """A small model of synthetic gray 64-pixel clips, which trains in minutes on two CPU cores."""
    return TrainFOMMConfig(
        dataset="synthetic",
        data=DataOptions(name="synthetic", synthetic=SyntheticConfig()),
        augmentation=AugmentationConfig(**_PLAIN),
        fomm=small_fomm(),
        loss=FOMMLossConfig(scales=(1.0, 0.5, 0.25), generator_gan=0.0, feature_matching=(10.0, 10.0, 10.0)),
        optimizer=OptimizerConfig.same(learning_rate=6e-4, cosine_steps=num_steps),
        train=TrainOptions(
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
