"""The interface that all motion models share."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Float, Int, Key

from vidcomp_jax.fomm.keypoints import Keypoints


@runtime_checkable
class MotionModel(Protocol):
    """Generates keypoints between known ones; see `LinearMotion`, `FlowMotion`, `MotionGAN`, `AutoregressiveMotion`."""

    @property
    def stochastic(self) -> bool:
        """Whether the generated motion depends on the random keys."""
        ...

    @property
    def ends_only(self) -> bool:
        """Whether the known frames must be the first and the last one; otherwise any two or more may be known."""
        ...

    @property
    def num_keypoints(self) -> int | None:
        """The number of keypoints that the model expects, or None if it accepts any number."""
        ...

    @property
    def num_frames(self) -> int | None:
        """The largest number of frames that the model generates at once, or None if it is not limited.

        `vidcomp_jax.motion.fill` generates longer sequences from keyframes.
        """
        ...

    def generate(
        self,
        known: Keypoints,
        times: Int[Array | np.ndarray, " n"],
        num_frames: int,
        keys: Key[Array, " b"],
        clock: Float[Array | np.ndarray, " t"] | None = None,
    ) -> Keypoints:
        """Generate the keypoints of all frames; the known ones are kept exactly. It must be possible to compile this.

        Args:
            known: keypoints of the known frames: positions [b, n, k, 2] and Jacobians [b, n, k, 2, 2].
            times: index of each known frame, ascending; repeated ones are allowed.
            num_frames: length of the sequence, at least 2 and at most `self.num_frames`.
            keys: one random key per sequence; deterministic models ignore them.
            clock: time of each frame in units of the distance between frames in training, ascending; 0, 1, 2, ... if
                None. Only models with a limit on `num_frames` must support others.

        Returns:
            Keypoints [b, num_frames, k, ...].
        """
        ...
