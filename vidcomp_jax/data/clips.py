"""The interface of a data set: clips with random access to their frames.

Every reader of this package returns an object with the attributes of `Clips`; batches, motion extraction and
evaluation use nothing else of a data set.
"""

import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, UInt8

from vidcomp_jax.errors import InputError

Split = Literal["train", "test"]
"""The two splits of every data set."""

Channels = Literal[1, 3]
"""Gray or RGB."""

_BLOCK = 512

Index = int | np.integer
Indices = Sequence[int] | np.ndarray


@runtime_checkable
class Clips(Protocol):
    """A set of clips with random access to their frames; safe to read from several threads.

    Clips that can be pickled can also be read in several processes (`workers` of `pairs` and `windows`).

    Attributes:
        names: unique names of the clips.
        lengths: number of frames of every clip, int [n].
        subjects: index of the subject that each clip shows, int [n], from 0 without gaps. One epoch visits every
            subject once, with one of its clips drawn at random; with `arange(n)` it visits every clip.
        fps: frames per second.
        frame_shape: height, width and channels (1 or 3) of every frame.
    """

    names: Sequence[str]
    lengths: np.ndarray
    subjects: np.ndarray
    fps: float
    frame_shape: tuple[int, int, int]

    def frames(self, clip: Index, indices: Indices) -> UInt8[np.ndarray, "t h w c"]:
        """Frames `indices` (0-based, any order) of clip number `clip`."""
        ...


def window_of(clips: Clips) -> int | None:
    """The length of the windows that training draws of the clips, or None if every clip is a training clip itself.

    Clips that are recordings of different lengths have an attribute `window`. A window starts at any frame of a clip,
    a training pair is drawn within one, and an epoch visits a clip as often as whole windows fit into it.
    """
    return getattr(clips, "window", None)


def num_windows(clips: Clips, num_frames: int) -> int:
    """The number of different windows of `num_frames` consecutive frames."""
    return int(np.maximum(np.asarray(clips.lengths) - num_frames + 1, 0).sum())


def copy_frames(clips: Clips, clip: Index, indices: Indices, to: UInt8[np.ndarray, "t h w c"]) -> None:
    """Copy frames of a clip to an array; clips with a method `copy_frames` do so without another array for them."""
    kind = type(clips)
    own = next((base for base in kind.__mro__ if "frames" in vars(base) or "copy_frames" in vars(base)), kind)
    # A class that changes `frames` and inherits `copy_frames` means its own frames.
    if "copy_frames" in vars(own):
        clips.copy_frames(clip, indices, to)  # type: ignore[attr-defined]
    else:
        to[:] = clips.frames(clip, indices)


def spread(count: int, most: int) -> Int[np.ndarray, " n"]:
    """Up to `most` evenly spaced numbers below `count`, including the first and the last.

    Data sets are ordered by action, person or recording, so the first clips alone are not representative.
    """
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)


def spread_long(lengths: Int[np.ndarray, " n"], num_frames: int, most: int) -> Int[np.ndarray, " m"]:
    """Indices of up to `most` clips with at least `num_frames` frames, spread evenly over all such clips."""
    usable = np.flatnonzero(np.asarray(lengths) >= num_frames)
    return usable[spread(len(usable), most)]


