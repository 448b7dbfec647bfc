"""Reconstruct test clips from their first frame: `python -m experiments.reconstruct --fomm=DIR --dataset=kth`.

Every frame is rendered from the first frame of its clip and its own keypoints, as in the published evaluation. Writes
`scores.json`, a panel, and videos of some clips that show source, truth and result side by side.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import tyro
from tqdm import tqdm

from experiments.animate_pairs import STRIPS
from experiments.commands import run
from experiments.configs import CONFIGS, Preset
from experiments.options import DataOptions
from vidcomp_jax.data import open_clips
from vidcomp_jax.data.clips import spread
from vidcomp_jax.errors import InputError, require_at_least
from vidcomp_jax.fomm.loading import check_trained_data, load_fomm
from vidcomp_jax.fomm.reconstruction import ReconstructionScores, reconstruction_panel, score_clip
from vidcomp_jax.media.images import write_image
from vidcomp_jax.storage.atomic import name_of_file
from vidcomp_jax.storage.folders import check_output_folder, new_folder
from vidcomp_jax.storage.steps import Which

_SCORES = "scores.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReconstructConfig:
    """Reconstruct clips from their first frame, and measure the error."""

    fomm: Path = Path("runs/fomm")
    """Model folder or training run of the First Order Motion Model."""
    which: Which = "latest"
    """Which checkpoint of a training run to load."""
    dataset: Preset = "kth"
    split: Literal["test", "train"] = "test"
    """Split whose clips to reconstruct."""
    output: Path = Path("reconstruction")
    """Folder to write."""
    max_clips: int = 0
    """Maximum number of clips, evenly spaced over the split; 0 means all."""
    max_frames: int = 0
    """Maximum number of frames of each clip, from its start; 0 means all."""
    videos: int = 8
    """Number of clips to write as videos, evenly spaced over the reconstructed ones and named by their indices."""
    batch_size: int = 8
    """Number of frames rendered at a time."""
    png_strips: bool = False
    """Also write the frames of every clip side by side into one lossless image, in png/, as the published code does
    for programs that compute further scores, such as AKD, AED and FVD."""
    overwrite: bool = False
    """Replace the output folder if it exists."""
    any_data: bool = False
    """Allow data settings that differ from those the model was trained with, such as split, size or camera."""
    data: Annotated[DataOptions, tyro.conf.arg(name="")] = DataOptions()
    """Where the clips come from, and what their frames look like."""

    def __post_init__(self):
        require_at_least(self, batch_size=1, max_clips=0, max_frames=0, videos=0)


def main(config: ReconstructConfig) -> None:
    """Reconstruct the clips, write the results, and print the mean scores."""
    check_output_folder(config.output, "reconstruction", overwrite=config.overwrite)
    model = load_fomm(config.fomm, config.which)
    check_trained_data(config.fomm, config.data, any_data=config.any_data)
    clips = open_clips(config.data, config.split)
    if clips.frame_shape[-1] != model.config.num_channels:
        raise InputError(
            f"--num-channels is {clips.frame_shape[-1]}; the model in {config.fomm} takes {model.config.num_channels}"
        )
    count = len(clips.names)
    chosen = spread(count, config.max_clips or count)
    shown = set(chosen[spread(len(chosen), config.videos)])
    scores = {}
    with new_folder(config.output, "reconstruction", replace=True) as folder:
        if config.png_strips:
            (folder / STRIPS).mkdir()
        for clip in tqdm(chosen, unit="clip", disable=None):
            video = folder / f"{clip:04d}.mp4" if clip in shown else None
            strip = (
                folder / STRIPS / name_of_file(clips.names[clip].replace("/", "_"), ".png")
                if config.png_strips
                else None
            )
            scores[clips.names[clip]] = score_clip(
                model,
                clips,
                clip,
                max_frames=config.max_frames or None,
                chunk=config.batch_size,
                video=video,
                strip=strip,
            )
        mean = ReconstructionScores.mean(list(scores.values()))
        stored = {"mean": mean, "clips": scores}
        (folder / _SCORES).write_bytes(msgspec.json.format(msgspec.json.encode(stored), indent=2) + b"\n")
        write_image(folder / "panel.png", reconstruction_panel(model, clips))
    print(f"L1 of {mean.num_frames} frames of {len(chosen)} clips, in [0, 1]:")
    print(f"  reconstructed from the first frame  {mean.l1:.5f}  (PSNR {mean.psnr:.2f} dB, SSIM {mean.ssim:.4f})")
    print(f"  repeating the first frame           {mean.l1_of_first_frame:.5f}")
    print(f"written to {config.output}")


PRESETS = {name: ReconstructConfig(dataset=name, data=config.data) for name, config in CONFIGS.items()}

if __name__ == "__main__":
    run(main, ReconstructConfig, PRESETS)
