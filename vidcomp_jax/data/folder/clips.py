"""Opens the clips of a folder of videos.

`data_dir` contains `train/` and `test/`, or all videos, which are then split at random by subject. The subject of a
video is the part of its name before the first `#` (`id10283#xyz#0001.mp4`), or the whole name.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from vidcomp_jax.data.cache import cached_clips, key_of, num_bytes
from vidcomp_jax.data.clips import ArrayClips, Clips, Split
from vidcomp_jax.data.folder.config import FolderConfig
from vidcomp_jax.data.folder.cutting import cut_videos
from vidcomp_jax.data.folder.decoding import Decoder
from vidcomp_jax.data.folder.files import split_sources
from vidcomp_jax.data.folder.streamed import StreamedClips
from vidcomp_jax.data.sources import Outcomes, Progress, Reader, numbered, subject_of


def open_folder(
    data_dir: Path,
    split: Split,
    *,
    size: int,
    num_channels: int,
    cache_dir: Path,
    config: FolderConfig,
    skip_unreadable: bool = False,
) -> Clips:
    """Open one clip per video, named by its path relative to the split's folder, or the clips that videos are cut into.

    The cache holds whole videos, so that other settings of the cut need no other cache.

    Raises:
        InputError: there are no videos, too few to split, or more than a tenth is unreadable and not skipped; videos
            are too small for the box, or none is long enough for a clip.
    """
    sources = split_sources(data_dir, split, config)
    decoder = Decoder(size, num_channels, config, cache_dir)
    label = f"folder-{re.sub(r'[^A-Za-z0-9_-]', '_', data_dir.resolve().name)}-{size}-{split}"
    settings = _cached_settings(size, num_channels, config)
    clips: ArrayClips | StreamedClips
    if config.cache:
        bar = Progress(f"decoding {label}", sources, [num_bytes(source) for source in sources])
        clips = cached_clips(
            sources,
            lambda source: decoder.decode(source, bar.advance),
            settings=settings,
            frame_shape=decoder.frame_shape,
            cache_dir=cache_dir,
            label=label,
            skip_unreadable=skip_unreadable,
            progress=bar,
        )
    else:
        index_path = cache_dir / f"{label}-{key_of(sources, settings)}.json"
        clips = StreamedClips(sources, decoder, index_path, Outcomes(label, len(sources), skip_unreadable))
    opened = clips if config.cut == "none" else cut_videos(clips, config, label)
    opened.subjects = np.arange(len(opened.names))
    if config.id_sampling:
        opened.subjects = np.array(numbered([subject_of(name) for name in opened.names]))
    return opened


def _cached_settings(size: int, num_channels: int, config: FolderConfig) -> dict:
    """What decoded videos depend on besides the files; with the defaults, as earlier versions have written it."""
    settings: dict[str, Any] = {"size": size, "num_channels": num_channels}
    settings |= {"fit": config.fit, "image_fps": config.image_fps}
    if config.box:
        settings["box"] = list(config.box)
    if config.fps is not None:
        settings["fps"] = float(config.fps)
    if config.cut == "scenes":
        settings["scores"] = True
    return settings


FOLDER = Reader("folder", open_folder, split_sources, identity=("fit", "test_fraction", "seed", "box", "fps"))