class ArrayClips:
    """Clips stored one after another in one array, which may be a memory-mapped file.

    The attributes are those of `Clips`, and `left_out`, which maps the names of videos that the reader did not use to
    the reasons. Those that could not be read are named in `unreadable`; the others are too short. `window` is explained
    at `window_of`.

    With `checksums`, those of `checksums_of` for every clip, a clip is verified when it is first read; of a long clip,
    the part that is read. If it is damaged, `frames` raises an `InputError` that names `place`.

    `scores` are, if scenes are wanted, how likely a scene begins with each frame of every clip.
    """

    def __init__(
        self,
        array: UInt8[np.ndarray, "frames h w c"],
        lengths: Sequence[int] | Int[np.ndarray, " n"],
        *,
        fps: float = 25.0,
        names: Sequence[str] | None = None,
        subjects: Sequence[int] | Int[np.ndarray, " n"] | None = None,
        left_out: Mapping[str, str] | None = None,
        unreadable: Collection[str] = (),
        checksums: Sequence[int | Sequence[int]] | None = None,
        place: str = "the array",
        window: int | None = None,
        scores: Sequence[Sequence[float]] = (),
    ):
        self.lengths = np.asarray(lengths, np.int64)
        if self.lengths.sum() != len(array):
            raise ValueError(f"lengths add up to {self.lengths.sum()} frames, the array holds {len(array)}")
        self.names: Sequence[str]
        self.names = list(names) if names is not None else [f"clip{i:05d}" for i in range(len(self.lengths))]
        self.subjects = np.arange(len(self.lengths)) if subjects is None else np.asarray(subjects, np.int64)
        self.fps = float(fps)
        height, width, channels = array.shape[1:]
        self.frame_shape = (int(height), int(width), int(channels))
        self.left_out, self.unreadable = dict(left_out or {}), list(unreadable)
        self.window, self.scores = window, scores
        self._array = array
        self._starts = np.cumsum(self.lengths) - self.lengths
        if checksums is not None and len(checksums) != len(self.lengths):
            raise ValueError(f"{len(checksums)} checksums of {len(self.lengths)} clips")
        for length, values in zip(self.lengths, checksums or (), strict=checksums is not None):
            if not isinstance(values, int) and len(values) != -(-int(length) // _BLOCK):
                raise ValueError(f"{len(values)} checksums of a clip of {length} frames")
        if scores and [len(values) for values in scores] != self.lengths.tolist():
            raise ValueError("the scores are not those of the frames")
        self._checksums, self._place = checksums, place
        self._verified: set[tuple[int, int]] = set()

    def frames(self, clip: Index, indices: Indices) -> UInt8[np.ndarray, "t h w c"]:
        """Frames `indices` of clip number `clip`; see `Clips.frames`."""
        return self._array[self._places(clip, indices)]

    def copy_frames(self, clip: Index, indices: Indices, to: UInt8[np.ndarray, "t h w c"]) -> None:
        """Copy frames `indices` of clip number `clip` to an array, without making another one for them."""
        for target, place in zip(to, self._places(clip, indices), strict=True):
            target[...] = self._array[place]

    def _places(self, clip: Index, indices: Indices) -> Int[np.ndarray, " t"]:
        numbers = checked(indices, self.lengths[clip])
        if self._checksums is not None:
            expected = self._checksums[int(clip)]
            blocks = [0] if isinstance(expected, int) else set((numbers // _BLOCK).tolist())
            for block in blocks:
                if (int(clip), block) not in self._verified:
                    self._verify(int(clip), block)
        return self._starts[clip] + numbers

    def __getstate__(self) -> dict:
        """The array itself is not copied to another process if it is mapped from a file."""
        mapped = _mapped(self._array)
        return vars(self) if mapped is None else vars(self) | {"_array": mapped}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        if isinstance(self._array, _Mapped):
            self._array = np.asarray(np.memmap(self._array.path, np.uint8, "r", *self._array[1:]))

    def _verify(self, clip: int, block: int) -> None:
        assert self._checksums is not None
        expected, frames = self._checksums[clip], self._array[self._starts[clip] :][: self.lengths[clip]]
        if not isinstance(expected, int):
            frames, expected = frames[block * _BLOCK :][:_BLOCK], expected[block]
        if zlib.crc32(np.ascontiguousarray(frames).data) != expected:
            raise InputError(
                f"{self._place}: this cache was damaged, the frames of {self.names[clip]} are not those that were "
                "written; delete the folder, and it is written again"
            )
        self._verified.add((clip, block))


def checksums_of(frames: UInt8[np.ndarray, "t h w c"]) -> int | list[int]:
    """The CRC-32 of the frames of a clip; of a long clip, those of its blocks of 512 frames."""
    blocks = [frames[start : start + _BLOCK] for start in range(0, max(len(frames), 1), _BLOCK)]
    found = [zlib.crc32(np.ascontiguousarray(block).data) for block in blocks]
    return found[0] if len(found) == 1 else found


class _Mapped(NamedTuple):
    """An array that is mapped from a file: the file, where it begins there, and its shape."""

    path: str
    offset: int
    shape: tuple[int, ...]


def _mapped(array: np.ndarray) -> _Mapped | None:
    """Where the array is mapped from, or None if it is not mapped or not contiguous."""
    base: Any = array
    while isinstance(base.base, np.ndarray):  # a slice of a mapped array is one as well, but begins elsewhere
        base = base.base
    # What was written to a copy-on-write mapping is not in the file.
    if not isinstance(base, np.memmap) or base.filename is None or base.mode == "c":
        return None
    if not array.flags.c_contiguous or array.dtype != np.uint8:
        return None
    return _Mapped(str(base.filename), base.offset + array.ctypes.data - base.ctypes.data, array.shape)


def checked(indices: Indices, length: Index) -> Int[np.ndarray, " t"]:
    """`indices` as an array; raises `IndexError` unless all are within a clip of `length` frames."""
    indices = np.asarray(indices, np.int64)
    if indices.size and (indices.min() < 0 or indices.max() >= length):
        raise IndexError(f"frames {indices.min()} to {indices.max()} were requested, of a clip of {length} frames")
    return indices
