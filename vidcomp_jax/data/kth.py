"""KTH actions (Schuldt et al., 2004) as downloaded: a tree of AVI files in, gray 16-frame clips of one split out.

Files are `<action>/personNN_<action>_dM_uncomp.avi`, 160x120 pixels, 25 frames a second. Columns 20 to 140 are kept,
resized, and every video is cut into clips that follow each other without overlap; frames that do not fill a clip are
dropped.
"""

import dataclasses
import functools
import re
from pathlib import Path
from typing import Literal

import numpy as np

from vidcomp_jax.data.cache import Clip, Source, TooShort, cached_clips
from vidcomp_jax.data.clips import ArrayClips, Split
from vidcomp_jax.errors import InputError
from vidcomp_jax.image_io import center_square, resize
from vidcomp_jax.video_io import iterate_frames, probe

_NAME = re.compile(r"person(?P<person>\d\d)_(?P<action>[a-z]+)_d\d_uncomp\.avi")
_PERSONS = {"literature": {"train": range(1, 17), "test": range(17, 26)}}


@dataclasses.dataclass(frozen=True, kw_only=True)
class KthConfig:
    """How the KTH videos are split and cut."""

    split: Literal["literature"] = "literature"
    """literature: persons 1 to 16 to train, 17 to 25 to test, as the work on video prediction does."""
    num_frames: int = 16
    """Frames a clip."""

    def __post_init__(self):
        if self.split not in _PERSONS:
            raise InputError(f"kth split is {self.split!r}; it must be one of {', '.join(_PERSONS)}")
        if self.num_frames < 2:
            raise InputError(f"kth num_frames is {self.num_frames}; a clip needs at least 2 frames")


def open_kth(
    data_dir: Path,
    split: Split,
    *,
    size: int,
    num_channels: int,
    cache_dir: Path,
    config: KthConfig,
    skip_unreadable: bool = False,
) -> ArrayClips:
    """Clips named `<action>/<file>[first:last+1]`; `left_out` names videos that are unreadable or too short.

    Raises:
        InputError: `data_dir` holds no KTH videos or none of this split, or more than a tenth is unreadable.
    """
    sources = find_videos(data_dir, _PERSONS[config.split][split])
    return cached_clips(
        sources,
        functools.partial(_decode, size=size, num_channels=num_channels, num_frames=config.num_frames),
        settings={"size": size, "num_channels": num_channels, **dataclasses.asdict(config)},
        frame_shape=(size, size, num_channels),
        cache_dir=cache_dir,
        label=f"kth-{size}-{split}",
        skip_unreadable=skip_unreadable,
    )


def find_videos(data_dir: Path, persons: range) -> list[Source]:
    """The videos of some persons anywhere below `data_dir`, in order of their paths."""
    files = sorted(path for path in data_dir.rglob("*.avi") if path.is_file())
    named = [(match, path) for path in files if (match := _NAME.fullmatch(path.name))]
    expected = "<action>/personNN_<action>_dM_uncomp.avi, such as walking/person01_walking_d1_uncomp.avi"
    if not files:
        raise InputError(f"{data_dir}: no AVI files here; KTH unpacks to {expected}")
    if not named:
        raise InputError(
            f"{data_dir}: {len(files)} AVI files, none with a name of KTH, {expected}; found {files[0].name}"
        )
    chosen = [path for match, path in named if int(match["person"]) in persons]
    if not chosen:
        raise InputError(
            f"{data_dir}: none of {len(named)} videos shows persons {persons[0]} to {persons[-1]}, as this split needs"
        )
    return [Source(path.relative_to(data_dir).as_posix(), path, (path,)) for path in chosen]


def _decode(source: Source, *, size: int, num_channels: int, num_frames: int) -> list[Clip]:
    chunks = iterate_frames(source.path, num_channels=num_channels)
    frames = np.concatenate([resize(center_square(chunk), size) for chunk in chunks])
    if len(frames) < num_frames:
        raise TooShort(f"{source.path}: {len(frames)} frames, a clip has {num_frames}")
    fps = probe(source.path).fps
    clips = []
    for start in range(0, len(frames) - num_frames + 1, num_frames):
        name = f"{source.name}[{start}:{start + num_frames}]"
        clips.append(Clip(name, name, frames[start : start + num_frames], fps))
    return clips
