"""Reads KTH actions (Schuldt et al., 2004) from the downloaded archives or AVI files.

Output: gray clips. The videos have 160x120 pixels and 25 frames per second (`kth_files.py` finds them). Frames are
cropped to columns 20 to 140 and resized, and the ranges of frames that `00sequences.txt` lists (or the whole video, if
it is not listed) are cached. Clips are parts of these ranges: a range is cut into consecutive clips of 16 frames
without overlap, or, to train on windows that start at every frame, it is one clip.
"""

import dataclasses
import re
from collections.abc import Collection
from pathlib import Path
from typing import Literal

import numpy as np

from vidcomp_jax.data.cache import cache_folder, cached_clips
from vidcomp_jax.data.clips import ArrayClips, Split
from vidcomp_jax.data.kth_files import Sequences, find_videos, missing_videos, read_sequences, stem_of, unpacked
from vidcomp_jax.data.parts import Part, PartClips
from vidcomp_jax.data.sources import Clip, LeftOut, Reader, Source, TooShort
from vidcomp_jax.errors import InputError, require_at_least, require_one_of
from vidcomp_jax.media.images import center_square, resize
from vidcomp_jax.media.video import iterate_frames, probe
from vidcomp_jax.storage.config import ADDED_LATER

_PERSONS: dict[str, dict[str, Collection[int]]] = {
    "literature": {"train": range(1, 17), "test": range(17, 26)},
    "official": {"train": (1, 4, *range(11, 22), 23, 24, 25), "test": (2, 3, 5, 6, 7, 8, 9, 10, 22)},
    "seed": {"train": range(1, 24), "test": (25,)},
    "mcvd": {"train": range(1, 21), "test": range(21, 26)},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class KthConfig:
    """How the KTH videos are split and cut."""

    split: Literal["literature", "official", "seed", "mcvd"] = "literature"
    """Persons of the train and test splits. literature: 1-16 and 17-25, as in work on video prediction. official: the
    16 training and validation persons and the 9 test persons named on the data set's page. seed: 1-23 and 25. mcvd:
    1-20 and 21-25."""
    num_frames: int = 16
    """Number of frames per clip."""
    cut: bool = dataclasses.field(default=True, metadata=ADDED_LATER)
    """Cut each range of frames into clips without overlap. Otherwise each range of at least that many frames is one
    clip, also for testing, and the frames of a training pair can be any two of it."""
    train_windows: Literal["fixed", "every"] = dataclasses.field(default="fixed", metadata=ADDED_LATER)
    """Where the windows of that many frames begin that training draws. every: at every frame of a range. fixed: at the
    first frame of a clip, so that they do not overlap, as in testing and in runs that earlier versions began."""

    def __post_init__(self):
        require_one_of(self, split=tuple(_PERSONS), train_windows=("fixed", "every"))
        require_at_least(self, num_frames=2)


def open_kth(
    data_dir: Path,
    split: Split,
    *,
    size: int,
    num_channels: int,
    cache_dir: Path,
    config: KthConfig,
    skip_unreadable: bool = False,
) -> ArrayClips | PartClips:
    """Open the clips, named `<action>/<file>[first:last+1]`; `left_out` names unreadable and too short videos.

    With `train_windows="every"`, a clip of the train split is a range, and has the attribute `window` (`window_of`).

    Raises:
        InputError: `data_dir` holds no KTH videos or none of this split, or more than a tenth is unreadable.
    """
    videos = KthVideos(data_dir, split, config, skip_unreadable=skip_unreadable)
    label = f"kth-{size}-{split}"
    # The settings in the form in which earlier versions wrote them, so that what they decoded is used.
    settings = {"split": config.split, "num_frames": config.num_frames, "ranges": videos.ranges}
    settings |= {"size": size, "num_channels": num_channels}
    ranges = not config.cut or (split == "train" and config.train_windows == "every")
    already_cut = not ranges and cache_folder(cache_dir, label, videos.sources, settings).exists()
    if not already_cut:
        settings["cut"] = False
    clips = cached_clips(
        videos.sources,
        lambda source: videos.decode(source, size=size, num_channels=num_channels, cut=False),
        settings=settings,
        frame_shape=(size, size, num_channels),
        cache_dir=cache_dir,
        label=label,
        skip_unreadable=skip_unreadable,
    )
    if already_cut:
        return clips
    if not ranges:
        return cut_clips(clips, config.num_frames)
    clips.window = config.num_frames if config.cut else None
    return clips


def cut_clips(ranges: ArrayClips, num_frames: int) -> PartClips:
    """Ranges cut into clips of `num_frames` frames without overlap."""
    parts = []
    for clip, (name, length) in enumerate(zip(ranges.names, ranges.lengths, strict=True)):
        found = re.fullmatch(r"(.*)\[(\d+):\d+\]", name)
        assert found is not None, name
        for start in range(0, int(length) - num_frames + 1, num_frames):
            first = int(found[2]) + start
            parts.append(Part(f"{found[1]}[{first}:{first + num_frames}]", clip, start, num_frames))
    return PartClips(ranges, parts, left_out=ranges.left_out, unreadable=ranges.unreadable)


class KthVideos:
    """The videos of one split, and their ranges.

    Attributes:
        sources: the videos; also missing videos that `00sequences.txt` names and archives that cannot be read, for
            which `decode` raises an error with the reason.
        ranges: of all videos that `00sequences.txt` lists: first frame and the one after the last, from 0.

    Raises:
        InputError: as for `find_videos` and `read_sequences`.
    """

    def __init__(self, data_dir: Path, split: Split, config: KthConfig, *, skip_unreadable: bool = False):
        persons = _PERSONS[config.split][split]
        self._sequences = read_sequences(data_dir)
        self._num_frames = config.num_frames
        videos = find_videos(data_dir, persons, skip_unreadable=skip_unreadable)
        self._missing = missing_videos(self._sequences, videos, persons)
        self.sources = videos + [Source(name, data_dir / name, ()) for name in self._missing]
        stems = [stem for stem in map(stem_of, self.sources) if stem in self._sequences]
        self.ranges = {stem: self._sequences[stem].ranges for stem in stems}

    def decode(self, source: Source, *, size: int, num_channels: int, cut: bool = True) -> list[Clip | LeftOut]:
        """The clips of a video, or, without `cut`, its ranges; and the ranges of it that are left out.

        Raises:
            InputError: the video cannot be read, or is missing.
            TooShort: it has too few frames for a clip.
        """
        if source.name in self._missing:
            raise InputError(self._missing[source.name])
        with unpacked(source) as path:
            chunks = iterate_frames(path, num_channels=num_channels)
            frames = np.concatenate([resize(center_square(chunk), size) for chunk in chunks])
            fps = probe(path).fps
        if len(frames) < self._num_frames:
            raise TooShort(f"{source.path}: {len(frames)} frames, a clip has {self._num_frames}")
        sequences = self._sequences.get(stem_of(source), Sequences(str(source.path), [(0, len(frames))]))
        clips: list[Clip | LeftOut] = []
        for first, stop in sequences.ranges:
            where = f"{sequences.where}: frames {first + 1}-{stop} of {source.name}"
            name = f"{source.name}[{first}:{stop}]"
            if stop > len(frames):
                clips.append(
                    LeftOut(name, InputError(f"{where}, which has {len(frames)}; those past its end are left out"))
                )
            elif stop - first < self._num_frames:
                clips.append(
                    LeftOut(name, TooShort(f"{where} are {stop - first} frames, a clip has {self._num_frames}"))
                )
            stop = min(stop, len(frames))
            length = self._num_frames if cut else max(stop - first, self._num_frames)
            for start in range(first, stop - length + 1, length):
                name = f"{source.name}[{start}:{start + length}]"
                clips.append(Clip(name, name, frames[start : start + length], fps))
        return clips


def _sources(data_dir: Path, split: Split, config: KthConfig) -> list[Source]:
    return KthVideos(data_dir, split, config, skip_unreadable=True).sources


def _person(name: str) -> str:
    return Path(name).name.partition("_")[0]


KTH = Reader("kth", open_kth, _sources, identity=("split",), subject_of=_person, file_of=unpacked)
