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
        """Generate the keypoints of all frames; the first and last are kept exactly.

        Args:
            first: keypoints of the first frame: positions [b, k, 2] and Jacobians [b, k, 2, 2].
            last: keypoints of the last frame, with the same shapes.
            num_frames: length of the sequence including both ends, at least 2.
            keys: one random key per sequence; deterministic models ignore them.

        Returns:
            Keypoints [b, num_frames, k, ...].
        """
        ...
