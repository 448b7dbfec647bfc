"""Animates across the clips of a data set, for `experiments.animate --dataset=NAME` or `--config=FILE.yaml`.

As the published code's mode `animate`: the first frame of one test clip gets the motion of another.
"""

import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import numpy as np
import tyro
from tqdm import tqdm

from experiments.configs import CONFIGS
from experiments.official import KEYS, check_model, data_options, say_unused, video_format
from vidcomp_jax.background import WriteBehind
from vidcomp_jax.data import BairConfig, DataConfig, open_clips
from vidcomp_jax.data.clips import Channels
from vidcomp_jax.data.video_pairs import random_pairs, read_pairs
from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.animation import animate, detect
from vidcomp_jax.fomm.loading import load_fomm
from vidcomp_jax.fomm.official import OfficialFile
from vidcomp_jax.fomm.official_sections import AnimateParams, DatasetParams
from vidcomp_jax.fomm.reconstruction import frames_in_chunks
from vidcomp_jax.media.images import to_uint8, write_strip
from vidcomp_jax.media.video import VideoWriter
from vidcomp_jax.storage.atomic import name_of_file
from vidcomp_jax.storage.folders import check_output_folder, new_folder

if TYPE_CHECKING:
    from experiments.animate import AnimateConfig

STRIPS = "png"
"""Folder of the strips in the output folder, as in the published code."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairedData(DataConfig):
    """Which clips to animate, with --dataset."""

    size: Annotated[int, tyro.conf.Fixed, tyro.conf.Suppress] = 64
    """The size of the command counts instead."""
    bair: Annotated[BairConfig, tyro.conf.arg(name="")] = BairConfig()
    """Settings of BAIR, used with --name=bair."""


def _paired(data: DataConfig) -> PairedData:
    return PairedData(**{field.name: getattr(data, field.name) for field in dataclasses.fields(DataConfig)})


PRESETS: dict[str, PairedData] = {name: _paired(config.data) for name, config in CONFIGS.items()}

UNUSED = ("dataset_params.augmentation_params", "train_params", "reconstruction_params", "visualizer_params")
"""What animation does not read of an official YAML file."""


def official_options(file: OfficialFile) -> dict[str, Any]:
    """Options of `experiments.animate` that do what the mode `animate` of the published code does with a YAML file.

    What animation does not use is printed in one line.

    Raises:
        InputError: the file is not an official configuration, or a value is impossible; names the file and the key.
    """
    dataset = file.section("dataset_params", DatasetParams)
    params = file.section("animate_params", AnimateParams)
    moves = params.normalization_params
    say_unused(file, "animation", UNUSED)
    with file.named_in_errors(KEYS):
        data = data_options(dataset, file.model())
        ending = video_format(params.format, "animate_params.format")
    return {
        "dataset": file.path.stem,
        "config": file.path,
        "data": _paired(data),
        "size": data.size,
        "pairs_list": Path(dataset.pairs_list) if dataset.pairs_list is not None else None,
        "num_pairs": params.num_pairs,
        "format": ending,
        "png_strips": True,
        "side_by_side": True,
        "relative": moves.use_relative_movement,
        # There, these two count only where movement is relative.
        "relative_jacobian": moves.use_relative_jacobian or not moves.use_relative_movement,
        "adapt_scale": moves.adapt_movement_scale and moves.use_relative_movement,
    }


def animate_pairs(config: "AnimateConfig", size: int) -> None:
    """Write a video, and with `png_strips` a strip of frames, for each pair of clips of the test split."""
    output = config.output or Path("animations")
    check_output_folder(output, "animations", overwrite=config.overwrite)
    model = load_fomm(config.fomm, config.which, precision=config.precision)
    if config.config is not None:
        check_model(config.config, model.config, config.fomm)
    channels = model.config.num_channels
    clips = open_clips(dataclasses.replace(config.data, size=size, num_channels=cast(Channels, channels)), "test")
    if config.pairs_list is not None:
        pairs = read_pairs(config.pairs_list, clips.names, config.num_pairs)
    else:
        pairs = random_pairs(len(clips.names), config.num_pairs)
    with new_folder(output, "animations", replace=True) as folder:
        if config.png_strips:
            (folder / STRIPS).mkdir()
        for pair in tqdm(pairs, unit="pair", disable=None):
            name = f"{clips.names[pair.driving]}-{clips.names[pair.source]}".replace("/", "_")
            source = clips.frames(pair.source, [0])[0]
            initial = None
            if config.moves_relatively:
                initial = detect(model, clips.frames(pair.driving, [0])[0])
            moving = (clips, pair.driving, int(clips.lengths[pair.driving]), config.batch_size)
            chunks = frames_in_chunks(*moving)
            results = animate(model, source, chunks, initial, **config.rendering)
            strip = []
            path = folder / name_of_file(name, config.format)
            with (
                VideoWriter(path, fps=clips.fps, lossless=config.lossless) as video,
                WriteBehind() as behind,
                contextlib.closing(results),
            ):
                for moved, result in zip(frames_in_chunks(*moving), map(to_uint8, results), strict=True):
                    beside = [np.broadcast_to(source, moved.shape), moved, result]
                    behind(video.write, np.concatenate(beside, axis=2) if config.side_by_side else result)
                    if config.png_strips:
                        strip.append(result)
            if config.png_strips:
                write_strip(folder / STRIPS / name_of_file(name, ".png"), np.concatenate(strip))
    print(f"{output}: {len(pairs)} pairs of {len(clips.names)} clips, {size} x {size} pixels")


def check_sources(config: "AnimateConfig") -> None:
    """Raise an `InputError` unless either a picture and a video or a data set is given."""
    files = {name: getattr(config, name) for name in ("source", "driving", "png_frames")}
    if config.dataset:
        chosen = "dataset" if config.config is None else "config"
        if given := [name for name, path in files.items() if path is not None]:
            raise InputError(f"`{given[0]}` is {files[given[0]]}; it must be left out with `{chosen}`")
        if config.best_frame != 0:
            raise InputError(f"`best_frame` is {config.best_frame}; it must be left out with `{chosen}`")
        return
    for name in ("source", "driving"):
        if files[name] is None:
            raise InputError(f"`{name}` is missing; give a picture and a video, or a `dataset`")
