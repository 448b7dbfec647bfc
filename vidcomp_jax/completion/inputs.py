"""Reads the first and last frames of the clips to complete, from videos, pairs of images or a data set.

The frames between them are read as well where they are known, to score the results.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from vidcomp_jax.completion.completers import KnownFrames, known_ends
from vidcomp_jax.data.clips import Clips, spread_long
from vidcomp_jax.data.sources import natural_order
from vidcomp_jax.errors import InputError
from vidcomp_jax.media.images import IMAGE_SUFFIXES, center_square, read_image, resize, to_float
from vidcomp_jax.media.video import VIDEO_SUFFIXES, probe, read_frames

PAGE = "index.html"
SCORES = "scores.json"
"""Names of files written beside the clips' folders, and therefore not used for clips."""


class ClipEnds(NamedTuple):
    """The first and the last frame of a clip to complete.

    Attributes:
        name: unique, and valid as a folder name.
        first, last: the given frames, in [0, 1].
        truth: the true frames, both ends included, one for each frame to generate; None if not known.
        fps: frames per second for playback.
    """

    name: str
    first: Float[np.ndarray, "h w c"]
    last: Float[np.ndarray, "h w c"]
    truth: Float[np.ndarray, "t h w c"] | None
    fps: float


def ends_of_files(
    paths: Sequence[Path], num_frames: int, *, num_channels: int, size: int | None = None, fps: float = 25.0
) -> list[ClipEnds]:
    """Read the first and last frames of videos and of pairs of images.

    Args:
        paths: two image files, the first and the last frame; or any number of video files and folders. A folder
            may contain videos, images (the first and the last by name are used), and folders of these.
        num_frames: number of frames to generate. The truth of a longer video consists of its frames nearest in time.
            Clips play as long as their videos.
        num_channels: 1 for gray, 3 for RGB.
        size: crop frames to the center square and resize it to this many pixels; None leaves them unchanged.
        fps: frames per second for images.

    Raises:
        InputError: no clips are found, a file cannot be read, a clip has only one frame, or frames differ in size.
    """

    def fit(frames: UInt8[np.ndarray, "t h w c"]) -> UInt8[np.ndarray, "t h2 w2 c"]:
        return resize(center_square(frames), size) if size else frames

    def ends(name: str, frames: UInt8[np.ndarray, "t h w c"], truth: bool, rate: float) -> ClipEnds:
        values = to_float(frames)
        return ClipEnds(name, values[0], values[-1], values if truth else None, rate)

    def video(path: Path) -> ClipEnds:
        info = probe(path)
        if info.num_frames < 2:
            raise InputError(f"{path}: one frame; a first and a last one are needed")
        known = info.num_frames >= num_frames
        times = np.linspace(0, info.num_frames - 1, num_frames if known else 2).round().astype(int)
        frames = read_frames(path, num_channels=num_channels, indices=times.tolist())
        return ends(path.stem, fit(frames), known, info.fps * (num_frames - 1) / (info.num_frames - 1))

    def pair(name: str, images: Sequence[Path]) -> ClipEnds:
        if len(images) < 2:
            raise InputError(f"{images[0]}: one image; a first and a last one are needed")
        frames = [fit(read_image(path, num_channels=num_channels)[None]) for path in (images[0], images[-1])]
        if frames[0].shape != frames[1].shape:
            shapes = " and ".join(f"{x.shape[2]}x{x.shape[1]}" for x in frames)
            raise InputError(
                f"{images[0]} and {images[-1]}: frames of {shapes} pixels; give `resize`=N to make them equal"
            )
        return ends(name, np.concatenate(frames), False, fps)

    def folder(path: Path) -> Iterator[ClipEnds]:
        shown = (entry for entry in path.iterdir() if not entry.name.startswith("."))
        entries = sorted(shown, key=lambda entry: natural_order(entry.name))
        if images := [entry for entry in entries if entry.suffix.lower() in IMAGE_SUFFIXES]:
            yield pair(path.resolve().name, images)
        for entry in entries:
            if entry.is_dir():
                yield from folder(entry)
            elif entry.suffix.lower() in VIDEO_SUFFIXES:
                yield video(entry)

    images = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]
    if images and (len(images) != 2 or len(paths) != 2):
        raise InputError(
            f"`input` holds {len(images)} image files among {len(paths)} paths; give the first and the last frame, or "
            "folders"
        )
    found = [pair(f"{images[0].stem}-{images[1].stem}", images)] if images else []
    for path in paths if not images else ():
        if path.is_dir():
            found += folder(path)
        elif path.suffix.lower() in VIDEO_SUFFIXES or not path.exists():
            found.append(video(path))
        else:
            raise InputError(f"{path}: neither a folder nor a video ({', '.join(VIDEO_SUFFIXES)}) nor an image")
    if not found:
        raise InputError(f"{', '.join(map(str, paths))}: no videos and no images")
    _check_sizes(found)
    return _with_unique_names(found)


def ends_of_clips(clips: Clips, num_frames: int, max_clips: int) -> list[ClipEnds]:
    """Read the first `num_frames` frames of up to `max_clips` clips, evenly spaced among those that are long enough.

    Raises:
        InputError: no clip is long enough.
    """
    chosen = spread_long(clips.lengths, num_frames, max_clips)
    if not len(chosen):
        raise InputError(
            f"`num_frames` is {num_frames}; the longest of {len(clips.names)} clips has {clips.lengths.max()}"
        )
    found = []
    for clip in chosen:
        truth = to_float(clips.frames(clip, np.arange(num_frames)))
        found.append(ClipEnds(str(clips.names[clip]).replace("/", "-"), truth[0], truth[-1], truth, float(clips.fps)))
    return _with_unique_names(found)


def known_frames(clips: Sequence[ClipEnds], num_frames: int) -> KnownFrames:
    """The ends of clips of `num_frames` frames, as one batch of known frames."""
    return known_ends(np.stack([clip.first for clip in clips]), np.stack([clip.last for clip in clips]), num_frames)


def _check_sizes(clips: list[ClipEnds]) -> None:
    for clip in clips:
        if clip.first.shape != clips[0].first.shape:
            sizes = " and ".join(f"{c.name} with {c.first.shape[1]}x{c.first.shape[0]}" for c in (clips[0], clip))
            raise InputError(f"frames of different sizes, {sizes} pixels; give `resize`=N to make them equal")


def _with_unique_names(clips: list[ClipEnds]) -> list[ClipEnds]:
    taken = {PAGE, SCORES}
    named = []
    for clip in clips:
        numbered = (f"{clip.name}-{i}" for i in itertools.count(2))
        name = next(name for name in itertools.chain([clip.name], numbered) if name not in taken)
        taken.add(name)
        named.append(clip._replace(name=name))
    return named
