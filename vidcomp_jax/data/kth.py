"""Reads KTH actions (Schuldt et al., 2004) from the downloaded archives or AVI files.

Output: gray clips of 16 frames. The videos have 160x120 pixels and 25 frames per second (`kth_files.py` finds them).
Frames are cropped to columns 20 to 140 and resized. Every range of frames that `00sequences.txt` lists (or the whole
video, if it is not listed) is cut into consecutive clips without overlap, and frames that do not fill a clip are
dropped; or, without cutting, each range is a clip.
"""

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import Literal

import numpy as np

from vidcomp_jax.data.cache import cached_clips
from vidcomp_jax.data.clips import ArrayClips, Split
from vidcomp_jax.data.kth_files import Sequences, find_videos, missing_videos, read_sequences, stem_of, unpacked
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
    clip, in which training windows start at any frame."""

    def __post_init__(self):
        require_one_of(self, split=tuple(_PERSONS))
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
) -> ArrayClips:
    """Open the clips, named `<action>/<file>[first:last+1]`; `left_out` names unreadable and too short videos.

    Raises:
        InputError: `data_dir` holds no KTH videos or none of this split, or more than a tenth is unreadable.
    """
    videos = KthVideos(data_dir, split, config, skip_unreadable=skip_unreadable)
    settings = {"size": size, "num_channels": num_channels, **dataclasses.asdict(config), "ranges": videos.ranges}
    if config.cut:
        del settings["cut"]  # so that what was decoded before there was a choice is used
    return cached_clips(
        videos.sources,
        lambda source: videos.decode(source, size=size, num_channels=num_channels),
        settings=settings,
        frame_shape=(size, size, num_channels),
        cache_dir=cache_dir,
        label=f"kth-{size}-{split}",
        skip_unreadable=skip_unreadable,
    )


class KthVideos:
    """The videos of one split, and how they are cut.

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
        self._num_frames, self._cut = config.num_frames, config.cut
        videos = find_videos(data_dir, persons, skip_unreadable=skip_unreadable)
        self._missing = missing_videos(self._sequences, videos, persons)
        self.sources = videos + [Source(name, data_dir / name, ()) for name in self._missing]
        stems = [stem for stem in map(stem_of, self.sources) if stem in self._sequences]
        self.ranges = {stem: self._sequences[stem].ranges for stem in stems}

    def decode(self, source: Source, *, size: int, num_channels: int) -> list[Clip | LeftOut]:
        """The clips of a video, and the ranges of it that are left out.

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
            length = self._num_frames if self._cut else max(stop - first, self._num_frames)
            for start in range(first, stop - length + 1, length):
                name = f"{source.name}[{start}:{start + length}]"
                clips.append(Clip(name, name, frames[start : start + length], fps))
        return clips


def _sources(data_dir: Path, split: Split, config: KthConfig) -> list[Source]:
    return KthVideos(data_dir, split, config, skip_unreadable=True).sources


def _person(name: str) -> str:
    return Path(name).name.partition("_")[0]


KTH = Reader("kth", open_kth, _sources, identity=("split",), subject_of=_person, file_of=unpacked)
