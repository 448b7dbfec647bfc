"""Completes clips without a model: by repeating a known frame, or by blending the two nearest ones.

These are the baselines that every other method has to beat.
"""

import numpy as np
from jaxtyping import Array, Float, Key

from vidcomp_jax.completion.completers import Completion, FrameFormat, KnownFrames, check_known
from vidcomp_jax.nn.frames import unit_frames


class TrivialCompleter:
    """Fills the gaps between known frames without a model; any frames may be known.

    The attributes are those of `Completer`.

    Args:
        blend: blend the known frames on both sides, each weighted by its nearness in time. If False, the frame before
            the gap is repeated. Before the first known frame, and after the last, that frame is repeated either way.
    """

    stochastic = False
    ends_only = False
    over_keypoints = False
    num_frames = None

    def __init__(self, *, blend: bool):
        self.frame_format = FrameFormat("blend" if blend else "repeat")
        self._blend = blend

    def complete(self, known: KnownFrames, num_frames: int, key: Key[Array, ""]) -> Completion:
        """See `Completer.complete`."""
        check_known(known, num_frames)
        times = np.asarray(known.times)
        frames: Float[np.ndarray, "b n h w c"] = np.asarray(unit_frames(np.asarray(known.frames)), np.float32)
        place = np.interp(np.arange(num_frames), times, np.arange(len(times)))
        before = np.floor(place).astype(int)
        clips = frames[:, before]
        if self._blend:
            after = np.minimum(before + 1, len(times) - 1)
            weight = (place - before).astype(np.float32)[:, None, None, None]
            clips = (1 - weight) * clips + weight * frames[:, after]
        return Completion(clips, None)
