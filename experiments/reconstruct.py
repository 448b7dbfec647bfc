"""Reconstruct test clips from their first frame: `python -m experiments.reconstruct --fomm=DIR --dataset=kth`.

Every frame is rendered from the first frame of its clip and its own keypoints, as in the published evaluation. Writes
`scores.json`, a panel, and videos of some clips that show source, truth and result side by side. `--config` takes a
YAML file of the published code in place of `--dataset`.
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
from experiments.official import (
    KEYS,
    VideoFormat,
    check_model,
    data_options,
    panel_config,
    say_unused,
    video_format,
)
from experiments.options import DataOptions
from vidcomp_jax.data import KthConfig, open_clips
from vidcomp_jax.data.clips import spread
from vidcomp_jax.errors import InputError, require, require_at_least
from vidcomp_jax.fomm.loading import check_trained_data, load_fomm
from vidcomp_jax.fomm.official import read_official
from vidcomp_jax.fomm.official_sections import DatasetParams, ReconstructionParams
from vidcomp_jax.fomm.reconstruction import ReconstructionScores, reconstruction_panel, score_clip
from vidcomp_jax.media.images import write_image
from vidcomp_jax.media.panels import PanelConfig
from vidcomp_jax.nn.precision import Precision
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
    precision: Precision = "float32"
    """Compute in float32, or mostly in bfloat16, which is faster on GPUs and TPUs and takes less memory."""
    dataset: Preset = "kth"
    config: Path | None = None
    """YAML file of the published code that says which clips to reconstruct, as its mode reconstruction does; in place
    of --dataset."""
    split: Literal["test", "train"] = "test"
    """Split whose clips to reconstruct."""
    output: Path = Path("reconstruction")
    """Folder to write."""
    max_clips: int = 0
    """Maximum number of clips, evenly spaced over the split; 0 means all."""
    max_frames: int = 0
    """Maximum number of frames of each clip, from its start; 0 means all."""
    videos: int | Literal["all"] = 8
    """Number of clips to write as videos, evenly spaced over the reconstructed ones and named by their indices; or
    all."""
    format: VideoFormat = ".mp4"
    """Format of the videos."""
    batch_size: int = 8
    """Number of frames rendered at a time, on all devices together."""
    png_strips: bool = False
    """Also write the frames of every clip side by side into one lossless image, in png/, as the published code does
    for programs that compute further scores, such as AKD, AED and FVD."""
    overwrite: bool = False
    """Replace the output folder if it exists."""
    any_data: bool = False
    """Allow data settings that differ from those the model was trained with, such as split, size or camera."""
    data: Annotated[DataOptions, tyro.conf.arg(name="")] = DataOptions()
    """Where the clips come from, and what their frames look like."""
    panel: PanelConfig = PanelConfig()
    """What the panel shows, and how."""

    def __post_init__(self):
        require_at_least(self, batch_size=1, max_clips=0, max_frames=0)
        require(self.videos == "all" or self.videos >= 0, self, "videos", "at least 0, or all")


def main(config: ReconstructConfig) -> None:
    """Reconstruct the clips, write the results, and print the mean scores."""
    check_output_folder(config.output, "reconstruction", overwrite=config.overwrite)
    model = load_fomm(config.fomm, config.which, precision=config.precision)
    if config.config is not None:
        check_model(config.config, model.config, config.fomm)
    check_trained_data(config.fomm, config.data, any_data=config.any_data)
    clips = open_clips(config.data, config.split)
    if clips.frame_shape[-1] != model.config.num_channels:
        raise InputError(
            f"--num-channels is {clips.frame_shape[-1]}; the model in {config.fomm} takes {model.config.num_channels}"
        )
    count = len(clips.names)
    chosen = spread(count, config.max_clips or count)
    shown = set(chosen[spread(len(chosen), len(chosen) if config.videos == "all" else config.videos)])
    scores = {}
    with new_folder(config.output, "reconstruction", replace=True) as folder:
        if config.png_strips:
            (folder / STRIPS).mkdir()
        for clip in tqdm(chosen, unit="clip", disable=None):
            video = folder / f"{clip:04d}{config.format}" if clip in shown else None
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
        write_image(folder / "panel.png", reconstruction_panel(model, clips, config=config.panel))
    print(f"L1 of {mean.num_frames} frames of {len(chosen)} clips, in [0, 1]:")
    print(f"  reconstructed from the first frame  {mean.l1:.5f}  (PSNR {mean.psnr:.2f} dB, SSIM {mean.ssim:.4f})")
    print(f"  repeating the first frame           {mean.l1_of_first_frame:.5f}")
    print(f"written to {config.output}")


UNUSED = ("dataset_params.pairs_list", "dataset_params.augmentation_params", "train_params", "animate_params")
"""What reconstruction does not read of an official YAML file."""


def official(path: Path) -> ReconstructConfig:
    """The configuration that an official YAML file describes; `InputError` names the file and the key.

    As there, every clip becomes a video and a strip.
    """
    file = read_official(path)
    params = file.section("reconstruction_params", ReconstructionParams)
    say_unused(file, "reconstruction", UNUSED)
    most = params.num_videos
    with file.named_in_errors(KEYS):
        if most is not None and most < 1:
            raise InputError(f"reconstruction_params.num_videos is {most}; it must be at least 1, or null for all")
        return ReconstructConfig(
            dataset=path.stem,
            config=path,
            data=data_options(file.section("dataset_params", DatasetParams), file.model()),
            max_clips=most or 0,
            videos="all",
            format=video_format(params.format, "reconstruction_params.format"),
            png_strips=True,
            panel=panel_config(file),
        )


PRESETS = {
    name: ReconstructConfig(dataset=name, data=dataclasses.replace(config.data, kth=KthConfig()))
    for name, config in CONFIGS.items()
}

if __name__ == "__main__":
    run(main, ReconstructConfig, PRESETS, preset_file=official)
