"""Samples a video at another frame rate, by the nearest stored frame."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Int


class Sampling(NamedTuple):
    """Sampling at a rate of `wanted` frames per second of a video with `stored` frames per second.

    Frame k of the result is the stored frame that is nearest in time to k / `wanted` seconds. If `wanted` is above
    `stored`, frames are repeated; if it is None, every stored frame is taken.
    """

    stored: float
    wanted: float | None

    @property
    def fps(self) -> float:
        """Frame rate of the result."""
        return self.stored if self.wanted is None else self.wanted

    def stored_frames(self, numbers: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """The stored frames that the frames `numbers` of the result are."""
        if self.wanted is None:
            return numbers
        return np.floor(numbers * (self.stored / self.wanted) + 0.5).astype(np.int64)

    def count(self, num_stored: int) -> int:
        """Number of frames that result from the first `num_stored` stored ones."""
        if self.wanted is None:
            return num_stored
        guess = max(math.ceil((num_stored - 0.5) * self.wanted / self.stored), 0)
        near = np.arange(max(guess - 2, 0), guess + 3)
        return int(near[0] + np.searchsorted(self.stored_frames(near), num_stored))

    def within(self, start: int, stop: int) -> Int[np.ndarray, " n"]:
        """The stored frames from `start` up to, but not including, `stop` that are taken, some of them repeatedly."""
        return self.stored_frames(np.arange(self.count(start), self.count(stop)))
