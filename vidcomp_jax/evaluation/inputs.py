"""Video files as clips to evaluate, without a data set.

Input: videos, or folders of them. Output: clips of equal length, decoded one at a time as they are needed.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from vidcomp_jax.data.clips import Index, Indices, checked
from vidcomp_jax.data.sources import natural_order
from vidcomp_jax.errors import InputError
from vidcomp_jax.media.images import center_square, resize
from vidcomp_jax.media.video import VIDEO_SUFFIXES, VideoInfo, probe, read_frames
from vidcomp_jax.storage.untrusted import check_name


class VideoClips:
    """One clip of each video: `num_frames` of its frames, at even distances in time; attributes are those of `Clips`.

    Args:
        paths: videos, and folders whose videos are used, those of their folders included.
        num_frames: number of frames of every clip.
        num_channels: 1 for gray, 3 for RGB.
        size: crop frames to the center square and resize it to this many pixels; None leaves them unchanged.

    Raises:
        InputError: there are no videos, or one cannot be read, is too short, or differs in size from the others.
    """

    def __init__(self, paths: Sequence[Path], num_frames: int, *, num_channels: int, size: int | None = None):
        self._paths = [path for given in paths for path in _videos(given)]
        if not self._paths:
            raise InputError(f"{', '.join(map(str, paths))}: no videos ({', '.join(VIDEO_SUFFIXES)})")
        found = [probe(path) for path in self._paths]
        for path, info in zip(self._paths, found, strict=True):
            self._check(path, info, found[0], num_frames, size)
        height, width = (size, size) if size else (found[0].height, found[0].width)
        self._counts, self._size = [info.num_frames for info in found], size
        self.names: Sequence[str] = list(map(str, self._paths))
        self.lengths = np.full(len(found), num_frames)
        self.subjects = np.arange(len(found))
        self.fps = found[0].fps * (num_frames - 1) / max(found[0].num_frames - 1, 1)
        self.frame_shape = (height, width, num_channels)

    def frames(self, clip: Index, indices: Indices) -> UInt8[np.ndarray, "t h w c"]:
        """Frames `indices` of clip number `clip`; see `Clips.frames`."""
        length = self.lengths[clip]
        wanted = np.linspace(0, self._counts[clip] - 1, length).round().astype(int)[checked(indices, length)]
        frames = read_frames(self._paths[clip], num_channels=self.frame_shape[2], indices=wanted.tolist())
        return resize(center_square(frames), self._size) if self._size else frames

    def _check(self, path: Path, info: VideoInfo, first: VideoInfo, num_frames: int, size: int | None) -> None:
        if info.num_frames < num_frames:
            raise InputError(f"{path}: {info.num_frames} frames; with `num_frames`={num_frames} it needs as many")
        if not size and (info.width, info.height) != (first.width, first.height):
            raise InputError(
                f"{path}: frames of {info.width}x{info.height} pixels, those of {self._paths[0]} have "
                f"{first.width}x{first.height}; give `resize`=N to make them equal"
            )


def _videos(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    names = (inner.relative_to(path).as_posix() for inner in path.rglob("*") if inner.suffix.lower() in VIDEO_SUFFIXES)
    for name in sorted(names, key=natural_order):
        if not any(part.startswith(".") for part in Path(name).parts):
            check_name(path / name)
            yield path / name
