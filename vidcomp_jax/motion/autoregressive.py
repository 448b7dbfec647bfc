"""A motion model that predicts one frame after the other.

Input: the motion vectors of the first and last frame. Output: those of all frames. A GRU predicts the vector of the
next frame. One is rolled out forward from the first frame, one backward from the last, and the two sequences are
joined at the frame where they agree best. It is trained on the next frame given the true ones before it (teacher
forcing; Williams and Zipser, 1989). A single pose does not show how fast it moves, so the model cannot know either.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from vidcomp_jax.errors import require_at_least, require_positive
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.motion.gru import BidirectionalGRU, pytorch_linear
from vidcomp_jax.motion.linear import keep_ends
from vidcomp_jax.motion.vectors import JacobianLimits, Order, Scaling


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoregressiveConfig:
    """Sizes and training of the next-frame model; the defaults are the published ones."""

    hidden: int = 256
    """Hidden units of each of the GRU's two halves."""
    learning_rate: float = 5e-4
    """Of Adam."""
    share_directions: bool = False
    """One network for both directions of time, as published, instead of one each. Rolling out from a single frame, it
    cannot know which way time runs."""
    order: Order = "position-first"
    """Which part of a motion vector comes first."""

    def __post_init__(self):
        require_at_least(self, hidden=1)
        require_positive(self, "learning_rate")


class Joined(NamedTuple):
    """Two roll-outs and what became of them.

    Attributes:
        vectors: frames before the meeting frame from `forward`, the others from `backward`.
        forward: rolled out from the first frame.
        backward: rolled out from the last frame, in the order of time.
        distance: mean squared difference of the two, frame by frame.
        meeting_frame: where it is smallest.
    """

    vectors: Float[Array, "b t v"]
    forward: Float[Array, "b t v"]
    backward: Float[Array, "b t v"]
    distance: Float[Array, "b t"]
    meeting_frame: Int[Array, " b"]


class NextFrame(nnx.Module):
    """Predicts each next motion vector, in (-1, 1), from the ones before.

    The published network is a bidirectional layer that is fed one frame at a time and keeps both its states: its
    second half reads forward too, and no prediction sees the future.
    """

    def __init__(self, config: AutoregressiveConfig, vector_size: int, *, rngs: nnx.Rngs):
        self.bi_gru = BidirectionalGRU(vector_size, config.hidden, rngs=rngs)
        self.fc = pytorch_linear(2 * config.hidden, vector_size, rngs=rngs)

    def __call__(self, vectors: Float[Array, "b t v"]) -> Float[Array, "b t v"]:
        """For every frame the prediction of the one after it."""
        return jnp.tanh(self.fc(self.bi_gru.forward_only(vectors)))

    def roll_out(self, start: Float[Array, "b v"], num_frames: int) -> Float[Array, "b t v"]:
        """`num_frames` vectors, the first of which is `start`, each later one predicted from those before."""

        def step(carry, _):
            vector, state = carry
            state = self.bi_gru.step(vector, state)
            following = jnp.tanh(self.fc(jnp.concatenate([state[0], state[1]], -1)))
            return (following, state), following

        carry = start, self.bi_gru.zero_state(len(start))
        _, later = jax.lax.scan(step, carry, length=num_frames - 1)
        return jnp.concatenate([start[:, None], later.swapaxes(0, 1)], 1)


class AutoregressiveMotion(nnx.Module):
    """The next-frame model and the scaling of motion vectors; a motion model.

    Args:
        config: sizes.
        num_keypoints: of the keypoint model.
        limits: Jacobian limits of the training split; loading weights replaces them.
        rngs: key of the initial weights.
    """

    stochastic = False

    def __init__(
        self,
        config: AutoregressiveConfig,
        num_keypoints: int,
        *,
        limits: JacobianLimits | None = None,
        rngs: nnx.Rngs,
    ):
        self.config = config
        self.num_keypoints = num_keypoints
        self.model = NextFrame(config, 6 * num_keypoints, rngs=rngs)
        if not config.share_directions:
            self.backward_model = NextFrame(config, 6 * num_keypoints, rngs=rngs)
        self.scaling = Scaling(limits, config.order)

    def join(self, first: Float[Array, "b v"], last: Float[Array, "b v"], num_frames: int) -> Joined:
        """Roll out from both ends and join."""
        forward = self.model.roll_out(first, num_frames)
        backward = self._backward().roll_out(last, num_frames)[:, ::-1]
        distance = jnp.square(forward - backward).mean(-1)
        meeting_frame = distance.argmin(1)
        before = jnp.arange(num_frames) < meeting_frame[:, None]
        vectors = jnp.where(before[..., None], forward, backward)
        return Joined(vectors, forward, backward, distance, meeting_frame)

    def _backward(self) -> NextFrame:
        return self.model if self.config.share_directions else self.backward_model

    def prediction_error(self, vectors: Float[Array, "b t v"]) -> Float[Array, ""]:
        """Mean squared error of the frame after (and of the frame before) each, given the true ones up to it."""
        in_reverse = vectors[:, ::-1]
        forward = jnp.square(self.model(vectors[:, :-1]) - vectors[:, 1:]).mean()
        return (forward + jnp.square(self._backward()(in_reverse[:, :-1]) - in_reverse[:, 1:]).mean()) / 2

    def generate(self, first: Keypoints, last: Keypoints, num_frames: int, keys: Key[Array, " b"]) -> Keypoints:
        """Keypoints of all frames; the ends are exactly the given ones. `keys` are not used.

        Args:
            first: keypoints [b, k, 2] and [b, k, 2, 2].
            last: likewise.
            num_frames: any number from 2.
            keys: not used.
        """
        joined = self.join(self.scaling.to_vectors(first), self.scaling.to_vectors(last), num_frames)
        keypoints = self.scaling.to_keypoints(joined.vectors)
        return Keypoints(*(keep_ends(*x) for x in zip(keypoints, first, last, strict=True)))


def next_frame_objective(
    motion: AutoregressiveMotion, batch: Float[Array, "b n t v"], keys: Key[Array, " b"]
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Mean squared error of the predicted next frame, in both directions of time: the objective that `fit` minimizes.

    Args:
        motion: the model.
        batch: motion vectors of n windows of at least two frames for each example.
        keys: not used.

    Returns:
        The error, and as metrics `next_frame_mse`, the same number, and `copy_last_mse`, the error of the baseline
            that predicts each frame to be equal to the one before it.
    """
    windows = batch.reshape(-1, *batch.shape[2:])
    error = motion.prediction_error(windows)
    copy_last = jnp.square(windows[:, 1:] - windows[:, :-1]).mean()
    return error, {"next_frame_mse": error, "copy_last_mse": copy_last}
