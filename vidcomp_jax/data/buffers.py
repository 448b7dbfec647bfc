"""Memory for batches that is used again, because memory that is new to the process is several times as slow to fill.

A batch is handed out as views of a buffer. Whoever keeps one, or an array that shares its memory (a slice, a tensor of
another library, a JAX array on a CPU), also keeps a reference to the buffer, and a buffer is filled again only when
nobody but this module has one.
"""

import sys
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8


class Buffers:
    """A few arrays of one shape.

    Args:
        make: makes an uninitialized array.
        count: how many are kept.
    """

    def __init__(self, make: Callable[[], UInt8[np.ndarray, "*s"]], count: int):
        self._make, self._count = make, count
        self._kept: list[np.ndarray] = []
        self._idle = 0

    def take(self) -> UInt8[np.ndarray, "*s"] | None:
        """An array that nobody uses, or None if all are in use."""
        for place in range(len(self._kept)):
            if self._references(place) == self._idle:
                return self._kept[place]
        if len(self._kept) == self._count:
            return None
        self._kept.append(self._make())
        self._idle = self._references(len(self._kept) - 1)
        return self._kept[-1]

    def _references(self, place: int) -> int:
        return sys.getrefcount(self._kept[place])
