"""Reads clips from videos that are listed in a text file.

Each line names a video, and optionally the first and the last frame to take of it, counted from 0:

    # text after a hash sign is a comment
    videos/walk.mp4
    videos/run.mp4 120 299

Paths are relative to the folder of the list. All lines that name the same video belong to the same split.
"""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from vidcomp_jax.data.cache import cached_clips
from vidcomp_jax.data.clips import Clips, Split
from vidcomp_jax.data.sources import Clip, Reader, Source, held_out, in_parallel
from vidcomp_jax.errors import InputError, require, require_at_least
from vidcomp_jax.media.images import center_square, resize
from vidcomp_jax.media.video import iterate_frames, probe_once
from vidcomp_jax.storage.untrusted import read_text

_LINE = re.compile(r"(?P<path>.+?)(?:\s+(?P<first>\d+)\s+(?P<last>\d+))?")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipListConfig:
    """How the videos of a list are split."""

    test_fraction: float = 0.2
    """Fraction of the videos that is held out for testing."""
    seed: int = 0
    """Seed of the random split."""

    def __post_init__(self):
        require(0 < self.test_fraction < 1, self, "test_fraction", "between 0 and 1")
        require_at_least(self, seed=0)


class Entry(NamedTuple):
    """One line of a list.

    Attributes:
        where: list and line number, for messages.
        path: of the video.
        first, last: range of frames, both included, counted from 0.
        size: width and height of the video in pixels.
    """

    where: str
    path: Path
    first: int
    last: int
    size: tuple[int, int]

    @property
    def name(self) -> str:
        """Name of the clip."""
        return f"{self.path}#{self.first}-{self.last}"


def open_clip_list(
    path: Path,
    split: Split,
    *,
    size: int,
    num_channels: int,
    cache_dir: Path,
    config: ClipListConfig,
    skip_unreadable: bool = False,
) -> Clips:
    """The clips of one split of a list, center-cropped and resized to `size`; decoded on first use and cached.

    Raises:
        InputError: as for `read_clip_list`, or all lines name the same video, so that none can be held out.
    """
    entries = {entry.name: entry for entry in entries_of_split(path, split, config)}

    def decode(source: Source) -> list[Clip]:
        entry = entries[source.name]
        return [Clip(source.name, source.name, _frames(entry, size, num_channels), probe_once(entry.path).fps)]

    return cached_clips(
        [Source(entry.name, entry.path, (entry.path,)) for entry in entries.values()],
        decode,
        settings={"size": size, "num_channels": num_channels},
        frame_shape=(size, size, num_channels),
        cache_dir=cache_dir,
        label=f"{re.sub(r'[^A-Za-z0-9_-]', '_', path.stem)}-{size}-{split}",
        skip_unreadable=skip_unreadable,
    )


def entries_of_split(path: Path, split: Split, config: ClipListConfig) -> list[Entry]:
    """The lines of a list whose videos belong to a split; raises the errors of `open_clip_list`."""
    entries = read_clip_list(path)
    videos = sorted({entry.path for entry in entries})
    if len(videos) < 2:
        raise InputError(
            f"{path}: names one video only ({videos[0]}); at least two are needed, because one is held out"
        )
    test = held_out(videos, config.test_fraction, config.seed)
    return [entry for entry in entries if (entry.path in test) == (split == "test")]


def read_clip_list(path: Path) -> list[Entry]:
    """The lines of a list, each checked against its video.

    Raises:
        InputError: the list is missing or empty, or a line has a missing or unreadable video, a range that is empty
            or exceeds the video, a duplicate of another line, or a video of a different size; it names the line.
    """
    try:
        lines = read_text(path).splitlines()
    except InputError as error:
        raise InputError(f"{error}; a text file with one video per line was expected") from None
    entries = list(_parsed(path, lines))
    if not entries:
        raise InputError(f"{path}: names no video")
    lines_of: dict[str, str] = {}
    for entry in entries:
        if entry.size != entries[0].size:
            sizes = ["{}x{}".format(*e.size) for e in (entry, entries[0])]
            raise InputError(
                f"{entry.where}: {entry.path} has {sizes[0]} pixels, the video of the first line {sizes[1]}; "
                "all must have the same size"
            )
        if entry.name in lines_of:
            raise InputError(f"{entry.where}: the same frames of {entry.path} as in {lines_of[entry.name]}")
        lines_of[entry.name] = entry.where
    return entries


def _parsed(path: Path, lines: list[str]) -> Iterator[Entry]:
    texts = ((number, re.sub(r"(^|\s)#.*", "", line).strip()) for number, line in enumerate(lines, 1))
    parsed = [(f"{path} line {number}", found) for number, text in texts if (found := _LINE.fullmatch(text))]
    videos = list(dict.fromkeys(path.parent / found["path"] for _, found in parsed))
    infos = dict(in_parallel(probe_once, videos, f"reading {path.name}"))
    for where, found in parsed:
        video = path.parent / found["path"]
        info = infos[video]
        if isinstance(info, InputError):
            raise InputError(f"{where}: {info}") from info
        if max(len(found["first"] or ""), len(found["last"] or "")) > 9:
            raise InputError(f"{where}: frames are numbered with at most 9 digits; a longer number was found")
        first, last = (int(found["first"]), int(found["last"])) if found["first"] else (0, info.num_frames - 1)
        if last >= info.num_frames:
            raise InputError(
                f"{where}: frames {first} to {last} of {video}, which has {info.num_frames}; "
                f"the last is number {info.num_frames - 1}"
            )
        if last <= first:
            raise InputError(f"{where}: frames {first} to {last} of {video}; a clip needs at least two")
        yield Entry(where, video, first, last, (info.width, info.height))


def _frames(entry: Entry, size: int, num_channels: int) -> UInt8[np.ndarray, "t size size c"]:
    chunks, start = [], 0
    for chunk in iterate_frames(entry.path, num_channels=num_channels):
        part = chunk[max(entry.first - start, 0) : entry.last + 1 - start]
        start += len(chunk)
        if len(part):
            chunks.append(resize(center_square(part), size))
        if start > entry.last:
            break
    if start <= entry.last:
        raise InputError(f"{entry.where}: {entry.path} ends after {start} frames")
    return np.concatenate(chunks)


def _sources(path: Path, split: Split, config: ClipListConfig) -> list[Source]:
    videos = dict.fromkeys(entry.path for entry in entries_of_split(path, split, config))
    return [Source(str(video), video, (video,)) for video in videos]


CLIP_LIST = Reader("clip_list", open_clip_list, _sources, identity=("test_fraction", "seed"))
