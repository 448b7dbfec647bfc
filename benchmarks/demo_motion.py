"""The motion of the synthetic clips, as a small First Order Motion Model of 8 keypoints finds it.

Input: a folder. Output: keypoints of 400 training and 60 held-out clips of 16 frames. The model is trained on first
use, 1200 steps. Its settings are written out here, so that results stay comparable when the demo's change.
"""

from pathlib import Path
from typing import Any

from experiments.configs import AdamConfig, DataOptions, FOMMTrainOptions, OptimizerConfig, TrainFOMMConfig
from experiments.train_fomm import train
from vidcomp_jax.data import AugmentationConfig, SyntheticConfig, open_clips
from vidcomp_jax.fomm.dense_motion import DenseMotionConfig
from vidcomp_jax.fomm.discriminator import DiscriminatorConfig
from vidcomp_jax.fomm.generator import GeneratorConfig
from vidcomp_jax.fomm.keypoints import KeypointDetectorConfig, Keypoints
from vidcomp_jax.fomm.loading import load_fomm
from vidcomp_jax.fomm.losses import FOMMLossConfig
from vidcomp_jax.fomm.model import FOMMConfig
from vidcomp_jax.motion.motion_file import MotionClips, extract_motion

NUM_STEPS = 1200
NUM_FRAMES = 16


def configuration(workdir: Path) -> TrainFOMMConfig:
    """Return the configuration of the keypoint model."""
    hourglass: dict[str, Any] = {"width": 16, "max_width": 128, "num_blocks": 4, "scale": 0.5}
    adam = AdamConfig(learning_rate=6e-4, cosine_steps=NUM_STEPS)
    return TrainFOMMConfig(
        dataset="synthetic",
        workdir=workdir,
        data=DataOptions(
            name="synthetic",
            size=64,
            num_channels=1,
            synthetic=SyntheticConfig(num_train=400, num_test=60, length=NUM_FRAMES),
        ),
        augmentation=AugmentationConfig(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0),
        fomm=FOMMConfig(
            num_channels=1,
            num_keypoints=8,
            detector=KeypointDetectorConfig(**hourglass),
            dense_motion=DenseMotionConfig(**hourglass),
            generator=GeneratorConfig(width=16, max_width=128, num_down_blocks=1, num_bottleneck_blocks=2),
            discriminator=DiscriminatorConfig(width=16, max_width=128, num_blocks=3),
        ),
        loss=FOMMLossConfig(scales=(1.0, 0.5, 0.25), generator_gan=0.0, feature_matching=(10.0, 10.0, 10.0)),
        optimizer=OptimizerConfig(generator=adam, detector=adam, discriminator=adam),
        train=FOMMTrainOptions(
            num_steps=NUM_STEPS, batch_size=8, panel_every=None, evaluate_every=None, checkpoint_every=500
        ),
    )


def demo_motion(folder: Path) -> tuple[Keypoints, Keypoints]:
    """Return the motion of the training and of the held-out clips, keypoints [n, t, k, ...]."""
    config = configuration(folder / "fomm")
    if train(config):
        raise SystemExit("stopped; the same command continues the training of the keypoint model")
    parts = []
    for split in ("train", "test"):
        path = folder / f"{split}.npz"
        if not path.is_file():
            extract_motion(load_fomm(config.workdir), open_clips(config.data, split), split).save(path)
        keypoints = MotionClips.load(path).keypoints
        parts.append(Keypoints(*(x.reshape(-1, NUM_FRAMES, *x.shape[1:]) for x in keypoints)))
    return parts[0], parts[1]
