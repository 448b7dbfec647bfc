"""Finds the changes of scene in a video, from how much each frame differs from the one before."""

import numpy as np
from jaxtyping import Int, UInt8

_SIDE = 64


class SceneScores:
    """Scores the frames of a video, which arrive in chunks.

    The score is that of ffmpeg's filter `scdet`, from 0 to 100: the mean absolute difference to the previous frame, in
    percent of the range of pixel values, or its change since the previous frame if that is less. A cut between scenes
    has a high score, and a camera or an object that moves fast has a low one, as it goes on moving. Of large frames,
    only every second pixel counts, or every third, and so on, so that at least 64 are left along the shorter side.
    """

    def __init__(self) -> None:
        self._last: np.ndarray | None = None
        self._difference = 0.0
        self._scores: list[float] = []

    def add(self, frames: UInt8[np.ndarray, "t h w c"]) -> None:
        """Score the next frames."""
        step = max(min(frames.shape[1:3]) // _SIDE, 1)
        for frame in frames[:, ::step, ::step].astype(np.int16):
            difference = 0.0 if self._last is None else float(np.abs(frame - self._last).mean()) / 2.56
            self._scores.append(min(difference, abs(difference - self._difference)))
            self._last, self._difference = frame, difference

    def of_frames(self, stored: Int[np.ndarray, " t"]) -> list[float]:
        """The score of each of the frames `stored`, or a higher one of a frame between it and the one before it there.

        `stored` begins with 0 and does not decrease. A frame that repeats the one before it has a score of 0.
        """
        starts = [0, *(stored[:-1] + 1).tolist()]
        ranges = zip(starts, (stored + 1).tolist(), strict=True)
        return [round(max(self._scores[start:stop], default=0.0), 2) for start, stop in ranges]
