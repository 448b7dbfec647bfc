"""Inspects a data set, to find out what it contains and whether training can start on it.

Everything is read: every video is decoded, the checksum of every record is verified, and clips are compared frame by
frame.
"""

import collections
import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from vidcomp_jax.data.clips import Clips, Split, num_windows, window_of
from vidcomp_jax.data.datasets import READERS, DataConfig, open_clips, sources_of
from vidcomp_jax.data.examples import epoch_size
from vidcomp_jax.data.sources import Reader, Source, in_parallel
from vidcomp_jax.errors import InputError
from vidcomp_jax.media.images import IMAGE_SUFFIXES, read_image
from vidcomp_jax.media.video import iterate_frames, probe_once

_NEARLY_GRAY = 8
_CAPTION = 14
_KINDS = ("sizes", "rates", "channels")
_BLOCK = 256


class Stored(NamedTuple):
    """Size, rate and channels of a video file, as text for counting."""

    size: str
    fps: str
    channels: str


class Windows(NamedTuple):
    """Training windows: frames of each, how many different ones there are, and how many an epoch draws."""

    num_frames: int
    total: int
    per_epoch: int


@dataclasses.dataclass(frozen=True)
class SplitReport:
    """One split of a data set.

    Attributes:
        clips: those that can be used; None if there are none.
        num_videos: number of files that clips are read from; 0 for drawn clips.
        stored: number of readable videos of each kind.
        subjects: names of the subjects that the clips show.
        too_short, unreadable: videos that are left out, with the reasons.
        problem: why training cannot start; empty if it can.
        digests: hashes of the frames of every clip.
        windows: of which training draws, if they are not the clips; otherwise None.
        remarks: lines on how the clips were made of the videos.
        seconds: duration of all readable video files, as stored.
    """

    clips: Clips | None
    num_videos: int
    stored: collections.Counter[Stored]
    subjects: list[str]
    too_short: list[str]
    unreadable: list[str]
    problem: str
    digests: list[str]
    windows: Windows | None = None
    remarks: Sequence[str] = ()
    seconds: float = 0.0

    @property
    def kinds(self) -> dict[str, str]:
        """The stored sizes, rates and channels, each with its number of videos, the most common first."""
        counts: dict[str, collections.Counter[str]] = {name: collections.Counter() for name in _KINDS}
        for stored, count in self.stored.items():
            for name, kind in zip(_KINDS, stored, strict=True):
                counts[name][kind] += count
        return {
            name: ", ".join(f"{kind} ({count})" for kind, count in counter.most_common())
            for name, counter in counts.items()
        }


def inspect_split(config: DataConfig, split: Split) -> SplitReport:
    """Read all of one split; problems are reported, not raised."""
    reader = READERS[config.kind]
    # Clips of one length can be compared, whatever windows training draws of them.
    kth = dataclasses.replace(config.kth, train_windows="fixed")
    skipping = dataclasses.replace(config, skip_unreadable=True, kth=kth)
    if reader.stored is not None:  # comparing frames as they are stored is ten times faster
        size, _, num_channels = reader.stored
        skipping = dataclasses.replace(skipping, size=size, num_channels=num_channels)
    try:
        sources = sources_of(skipping, split)
        clips = open_clips(skipping, split)
    except InputError as error:
        return SplitReport(None, 0, collections.Counter(), [], [], [], str(error), [])
    left_out, names = (getattr(clips, name, {}) for name in ("left_out", "unreadable"))
    unreadable = [left_out[name] for name in names]
    problem, windows = "", None
    try:
        windows = _windows(open_clips(config, split))
    except InputError as error:
        problem = str(error)
    if reader.strict and unreadable and not config.skip_unreadable:
        problem = unreadable[0]
    results = in_parallel(lambda source: _stored(source, reader), sources, f"measuring {split}")
    measured = [result for _, result in results if not isinstance(result, InputError)]
    remarks = [*getattr(clips, "remarks", ()), *_on_rates([rate for _, _, rate in measured], clips, config)]
    digests = []
    for clip, digest in in_parallel(lambda clip: _digest(clips, clip), range(len(clips.names)), f"comparing {split}"):
        if isinstance(digest, InputError):  # damaged since it was looked at first
            unreadable.append(str(digest))
            problem = problem or str(digest)
        digests.append(f"{split} {clip}" if isinstance(digest, InputError) else digest)
    return SplitReport(
        clips,
        len(sources),
        collections.Counter(kind for kind, _, _ in measured),
        sorted({reader.subject_of(name) for name in clips.names}),
        [reason for name, reason in left_out.items() if name not in names],
        unreadable,
        problem,
        digests,
        windows,
        remarks,
        sum((seconds for _, seconds, _ in measured), 0.0),
    )


