"""Reads the given frames of the clips to complete, from videos, images or a data set.

The true frames between them are read as well where there are any, to score the results.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from vidcomp_jax.completion.completers import KnownFrames
from vidcomp_jax.data.clips import Clips, spread_long
from vidcomp_jax.data.sources import natural_order
from vidcomp_jax.errors import InputError
from vidcomp_jax.media.images import IMAGE_SUFFIXES, center_square, read_image, resize, to_float
from vidcomp_jax.media.video import VIDEO_SUFFIXES, probe, read_frames
from vidcomp_jax.motion.known import check_times
from vidcomp_jax.storage.atomic import name_of_file
from vidcomp_jax.storage.untrusted import Visited, check_name

PAGE = "index.html"
SCORES = "scores.json"
"""Names of files written beside the clips' folders, and therefore not used for clips."""


class GivenClip(NamedTuple):
    """The given frames of a clip to complete.

    Attributes:
        name: unique, and valid as a folder name.
        known: the given frames, in [0, 1].
        truth: the true frames, the given ones included, one for each frame to generate; None if there are none.
        fps: frames per second for playback.
    """

    name: str
    known: Float[np.ndarray, "n h w c"]
    truth: Float[np.ndarray, "t h w c"] | None
    fps: float


def known_times(num_frames: int, times: Sequence[int] = ()) -> tuple[int, ...]:
    """The numbers of the given frames in clips of `num_frames` frames: the two ends, or `times` if not empty.

    Raises:
        InputError: `num_frames` is below 2, or `times` are not ascending numbers of frames of the clip.
    """
    if num_frames < 2:
        raise InputError(f"`num_frames` is {num_frames}; a clip has at least its first and its last frame, 2")
    times = tuple(times) or (0, num_frames - 1)
    return check_times(times, len(times), num_frames)


def clips_of_files(
    paths: Sequence[Path],
    num_frames: int,
    times: Sequence[int] = (),
    *,
    num_channels: int,
    size: int | None = None,
    fps: float = 25.0,
) -> list[GivenClip]:
    """Read the given frames of videos and of sets of images.

    Args:
        paths: image files, one for each given frame; or any number of video files and folders. A folder may contain
            videos, images (one for each given frame, in the order of their names; if the two ends are given, the first
            and the last of any number), and folders of these.
        num_frames: number of frames to generate. The truth of a longer video consists of its frames nearest in time.
            Clips play as long as their videos.
        times: numbers of the given frames in the clip; the first and the last by default.
        num_channels: 1 for gray, 3 for RGB.
        size: crop frames to the center square and resize it to this many pixels; None leaves them unchanged.
        fps: frames per second for images.

    Raises:
        InputError: no clips are found, a file cannot be read, a clip has too few frames, or frames differ in size.
    """
    times = known_times(num_frames, times)
    ends_given = times == (0, num_frames - 1)

    def fit(frames: UInt8[np.ndarray, "t h w c"]) -> UInt8[np.ndarray, "t h2 w2 c"]:
        return resize(center_square(frames), size) if size else frames

    def video(path: Path) -> GivenClip:
        info = probe(path)
        if info.num_frames < 2:
            raise InputError(f"{path}: one frame; a first and a last one are needed")
        complete = info.num_frames >= num_frames
        if not complete and not ends_given:
            raise InputError(
                f"{path}: {info.num_frames} frames; a video needs at least {num_frames} to give the frames "
                f"{', '.join(map(str, times))} of a clip of {num_frames}"
            )
        wanted = np.linspace(0, info.num_frames - 1, num_frames if complete else 2).round().astype(int)
        frames = fit(read_frames(path, num_channels=num_channels, indices=wanted.tolist()))
        values = to_float(frames)
        known = values[list(times)] if complete else values
        return GivenClip(
            path.stem, known, values if complete else None, info.fps * (num_frames - 1) / (info.num_frames - 1)
        )

    def pictures(name: str, images: Sequence[Path]) -> GivenClip:
        if ends_given:
            if len(images) < 2:
                raise InputError(f"{images[0]}: one image; a first and a last one are needed")
            images = images[0], images[-1]
        elif len(images) != len(times):
            raise InputError(
                f"{images[0].parent}: {len(images)} images; {len(times)} frames are given, "
                f"{', '.join(map(str, times))}, so {len(times)} images are needed"
            )
        frames = [fit(read_image(path, num_channels=num_channels)[None]) for path in images]
        for path, frame in zip(images, frames, strict=True):
            if frame.shape != frames[0].shape:
                shapes = " and ".join(f"{x.shape[2]}x{x.shape[1]}" for x in (frames[0], frame))
                raise InputError(
                    f"{images[0]} and {path}: frames of {shapes} pixels; give `resize`=N to make them equal"
                )
        return GivenClip(name, to_float(np.concatenate(frames)), None, fps)

    def folder(path: Path, visited: Visited) -> Iterator[GivenClip]:
        shown = (entry for entry in path.iterdir() if not entry.name.startswith("."))
        entries = sorted(shown, key=lambda entry: natural_order(entry.name))
        for entry in entries:
            check_name(entry)
        if images := [entry for entry in entries if entry.suffix.lower() in IMAGE_SUFFIXES]:
            yield pictures(path.resolve().name, images)
        for entry in entries:
            if entry.is_dir():
                if visited.is_new(entry):
                    yield from folder(entry, visited)
            elif entry.suffix.lower() in VIDEO_SUFFIXES:
                yield video(entry)

    images = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]
    if images and (len(images) != len(times) or len(images) != len(paths)):
        wanted = "the first and the last frame" if ends_given else f"one for each of the {len(times)} given frames"
        raise InputError(f"`input` holds {len(images)} image files among {len(paths)} paths; give {wanted}, or folders")
    found = [pictures(f"{images[0].stem}-{images[-1].stem}", images)] if images else []
    for path in paths if not images else ():
        if path.is_dir():
            found += folder(path, Visited(path))
        elif path.suffix.lower() in VIDEO_SUFFIXES or not path.exists():
            found.append(video(path))
        else:
            raise InputError(f"{path}: neither a folder nor a video ({', '.join(VIDEO_SUFFIXES)}) nor an image")
    if not found:
        raise InputError(f"{', '.join(map(str, paths))}: no videos and no images")
    _check_sizes(found)
    return _with_unique_names(found)


