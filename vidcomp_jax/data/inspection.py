"""What a data set holds, and whether training can start on it: a `DataConfig` in, counts and reasons out.

Everything is read: every video is decoded, every record's checksum verified, and clips are compared by their frames.
"""

import collections
import contextlib
import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from vidcomp_jax.data.bair_files import find_files, find_prepared
from vidcomp_jax.data.clip_list import entries_of_split
from vidcomp_jax.data.clips import Clips, Split
from vidcomp_jax.data.datasets import DataConfig, data_dir, open_clips
from vidcomp_jax.data.folder import split_sources
from vidcomp_jax.data.kth import KthVideos
from vidcomp_jax.data.kth_files import unpacked
from vidcomp_jax.data.sources import Source, in_parallel
from vidcomp_jax.errors import InputError
from vidcomp_jax.media.images import IMAGE_SUFFIXES, read_image
from vidcomp_jax.media.video import iterate_frames, probe

_NEARLY_GRAY = 8
_CAPTION = 14


class Stored(NamedTuple):
    """What a video file says of itself, as text for counting."""

    size: str
    fps: str
    channels: str


@dataclasses.dataclass(frozen=True)
class SplitReport:
    """One split of a data set.

    Attributes:
        clips: those that can be used; None if there are none.
        num_videos: files that clips are made of; 0 for drawn clips.
        stored: how many of the readable videos are of every kind.
        subjects: whom the clips show.
        too_short, unreadable: what is left out, with the reason.
        problem: why training cannot start, or nothing.
        digests: of the frames of every clip.
    """

    clips: Clips | None
    num_videos: int
    stored: collections.Counter[Stored]
    subjects: list[str]
    too_short: list[str]
    unreadable: list[str]
    problem: str
    digests: list[str]


def inspect_split(config: DataConfig, split: Split) -> SplitReport:
    """Read everything of one split; what is wrong with it is in the report and raises nothing."""
    skipping = dataclasses.replace(config, skip_unreadable=True)
    if config.kind == "bair":  # comparing frames as they are stored is ten times faster
        skipping = dataclasses.replace(skipping, size=64, num_channels=3)
    try:
        sources = _sources(skipping, split)
        clips = open_clips(skipping, split)
    except InputError as error:
        return SplitReport(None, 0, collections.Counter(), [], [], [], str(error), [])
    left_out, names = (getattr(clips, name, {}) for name in ("left_out", "unreadable"))
    unreadable = [left_out[name] for name in names]
    problem = ""
    try:
        open_clips(config, split)
    except InputError as error:
        problem = str(error)
    if config.kind == "bair" and unreadable and not config.skip_unreadable:
        problem = unreadable[0]
    stored = collections.Counter()
    for _, result in in_parallel(_stored, sources, f"measuring {split}"):
        if isinstance(result, Stored):
            stored[result] += 1
    digests = []
    for clip, result in in_parallel(lambda clip: _digest(clips, clip), range(len(clips.names)), f"comparing {split}"):
        if isinstance(result, InputError):  # damaged since it was looked at first
            unreadable.append(str(result))
            problem = problem or str(result)
        digests.append(f"{split} {clip}" if isinstance(result, InputError) else result)
    return SplitReport(
        clips,
        len(sources),
        stored,
        sorted({subject_of(config, name) for name in clips.names}),
        [reason for name, reason in left_out.items() if name not in names],
        unreadable,
        problem,
        digests,
    )


def subject_of(config: DataConfig, name: str) -> str:
    """Whom the clip of this name shows: a person of KTH, otherwise the name up to the first #."""
    if config.kind == "kth":
        return Path(name).name.partition("_")[0]
    return name.partition("#")[0]


def duplicates(first: SplitReport, second: SplitReport) -> list[tuple[str, str]]:
    """Names of clips of both reports that have the same frames; of different clips, if both are one report."""
    known: dict[str, int] = {}
    if first is not second:
        known = {digest: number for number, digest in enumerate(first.digests)}
    pairs = []
    for number, digest in enumerate(second.digests):
        if digest in known:
            pairs.append((first.clips.names[known[digest]], second.clips.names[number]))
        elif first is second:
            known[digest] = number
    return pairs


def contact_sheet(
    clips: Sequence[Clips], *, rows: int, columns: int, seed: int, size: int = 96
) -> UInt8[np.ndarray, "h w 3"]:
    """Random clips of every one of `clips`, one a row, with frames from the first to the last and the name above."""
    rng = np.random.default_rng(seed)
    strips = []
    for part in clips:
        for clip in sorted(rng.permutation(len(part.names))[:rows]):
            shown = np.linspace(0, part.lengths[clip] - 1, columns).round().astype(int)
            images = [_thumbnail(frame, size) for frame in part.frames(clip, shown)]
            caption = Image.new("RGB", (size * columns, _CAPTION), "white")
            ImageDraw.Draw(caption).text((2, 1), part.names[clip], fill="black")
            strips += [np.asarray(caption), np.concatenate(images, 1)]
    return np.concatenate(strips)


def _thumbnail(frame: UInt8[np.ndarray, "h w c"], size: int) -> UInt8[np.ndarray, "size size 3"]:
    image = Image.fromarray(np.broadcast_to(frame, (*frame.shape[:2], 3)))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def _sources(config: DataConfig, split: Split) -> list[Source]:
    if config.kind == "kth":
        return KthVideos(data_dir(config), split, config.kth, skip_unreadable=True).sources
    if config.kind == "folder":
        return split_sources(data_dir(config), split, config.folder)
    if config.kind == "bair":
        files = (find_prepared if config.bair.tfds else find_files)(data_dir(config), split)
        return [Source(path.name, path, (path,)) for path in files]
    if config.kind == "list":
        videos = dict.fromkeys(entry.path for entry in entries_of_split(config.clips, split, config.clip_list))
        return [Source(str(path), path, (path,)) for path in videos]
    return []


def _stored(source: Source) -> Stored:
    """Raises an InputError for what cannot be read; the report has the reason already."""
    if "tfrecord" in source.path.name:
        return Stored("64x64", "rate not stated", "colour")
    images = [file for file in source.files if file.suffix.lower() in IMAGE_SUFFIXES]
    if images:
        frame = read_image(images[0])
        return Stored(f"{frame.shape[1]}x{frame.shape[0]}", "rate not stated", _channels(frame))
    if not source.files:
        raise InputError(f"{source.path}: no such file")
    with unpacked(source) as path:
        info = probe(path)
        with contextlib.closing(iterate_frames(path, chunk=1)) as frames:
            return Stored(f"{info.width}x{info.height}", f"{info.fps:.5g} fps", _channels(next(frames)[0]))


def _channels(frame: UInt8[np.ndarray, "h w c"]) -> str:
    return "gray" if np.ptp(frame.astype(np.int16), axis=-1).max() <= _NEARLY_GRAY else "colour"


def _digest(clips: Clips, clip: int) -> str:
    frames = clips.frames(clip, range(clips.lengths[clip]))
    return hashlib.blake2b(np.ascontiguousarray(frames), digest_size=16).hexdigest()
