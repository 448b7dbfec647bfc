"""Clips that are parts of longer ones, without a copy of their frames."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from vidcomp_jax.data.clips import Clips, Index, Indices, checked, copy_frames


class Part(NamedTuple):
    """Consecutive frames of a clip: a unique name, the number of the clip, the first frame, and their number."""

    name: str
    clip: int
    start: int
    length: int


class PartClips:
    """Parts of the clips `whole`, each its own subject; the attributes are those of `ArrayClips`.

    `remarks` are lines that describe how the clips were cut.
    """

    def __init__(
        self,
        whole: Clips,
        parts: Sequence[Part],
        *,
        left_out: Mapping[str, str] | None = None,
        unreadable: Collection[str] = (),
    ):
        self.names: Sequence[str] = [part.name for part in parts]
        self.lengths = np.array([part.length for part in parts], np.int64)
        self.subjects = np.arange(len(parts))
        self.fps, self.frame_shape = whole.fps, whole.frame_shape
        self.left_out, self.unreadable = dict(left_out or {}), list(unreadable)
        self.remarks: list[str] = []
        self._whole, self._parts = whole, list(parts)

    def frames(self, clip: Index, indices: Indices) -> UInt8[np.ndarray, "t h w c"]:
        """Frames `indices` of clip number `clip`; see `Clips.frames`."""
        part = self._parts[clip]
        return self._whole.frames(part.clip, part.start + checked(indices, part.length))

    def copy_frames(self, clip: Index, indices: Indices, to: UInt8[np.ndarray, "t h w c"]) -> None:
        """Copy frames `indices` of clip number `clip` to an array."""
        part = self._parts[clip]
        copy_frames(self._whole, part.clip, part.start + checked(indices, part.length), to)
