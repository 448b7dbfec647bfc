"""Motion models, which fill in the keypoints between two frames, and the interface that they share."""

from typing import Protocol, runtime_checkable

from jaxtyping import Array, Key

from vidcomp_jax.fomm.keypoints import Keypoints


@runtime_checkable
class MotionModel(Protocol):
    """Fills in keypoints between two frames: `LinearMotion`, `AutoregressiveMotion`, `MotionGAN`.

    Attributes:
        stochastic: whether another key gives another motion.
        num_keypoints: the number that it works with, None for any.
    """

    stochastic: bool
    num_keypoints: int | None

    def generate(self, first: Keypoints, last: Keypoints, num_frames: int, keys: Key[Array, " b"]) -> Keypoints:
        """Keypoints [b, num_frames, k, ...] between [b, k, ...] and [b, k, ...], both of which are kept exactly."""
        ...
