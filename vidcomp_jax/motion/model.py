"""The interface that all motion models share."""

from typing import Protocol, runtime_checkable

from jaxtyping import Array, Key

from vidcomp_jax.fomm.keypoints import Keypoints


@runtime_checkable
class MotionModel(Protocol):
    """Generates the keypoints between two frames; see `LinearMotion`, `AutoregressiveMotion` and `MotionGAN`."""

    @property
    def stochastic(self) -> bool:
        """Whether the generated motion depends on the random keys."""
        ...

    @property
    def num_keypoints(self) -> int | None:
        """The number of keypoints that the model expects, or None if it accepts any number."""
        ...

    def generate(self, first: Keypoints, last: Keypoints, num_frames: int, keys: Key[Array, " b"]) -> Keypoints:
        """Keypoints [b, num_frames, k, ...] between [b, k, ...] and [b, k, ...], both of which are kept exactly."""
        ...
