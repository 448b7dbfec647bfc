"""Collects the frames of a video while it is decoded: in memory, or on disk if they are many."""

import tempfile
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import UInt8

_MEMORY_BYTES = 2**26


class CollectedFrames:
    """Frames that arrive in chunks.

    Beyond `memory` bytes they are written to a temporary file without a name, which is gone when the array is, and
    when the process ends in whatever way.

    Args:
        frame_shape: height, width and channels.
        folder: where the temporary file is; created if it is needed.
        memory: most bytes to hold in memory.
    """

    def __init__(self, frame_shape: tuple[int, int, int], folder: Path, memory: int = _MEMORY_BYTES):
        self._shape, self._folder, self._memory = frame_shape, folder, memory
        self._chunks: list[np.ndarray] = []
        self._held = self._count = 0
        self._file: IO[bytes] | None = None

    def add(self, frames: UInt8[np.ndarray, "t h w c"]) -> None:
        """Append frames; raises `OSError` if the disk is full."""
        self._count += len(frames)
        self._held += frames.nbytes
        self._chunks.append(frames)
        if self._file is None and self._held > self._memory:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 (the array keeps it)
        if self._file is not None:
            for chunk in self._chunks:
                self._file.write(np.ascontiguousarray(chunk).data)
            self._chunks = []

    def array(self) -> UInt8[np.ndarray, "t h w c"]:
        """All frames, in order; those on disk are mapped into memory."""
        if self._file is None:
            return np.concatenate([np.empty((0, *self._shape), np.uint8), *self._chunks])
        self._file.flush()
        return np.memmap(self._file, np.uint8, "r", shape=(self._count, *self._shape))
