"""A motion model that predicts one frame at a time.

Input: the motion vectors of the first and last frame. Output: the motion vectors of all frames.

A GRU predicts the next frame's vector from those before it. It is rolled out forward from the first frame and backward
from the last, and the two sequences are joined at the frame where they agree best. Training predicts each next frame
from the true frames before it (teacher forcing; Williams and Zipser, 1989). A single pose does not reveal its
velocity, so the variant `absolute` cannot know it either. The variant `offset` also sees the far end and the time left
until it, and predicts how far the next frame lies from the straight line to the far end; its two sequences are blended
over time.

The variant `video-completion` is trained as in the project in which this network was first used (the public repository
xih108/Video_Completion): one network for both directions, which sees Jacobians first, each of their entries scaled by
its own range; from random frames of a clip in their order it learns to predict the last, forward in time only. There,
the random frames were drawn once, and entries had a range for each place in the sequence; here frames are drawn anew
for each batch, and a range holds for all places, so that clips of any length can be completed. There, the joined
sequence has gaps where the roll-outs agree best in the first half; here it has none.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from vidcomp_jax.errors import require_at_least, require_positive
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.motion.gru import BidirectionalGRU, pytorch_linear
from vidcomp_jax.motion.known import keep_known
from vidcomp_jax.motion.vectors import JacobianLimits, Order, Scaling
from vidcomp_jax.motion.wgan import Variant
from vidcomp_jax.storage.config import ADDED_LATER


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoregressiveConfig:
    """Sizes and training settings of the next-frame model. Sizes and learning rate are those of Video_Completion."""

    hidden: int = 256
    """Hidden units of each half of the GRU."""
    learning_rate: float = 5e-4
    """Learning rate of Adam."""
    share_directions: bool = False
    """Share one network between both directions of time, as in Video_Completion, instead of training one for each. A
    shared network that starts from a single frame cannot know in which direction time runs."""
    order: Order = "position-first"
    """Which part of a motion vector comes first, positions or Jacobians."""
    variant: Variant = dataclasses.field(default="absolute", metadata=ADDED_LATER)
    """What is predicted: the next motion vector from those before it; knowing the far end and the time left, its offset
    from the straight line there; or the next motion vector by the rules of the repository Video_Completion, which
    settle `share_directions` and `order`."""

    def __post_init__(self):
        if self.variant == "video-completion":
            object.__setattr__(self, "share_directions", True)
            object.__setattr__(self, "order", "jacobian-first")
        require_at_least(self, hidden=1)
        require_positive(self, "learning_rate")


class Joined(NamedTuple):
    """The forward and backward roll-outs and the sequence joined from them.

    Attributes:
        vectors: the joined sequence: `forward` before the meeting frame, `backward` from there on; or, for the variant
            `offset`, a blend of the two whose weights change linearly over time.
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

    @jax.named_scope("next_frame")
    def __call__(self, vectors: Float[Array, "b t v"], far_end: Float[Array, "b v"]) -> Float[Array, "b t v"]:
        """Predict, for every frame, the vector of the frame after it; `far_end` is not used."""
        return jnp.tanh(self.fc(self.bi_gru.forward_only(vectors)))

    def roll_out(
        self, start: Float[Array, "b v"], far_end: Float[Array, "b v"], num_frames: int
    ) -> Float[Array, "b t v"]:
        """Generate `num_frames` vectors: `start`, then predictions, each made from all vectors before it."""

        def step(carry, _):
            vector, state = carry
            state = self.bi_gru.step(vector, state)
            following = jnp.tanh(self.fc(jnp.concatenate([state[0], state[1]], -1)))
            return (following, state), following

        carry = start, self.bi_gru.zero_state(len(start))
        _, later = jax.lax.scan(step, carry, length=num_frames - 1)
        return jnp.concatenate([start[:, None], later.swapaxes(0, 1)], 1)

    @property
    def unit(self) -> float:
        """The unit of prediction errors."""
        return 1.0


class NextOffset(nnx.Module):
    """Predicts the next motion vector from the ones before it, the far end, and the time left.

    The prediction is the next point on the straight line from the current vector to the far end, plus what the network
    adds in units of `spread`.
    """

    def __init__(
        self, config: AutoregressiveConfig, vector_size: int, *, spread: Float[Array, " v"] | None, rngs: nnx.Rngs
    ):
        self.bi_gru = BidirectionalGRU(2 * vector_size + 2, config.hidden, rngs=rngs)
        self.fc = pytorch_linear(2 * config.hidden, vector_size, rngs=rngs)
        self.spread = nnx.BatchStat(jnp.ones(vector_size) if spread is None else spread)

    @jax.named_scope("next_offset")
    def __call__(self, vectors: Float[Array, "b t v"], far_end: Float[Array, "b v"]) -> Float[Array, "b t v"]:
        """Predict, for every frame, the vector of the frame after it; `far_end` follows the last frame."""
        t = vectors.shape[1]
        left = jnp.arange(t, 0, -1, dtype=jnp.float32)[:, None]
        offsets = self.fc(self.bi_gru.forward_only(self._seen(vectors, far_end[:, None], left, t)))
        return self._next(vectors, far_end[:, None], left, offsets)

    def roll_out(
        self, start: Float[Array, "b v"], far_end: Float[Array, "b v"], num_frames: int
    ) -> Float[Array, "b t v"]:
        """Generate `num_frames` vectors: `start`, then predictions from all vectors before them, and `far_end`."""

        def step(carry, left):
            vector, state = carry
            state = self.bi_gru.step(self._seen(vector, far_end, left, num_frames - 1), state)
            following = self._next(vector, far_end, left, self.fc(jnp.concatenate([state[0], state[1]], -1)))
            return (following, state), following

        carry = start, self.bi_gru.zero_state(len(start))
        _, later = jax.lax.scan(step, carry, jnp.arange(num_frames - 1, 1, -1, dtype=jnp.float32))
        return jnp.concatenate([start[:, None], later.swapaxes(0, 1), far_end[:, None]], 1)

    @property
    def unit(self) -> Float[Array, " v"]:
        """The unit of prediction errors: the spread."""
        return self.spread[...]

    def _seen(self, vector, far_end, left, duration: int) -> Float[Array, "... i"]:
        """The network's input: the vector, how far the far end is, and the time left, as a share and inverted."""
        shape = (*vector.shape[:-1], 1)
        clock = [jnp.broadcast_to(x, shape) for x in (left / duration, 1 / left)]
        return jnp.concatenate([vector, (far_end - vector) / (4 * self.spread[...]), *clock], -1)

    def _next(self, vector, far_end, left, offset) -> Float[Array, "... v"]:
        return vector + (far_end - vector) / left + self.spread[...] * offset