def duplicates(first: SplitReport, second: SplitReport) -> list[tuple[str, str]]:
    """Pairs of clips, one of each report, with the same frames; of different clips if both reports are the same."""
    if first.clips is None or second.clips is None:
        return []
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
    """An image of random clips of each of `clips`: one row per clip, with evenly spaced frames and its name above."""
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


def _windows(clips: Clips) -> Windows | None:
    window = window_of(clips)
    return None if window is None else Windows(window, num_windows(clips, window), epoch_size(clips))


def _on_rates(rates: Sequence[float], clips: Clips, config: DataConfig) -> Iterator[str]:
    """What there is to say about the frame rates of the videos in a folder; those of images are 0."""
    if config.kind != "folder":
        return
    slower = sum(0 < rate < 0.999 * clips.fps for rate in rates)
    if config.folder.fps is None and slower + sum(rate > 1.001 * clips.fps for rate in rates):
        yield f"the frame rates differ, and are all treated as {clips.fps:g} fps; `folder.fps` samples all at one rate"
    elif config.folder.fps is not None and slower:
        yield f"videos with less than {clips.fps:g} frames per second: {slower}; some of their frames are repeated"


def _thumbnail(frame: UInt8[np.ndarray, "h w c"], size: int) -> UInt8[np.ndarray, "size size 3"]:
    image = Image.fromarray(np.broadcast_to(frame, (*frame.shape[:2], 3)))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def _stored(source: Source, reader: Reader) -> tuple[Stored, float, float]:
    """Describe a video file, with its seconds and frames per second, or zeros if it does not state them.

    Raises an InputError if it cannot be read, which the report already mentions.
    """
    if reader.stored is not None:
        height, width, channels = reader.stored
        return Stored(f"{width}x{height}", "rate not stated", "gray" if channels == 1 else "color"), 0.0, 0.0
    images = [file for file in source.files if file.suffix.lower() in IMAGE_SUFFIXES]
    if images:
        frame = read_image(images[0])
        return Stored(f"{frame.shape[1]}x{frame.shape[0]}", "rate not stated", _channels(frame)), 0.0, 0.0
    if not source.files:
        raise InputError(f"{source.path}: no such file")
    with reader.file_of(source) as path:
        info = probe_once(path)
        with contextlib.closing(iterate_frames(path, chunk=1)) as frames:
            kind = Stored(f"{info.width}x{info.height}", f"{info.fps:.5g} fps", _channels(next(frames)[0]))
            return kind, info.num_frames / info.fps, info.fps


def _channels(frame: UInt8[np.ndarray, "h w c"]) -> str:
    return "gray" if np.ptp(frame.astype(np.int16), axis=-1).max() <= _NEARLY_GRAY else "color"


def _digest(clips: Clips, clip: int) -> str:
    digest, length = hashlib.blake2b(digest_size=16), int(clips.lengths[clip])
    for start in range(0, length, _BLOCK):
        digest.update(np.ascontiguousarray(clips.frames(clip, range(start, min(start + _BLOCK, length)))).data)
    return digest.hexdigest()