def clips_of_data(clips: Clips, num_frames: int, max_clips: int, times: Sequence[int] = ()) -> list[GivenClip]:
    """Read the first `num_frames` frames of up to `max_clips` clips, evenly spaced among those that are long enough.

    Args:
        clips: the clips of a data set.
        num_frames: number of frames to generate.
        max_clips: maximum number of clips.
        times: numbers of the given frames; the first and the last by default.

    Raises:
        InputError: no clip is long enough.
    """
    times = known_times(num_frames, times)
    chosen = spread_long(clips.lengths, num_frames, max_clips)
    if not len(chosen):
        raise InputError(
            f"`num_frames` is {num_frames}; the longest of {len(clips.names)} clips has {clips.lengths.max()}"
        )
    found = []
    for clip in chosen:
        truth = to_float(clips.frames(clip, np.arange(num_frames)))
        name = str(clips.names[clip]).replace("/", "-")
        found.append(GivenClip(name, truth[list(times)], truth, float(clips.fps)))
    return _with_unique_names(found)


def known_frames(clips: Sequence[GivenClip], num_frames: int, times: Sequence[int] = ()) -> KnownFrames:
    """The given frames of clips of `num_frames` frames as one batch; `times` as for `clips_of_data`."""
    return KnownFrames(np.stack([clip.known for clip in clips]), known_times(num_frames, times))


def _check_sizes(clips: list[GivenClip]) -> None:
    for clip in clips:
        if clip.known.shape != clips[0].known.shape:
            sizes = " and ".join(f"{c.name} with {c.known.shape[2]}x{c.known.shape[1]}" for c in (clips[0], clip))
            raise InputError(f"frames of different sizes, {sizes} pixels; give `resize`=N to make them equal")


def _with_unique_names(clips: list[GivenClip]) -> list[GivenClip]:
    taken = {PAGE, SCORES}
    named = []
    for clip in clips:
        given = name_of_file(clip.name)
        numbered = (f"{given}-{i}" for i in itertools.count(2))
        name = next(name for name in itertools.chain([given], numbered) if name not in taken)
        taken.add(name)
        named.append(clip._replace(name=name))
    return named
