"""Keypoints of whole clips: `python -m experiments.extract_motion --fomm=DIR --dataset=kth --output=motion.npz`.

Writes positions and Jacobians of every frame of one split, with the clips' names, the frame rate and the fingerprint
of the keypoint model: what `experiments.train_motion_gan` and `experiments.train_autoregressive` train on.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from experiments.commands import run
from experiments.configs import CONFIGS
from experiments.options import DataOptions
from vidcomp_jax.data import open_clips
from vidcomp_jax.errors import require_at_least
from vidcomp_jax.fomm.loading import check_trained_data, load_fomm
from vidcomp_jax.motion.motion_file import extract_motion
from vidcomp_jax.storage.atomic import check_output_file


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtractMotionConfig:
    """Extract the keypoints of all clips of a split."""

    fomm: Path = Path("runs/fomm")
    """Model folder or training run of the First Order Motion Model."""
    which: Literal["latest", "best"] = "latest"
    """Which checkpoint of a training run."""
    dataset: str = "kth"
    """Which data settings to start from: kth, bair, vox, taichi, fashion, mgif, nemo, folder or synthetic."""
    split: Literal["train", "test"] = "train"
    """Motion models are trained on train; test serves as their --validation."""
    output: Path = Path("motion.npz")
    """The file to write."""
    chunk: int = 64
    """Frames on the device at a time."""
    overwrite: bool = False
    """Replace the output if it exists."""
    any_data: bool = False
    """Take other data settings than the model was trained with: another split, size or camera."""
    data: Annotated[DataOptions, tyro.conf.arg(name="")] = DataOptions()
    """Where the clips come from."""

    def __post_init__(self):
        require_at_least(self, chunk=1)


def main(config: ExtractMotionConfig) -> None:
    """Extract and write."""
    check_output_file(config.output, overwrite=config.overwrite)
    model = load_fomm(config.fomm, config.which)
    check_trained_data(config.fomm, config.data, any_data=config.any_data)
    clips = extract_motion(model, open_clips(config.data, config.split), config.split, chunk=config.chunk)
    clips.save(config.output)
    print(
        f"{config.output}: {clips.num_keypoints} keypoints in {clips.lengths.sum()} frames of {len(clips.names)} clips"
    )


PRESETS = {name: ExtractMotionConfig(dataset=name, data=config.data) for name, config in CONFIGS.items()}

if __name__ == "__main__":
    run(main, ExtractMotionConfig, PRESETS)
