"""Settings of the demo: what each of its stages trains, for how long, and where it is kept.

They were chosen by measurement; `benchmarks/README.md` has what was tried.
"""

import dataclasses
from pathlib import Path
from typing import Literal, NamedTuple

import jax

from experiments.configs import TrainFOMMConfig, synthetic
from experiments.evaluate import EvaluateConfig
from experiments.extract_motion import ExtractMotionConfig
from experiments.options import DataOptions
from experiments.train_autoregressive import PRESETS as AUTOREGRESSIVE
from experiments.train_autoregressive import TrainAutoregressiveConfig
from experiments.train_flow import PRESETS as FLOW
from experiments.train_flow import TrainFlowConfig
from experiments.train_inbetween import InbetweenTrainOptions, TrainInbetweenConfig
from experiments.train_motion_gan import PRESETS as WGAN
from experiments.train_motion_gan import TrainMotionGANConfig
from vidcomp_jax.data import KthConfig
from vidcomp_jax.errors import require, require_positive
from vidcomp_jax.inbetween.losses import InbetweenLossConfig
from vidcomp_jax.inbetween.networks import InbetweenConfig
from vidcomp_jax.motion.training import MotionFiles
from vidcomp_jax.storage.config import MAY_CHANGE


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Train every method on small clips, complete held-out clips with all of them, and write a report."""

    dataset: Literal["synthetic", "kth"] = "synthetic"
    """Clips to train on: synthetic ones, which are drawn on the spot, or the videos of KTH."""
    data_dir: Path | None = dataclasses.field(default=None, metadata=MAY_CHANGE)
    """Folder of the videos of KTH."""
    full: bool = False
    """Train three times as long; this makes the picture and the numbers of the README."""
    fraction: float = 1.0
    """Part of the training steps to take, and of the synthetic clips to draw; below 1 for a quick look."""
    output: Path | None = dataclasses.field(default=None, metadata=MAY_CHANGE)
    """Folder of the results; by default `demo`, or a name with the data set and `full` in it, such as demo-kth-full."""

    def __post_init__(self):
        require_positive(self, "fraction")
        require(self.fraction <= 1, self, "fraction", "at most 1")
        files = self.dataset != "synthetic"
        wanted = "a folder with the videos" if files else "left out: synthetic clips need no files"
        require((self.data_dir is not None) == files, self, "data_dir", wanted)

    @property
    def folder(self) -> Path:
        """The folder of the results."""
        parts = ["demo", *([] if self.dataset == "synthetic" else [self.dataset]), *(["full"] if self.full else [])]
        return self.output or Path("-".join(parts))


class Steps(NamedTuple):
    """Training steps of every stage."""

    fomm: int
    flow: int
    wgan: int
    autoregressive: int
    inbetween: int


SHORT = Steps(fomm=1200, flow=1000, wgan=200, autoregressive=1000, inbetween=800)
FULL = Steps(fomm=4000, flow=3000, wgan=600, autoregressive=2000, inbetween=3000)


class Plan(NamedTuple):
    """The settings of all stages."""

    fomm: TrainFOMMConfig
    motion: tuple[ExtractMotionConfig, ExtractMotionConfig]
    flow: TrainFlowConfig
    wgan: TrainMotionGANConfig
    autoregressive: TrainAutoregressiveConfig
    inbetween: TrainInbetweenConfig
    evaluate: EvaluateConfig


def plan(config: DemoConfig) -> Plan:
    """The settings of all stages; batches are rounded up to a multiple of the number of devices."""
    full = FULL if config.full else SHORT

    def part(count: int, at_least: int = 1) -> int:
        return max(round(config.fraction * count), at_least)

    steps = Steps(*map(part, full))
    folder, preset = config.folder, synthetic(steps.fomm)
    clips = preset.data.synthetic
    clips = dataclasses.replace(clips, num_train=part(clips.num_train, 8), num_test=part(clips.num_test, 8))
    data = dataclasses.replace(preset.data, synthetic=clips)
    if config.dataset != "synthetic":
        data = dataclasses.replace(data, name=config.dataset, data_dir=config.data_dir)
    # A few videos give enough motion to learn from only if windows start at any of their frames.
    to_train = dataclasses.replace(data, kth=KthConfig(cut=False)) if config.dataset == "kth" else data
    quiet = {"panel_every": None, "evaluate_every": None, "checkpoint_every": 250}

    def train(options, count: int):
        """The options of a stage, with its number of steps."""
        devices = jax.device_count()
        batch_size = -(-options.batch_size // devices) * devices
        return dataclasses.replace(options, num_steps=count, batch_size=batch_size, **quiet)

    runs = {name: folder / name for name in ("fomm", "flow", "wgan", "autoregressive", "inbetween")}
    train_motion, test_motion = (folder / f"motion-{split}.npz" for split in ("train", "test"))
    files = MotionFiles(motion=train_motion, validation=test_motion, fomm=runs["fomm"])
    extract = ExtractMotionConfig(fomm=runs["fomm"], dataset=config.dataset, data=data)
    flow, wgan, autoregressive = FLOW["synthetic"], WGAN["synthetic"], AUTOREGRESSIVE["synthetic"]
    return Plan(
        fomm=dataclasses.replace(
            preset,
            dataset=config.dataset,
            data=to_train,
            workdir=runs["fomm"],
            train=train(preset.train, steps.fomm),
        ),
        motion=(
            dataclasses.replace(extract, data=to_train, split="train", output=train_motion),
            dataclasses.replace(extract, split="test", output=test_motion),
        ),
        flow=dataclasses.replace(
            flow,
            files=files,
            workdir=runs["flow"],
            train=train(flow.train, steps.flow),
            flow=dataclasses.replace(
                flow.flow, decay_steps=steps.flow, warmup_steps=min(flow.flow.warmup_steps, steps.flow // 4)
            ),
        ),
        wgan=dataclasses.replace(wgan, files=files, workdir=runs["wgan"], train=train(wgan.train, steps.wgan)),
        autoregressive=dataclasses.replace(
            autoregressive,
            files=files,
            workdir=runs["autoregressive"],
            train=train(autoregressive.train, steps.autoregressive),
        ),
        inbetween=_inbetween(to_train, runs["inbetween"], train(InbetweenTrainOptions(batch_size=4), steps.inbetween)),
        evaluate=EvaluateConfig(
            method=("repeat", "blend", "linear", "flow", "wgan", "autoregressive", "inbetween"),
            fomm=runs["fomm"],
            motion_model=(runs["flow"], runs["wgan"], runs["autoregressive"]),
            inbetween=runs["inbetween"],
            dataset=config.dataset,
            data=data,
            output=folder / "evaluation",
            report_clips=8,
            batch_size=10,
        ),
    )


def _inbetween(data: DataOptions, workdir: Path, train: InbetweenTrainOptions) -> TrainInbetweenConfig:
    """3D convolutions without discriminators, an eighth as wide as the published ones."""
    return TrainInbetweenConfig(
        dataset=data.name,
        workdir=workdir,
        data=data,
        inbetween=InbetweenConfig(
            frame_size=data.size,
            num_channels=data.num_channels,
            width=8,
            num_stages=1,
            noise_size=8,
            discriminator_width=8,
        ),
        loss=InbetweenLossConfig(
            gradient_weight=0.1, adversarial_weight=0.0, learning_rate=3e-3, cosine_steps=train.num_steps
        ),
        train=train,
    )
