"""Motion models, which fill in the keypoints between two frames, and the interface that they share."""

from typing import Protocol, runtime_checkable

from jaxtyping import Array, Key

from vidcomp_jax.fomm.keypoints import Keypoints


@runtime_checkable
class MotionModel(Protocol):
    """Fills in keypoints between two frames: `LinearMotion`, `AutoregressiveMotion`, `MotionGAN`."""

    @property
    def stochastic(self) -> bool:
        """Whether another key gives another motion."""
        ...

    @property
    def num_keypoints(self) -> int | None:
        """The number that it works with, None for any."""
        ...

    def generate(self, first: Keypoints, last: Keypoints, num_frames: int, keys: Key[Array, " b"]) -> Keypoints:
        """Keypoints [b, num_frames, k, ...] between [b, k, ...] and [b, k, ...], both of which are kept exactly."""
        ...
