"""A motion model that predicts one frame at a time.

Input: the motion vectors of the first and last frame. Output: the motion vectors of all frames.

A GRU predicts the next frame's vector from those before it. It is rolled out forward from the first frame and backward
from the last, and the two sequences are joined at the frame where they agree best. Training predicts each next frame
from the true frames before it (teacher forcing; Williams and Zipser, 1989). A single pose does not reveal its
velocity, so the model cannot know it either.
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
    """Sizes and training settings of the next-frame model. The defaults are the published values unless noted."""

    hidden: int = 256
    """Hidden units of each half of the GRU."""
    learning_rate: float = 5e-4
    """Learning rate of Adam."""
    share_directions: bool = False
    """Share one network between both directions of time, as published, instead of training one for each. A shared
    network that starts from a single frame cannot know in which direction time runs."""
    order: Order = "position-first"
    """Which part of a motion vector comes first, positions or Jacobians."""

    def __post_init__(self):
        require_at_least(self, hidden=1)
        require_positive(self, "learning_rate")


class Joined(NamedTuple):
    """The forward and backward roll-outs and the sequence joined from them.

    Attributes:
        vectors: the joined sequence: `forward` before the meeting frame, `backward` from there on.
        forward: roll-out from the first frame.
        backward: roll-out from the last frame, in chronological order.
        distance: mean squared difference between the two roll-outs for each frame.
        meeting_frame: index of the frame with the smallest distance.
    """

    vectors: Float[Array, "b t v"]
    forward: Float[Array, "b t v"]
    backward: Float[Array, "b t v"]
    distance: Float[Array, "b t"]
    meeting_frame: Int[Array, " b"]


class NextFrame(nnx.Module):
    """Predicts the next motion vector, in (-1, 1), from the ones before it.

    The published network is a bidirectional layer that is fed one frame at a time and keeps both of its states. Its
    second half therefore also reads forward, and no prediction sees the future.
    """

    def __init__(self, config: AutoregressiveConfig, vector_size: int, *, rngs: nnx.Rngs):
        self.bi_gru = BidirectionalGRU(vector_size, config.hidden, rngs=rngs)
        self.fc = pytorch_linear(2 * config.hidden, vector_size, rngs=rngs)

    def __call__(self, vectors: Float[Array, "b t v"]) -> Float[Array, "b t v"]:
        """Predict, for every frame, the vector of the frame after it."""
        return jnp.tanh(self.fc(self.bi_gru.forward_only(vectors)))

    def roll_out(self, start: Float[Array, "b v"], num_frames: int) -> Float[Array, "b t v"]:
        """Generate `num_frames` vectors: `start`, then predictions, each made from all vectors before it."""

        def step(carry, _):
            vector, state = carry
            state = self.bi_gru.step(vector, state)
            following = jnp.tanh(self.fc(jnp.concatenate([state[0], state[1]], -1)))
            return (following, state), following

        carry = start, self.bi_gru.zero_state(len(start))
        _, later = jax.lax.scan(step, carry, length=num_frames - 1)
        return jnp.concatenate([start[:, None], later.swapaxes(0, 1)], 1)


class AutoregressiveMotion(nnx.Module):
    """The autoregressive motion model: next-frame networks and the scaling of motion vectors.

    Args:
        config: sizes of the networks.
        num_keypoints: number of keypoints per frame.
        limits: Jacobian limits of the training split; loading weights replaces them.
        rngs: random keys for the initial weights.
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
        """Roll out from both ends and join the sequences where they are closest."""
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
        """Mean squared error of predicting each frame from the true ones, averaged over both directions of time."""
        in_reverse = vectors[:, ::-1]
        forward = jnp.square(self.model(vectors[:, :-1]) - vectors[:, 1:]).mean()
        return (forward + jnp.square(self._backward()(in_reverse[:, :-1]) - in_reverse[:, 1:]).mean()) / 2

    def generate(self, first: Keypoints, last: Keypoints, num_frames: int, keys: Key[Array, " b"]) -> Keypoints:
        """Generate the keypoints of all frames; the first and last are kept exactly.

        Args:
            first: keypoints of the first frame: positions [b, k, 2] and Jacobians [b, k, 2, 2].
            last: keypoints of the last frame, with the same shapes.
            num_frames: length of the sequence, at least 2.
            keys: not used.

        Returns:
            Keypoints [b, num_frames, k, ...].
        """
        joined = self.join(self.scaling.to_vectors(first), self.scaling.to_vectors(last), num_frames)
        keypoints = self.scaling.to_keypoints(joined.vectors)
        return Keypoints(*(keep_ends(*x) for x in zip(keypoints, first, last, strict=True)))


def next_frame_objective(
    motion: AutoregressiveMotion, batch: Float[Array, "b n t v"], keys: Key[Array, " b"]
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The training objective: mean squared error of the predicted next frame, in both directions of time.

    Args:
        motion: the model to train.
        batch: motion vectors; n windows of at least two frames for each example.
        keys: not used.

    Returns:
        The error and two metrics: `next_frame_mse`, the same number, and `copy_last_mse`, the error of a baseline
            that repeats the frame before.
    """
    windows = batch.reshape(-1, *batch.shape[2:])
    error = motion.prediction_error(windows)
    copy_last = jnp.square(windows[:, 1:] - windows[:, :-1]).mean()
    return error, {"next_frame_mse": error, "copy_last_mse": copy_last}
