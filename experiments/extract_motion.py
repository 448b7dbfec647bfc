"""Extract keypoints of clips: `python -m experiments.extract_motion --fomm=DIR --dataset=kth --output=motion.npz`.

Writes the positions and Jacobians of every frame of a split, with the names of the clips, the frame rate and the
fingerprint of the keypoint model. `experiments.train_flow`, `experiments.train_motion_gan` and
`experiments.train_autoregressive` train on this file.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from experiments.commands import run
from experiments.configs import CONFIGS, Preset
from experiments.options import DataOptions
from vidcomp_jax.data import open_clips
from vidcomp_jax.errors import require_at_least
from vidcomp_jax.fomm.loading import check_trained_data, load_fomm
from vidcomp_jax.motion.motion_file import extract_motion
from vidcomp_jax.nn.precision import Precision
from vidcomp_jax.storage.atomic import check_output_file
from vidcomp_jax.storage.steps import Which


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtractMotionConfig:
    """Extract the keypoints of all clips of a split."""

    fomm: Path = Path("runs/fomm")
    """Model folder or training run of the First Order Motion Model."""
    which: Which = "latest"
    """Which checkpoint of a training run to load."""
    precision: Precision = "float32"
    """Compute in float32, or mostly in bfloat16, which is faster on GPUs and TPUs and takes less memory."""
    dataset: Preset = "kth"
    split: Literal["train", "test"] = "train"
    """Split to read: train to train motion models, test for their --validation."""
    output: Path = Path("motion.npz")
    """File to write."""
    chunk: int = 64
    """Number of frames processed at a time, on all devices together."""
    overwrite: bool = False
    """Replace the output if it exists."""
    any_data: bool = False
    """Allow data settings that differ from those the model was trained with, such as split, size or camera."""
    data: Annotated[DataOptions, tyro.conf.arg(name="")] = DataOptions()
    """Where the clips come from, and what their frames look like."""

    def __post_init__(self):
        require_at_least(self, chunk=1)


def main(config: ExtractMotionConfig) -> None:
    """Extract the keypoints, and write the file."""
    check_output_file(config.output, overwrite=config.overwrite)
    model = load_fomm(config.fomm, config.which, precision=config.precision)
    check_trained_data(config.fomm, config.data, any_data=config.any_data)
    clips = extract_motion(model, open_clips(config.data, config.split), config.split, chunk=config.chunk)
    clips.save(config.output)
    print(
        f"{config.output}: {clips.num_keypoints} keypoints in {clips.lengths.sum()} frames of {len(clips.names)} clips"
    )


PRESETS = {name: ExtractMotionConfig(dataset=name, data=config.data) for name, config in CONFIGS.items()}

if __name__ == "__main__":
    run(main, ExtractMotionConfig, PRESETS)