class AutoregressiveMotion(nnx.Module):
    """The autoregressive motion model: next-frame networks and the scaling of motion vectors.

    Args:
        config: sizes of the networks.
        num_keypoints: number of keypoints per frame.
        limits: Jacobian limits of the training split; loading weights replaces them.
        spread: for the variant `offset`, the spread of the training split (`MotionStatistics`); loading replaces it.
        rngs: random keys for the initial weights.
    """

    stochastic = False
    ends_only = True
    num_frames = None

    def __init__(
        self,
        config: AutoregressiveConfig,
        num_keypoints: int,
        *,
        limits: JacobianLimits | None = None,
        spread: Float[Array, " v"] | None = None,
        rngs: nnx.Rngs,
    ):
        self.config = config
        self.num_keypoints = num_keypoints

        def network() -> NextFrame | NextOffset:
            if config.variant != "offset":
                return NextFrame(config, 6 * num_keypoints, rngs=rngs)
            return NextOffset(config, 6 * num_keypoints, spread=spread, rngs=rngs)

        self.model = network()
        if not config.share_directions:
            self.backward_model = network()
        if limits is None and config.variant == "video-completion":
            limits = JacobianLimits(*(jnp.full(4 * num_keypoints, bound, jnp.float32) for bound in (-1, 1)))
        self.scaling = Scaling(limits, config.order)

    def join(self, first: Float[Array, "b v"], last: Float[Array, "b v"], num_frames: int) -> Joined:
        """Roll out from both ends and join the sequences: where they are closest, or over time (`offset`)."""
        forward = self.model.roll_out(first, last, num_frames)
        backward = self._backward().roll_out(last, first, num_frames)[:, ::-1]
        distance = jnp.square(forward - backward).mean(-1)
        meeting_frame = distance.argmin(1)
        if self.config.variant == "offset":
            time = jnp.linspace(0, 1, num_frames)[:, None]
            vectors = (1 - time) * forward + time * backward
        else:
            before = jnp.arange(num_frames) < meeting_frame[:, None]
            vectors = jnp.where(before[..., None], forward, backward)
        return Joined(vectors, forward, backward, distance, meeting_frame)

    def _backward(self) -> NextFrame | NextOffset:
        return self.model if self.config.share_directions else self.backward_model

    def prediction_error(self, vectors: Float[Array, "b t v"]) -> Float[Array, ""]:
        """Mean squared error of predicting each frame from the true ones, averaged over both directions of time.

        For the variant `offset`, it is in units of the spread; for the variant `video-completion`, it is that of the
        last frame alone, forward in time.
        """
        if self.config.variant == "video-completion":
            last = self.model(vectors[:, :-1], vectors[:, -1])[:, -1]
            return jnp.square(last - vectors[:, -1]).mean()

        def error(network: NextFrame | NextOffset, vectors: Float[Array, "b t v"]) -> Float[Array, ""]:
            predicted = network(vectors[:, :-1], vectors[:, -1])
            return jnp.square((predicted - vectors[:, 1:]) / network.unit).mean()

        return (error(self.model, vectors) + error(self._backward(), vectors[:, ::-1])) / 2

    def generate(
        self,
        known: Keypoints,
        times: Int[Array | np.ndarray, " n"],
        num_frames: int,
        keys: Key[Array, " b"],
        clock: Float[Array | np.ndarray, " t"] | None = None,
    ) -> Keypoints:
        """Roll out from both ends and join; see `vidcomp_jax.motion.model.MotionModel`.

        `keys` and `clock` are not used.
        """
        first, last = (self.scaling.to_vectors(Keypoints(*(x[:, i] for x in known))) for i in (0, -1))
        return keep_known(self.scaling.to_keypoints(self.join(first, last, num_frames).vectors), known, times)


def next_frame_objective(
    motion: AutoregressiveMotion, batch: Float[Array, "b n t v"], keys: Key[Array, " b"]
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The training objective: mean squared error of the predicted next frame, see `prediction_error`.

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
