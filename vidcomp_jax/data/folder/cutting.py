"""Cuts videos into clips: of one length, or one for each scene."""

import logging
from collections.abc import Iterator

import numpy as np

from vidcomp_jax.data.clips import ArrayClips
from vidcomp_jax.data.folder.config import FolderConfig
from vidcomp_jax.data.folder.streamed import StreamedClips
from vidcomp_jax.data.parts import Part, PartClips
from vidcomp_jax.errors import InputError

_log = logging.getLogger(__name__)


def cut_videos(videos: ArrayClips | StreamedClips, config: FolderConfig, label: str) -> PartClips:
    """The clips of videos, named `VIDEO#first-last` after the frames that they consist of, counted from 0.

    Their attribute `remarks` says how the videos were cut, and which frames are in no clip.

    Raises:
        InputError: there is no clip.
    """
    parts: list[Part] = []
    left_out, unused, changes = dict(videos.left_out), 0, _Changes(config.scene_threshold)
    for number, (name, length) in enumerate(zip(videos.names, videos.lengths.tolist(), strict=True)):
        if config.cut == "fixed":
            ranges, least = list(_fixed(length, config.num_frames)), config.num_frames
        else:
            scores = np.asarray(videos.scores[number])
            changes.add(scores)
            ranges, least = list(_scenes(scores, config.scene_threshold)), config.min_frames
        used = [(start, stop) for start, stop in ranges if stop - start >= least]
        parts += [Part(f"{name}#{start}-{stop - 1}", number, start, stop - start) for start, stop in used]
        unused += length - sum(stop - start for start, stop in used)
        if not used:
            left_out[name] = _reason(name, length, len(ranges), config)
    if not parts:
        reason = next(left_out[name] for name in videos.names)
        raise InputError(f"{label}: none of {len(left_out)} videos gives a clip; for instance {reason}")
    clips = PartClips(videos, parts, left_out=left_out, unreadable=videos.unreadable)
    total = int(videos.lengths.sum())
    clips.remarks = [
        f"cut into {len(parts)} {'scenes' if config.cut == 'scenes' else 'clips'}; {_share(unused, total)}"
    ]
    if config.cut == "scenes":
        clips.remarks.append(changes.describe())
    videos.scores = ()  # no longer of use, and would be copied to every reader process
    if unused:
        _log.warning("%s: %s", label, clips.remarks[0])
    return clips


def _fixed(length: int, num_frames: int) -> Iterator[tuple[int, int]]:
    return ((start, start + num_frames) for start in range(0, length - num_frames + 1, num_frames))


def _scenes(scores: np.ndarray, threshold: float) -> Iterator[tuple[int, int]]:
    starts = [0, *np.flatnonzero(scores >= threshold).tolist()]
    return zip(starts, [*starts[1:], len(scores)], strict=True)


class _Changes:
    """Remembers the scores next to the threshold on either side, to show how well it divides them."""

    def __init__(self, threshold: float):
        self._threshold = threshold
        self._below, self._above = 0.0, np.inf

    def add(self, scores: np.ndarray) -> None:
        above = scores >= self._threshold
        self._below = max(self._below, scores.max(where=~above, initial=0.0))
        self._above = min(self._above, scores.min(where=above, initial=np.inf))

    def describe(self) -> str:
        least = f"the weakest change of scene scores {self._above:g}, and " if self._above < np.inf else ""
        within = f"the strongest change within a scene {self._below:g}"
        return f"{least}{within}; `folder.scene_threshold` is {self._threshold:g}"


def _share(unused: int, total: int) -> str:
    return f"{unused} of {total} frames ({unused / total:.1%}) are in no clip" if unused else "every frame is in a clip"


def _reason(name: str, length: int, num_scenes: int, config: FolderConfig) -> str:
    if config.cut == "fixed":
        return f"{name}: {length} frames, a clip has {config.num_frames} (`folder.num_frames`)"
    scenes = "its only scene has" if num_scenes == 1 else f"each of its {num_scenes} scenes has"
    return f"{name}: {scenes} fewer than {config.min_frames} frames (`folder.min_frames`)"
