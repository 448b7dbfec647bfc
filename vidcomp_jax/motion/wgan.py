"""A stochastic motion model: a Wasserstein GAN (Arjovsky et al., ICML 2017) over keypoint motion.

Input: the motion vectors of the first and last frame, and noise for every frame. Output: the vectors of all frames.
One bidirectional GRU generates them; another one, the critic, scores every frame. `wgan_training` trains both.

The variant `absolute` generates the vectors themselves, and pulls them to the ends. The variant `offset` generates
their offsets from the straight line between the two ends, in units of the spread of these offsets in the training data;
its critic sees these offsets and the two ends. The variant `video-completion` is that of the project in which this
network was first used (the public repository xih108/Video_Completion): the vectors themselves, of which sampling
overwrites the first and the last, a critic that sees what is generated, and weights that are clipped before each update
of the critic.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from vidcomp_jax.errors import require, require_at_least, require_positive
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.motion.gru import BidirectionalGRU, pytorch_linear
from vidcomp_jax.motion.known import keep_known, line_between
from vidcomp_jax.motion.vectors import JacobianLimits, Order, Scaling
from vidcomp_jax.storage.config import ADDED_LATER

Variant = Literal["absolute", "offset", "video-completion"]
"""What a motion network generates: motion vectors, their offsets from the straight line between the ends, or motion
vectors by the rules of the repository Video_Completion."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WGANConfig:
    """Sizes and training settings of the motion GAN. Sizes and learning rate are those of Video_Completion."""

    hidden: int = 256
    """Hidden units of each direction of both GRUs."""
    noise: int = 40
    """Length of the noise vector of each frame."""
    encoding: int = 40
    """Length of the encodings of the first and last motion vectors."""
    constraint: Literal["gradient-penalty", "weight-clipping"] = "gradient-penalty"
    """How the critic is kept Lipschitz continuous; weight clipping with the variant video-completion."""
    penalty_weight: float = 10.0
    """Weight of the gradient penalty."""
    clip: float = 0.01
    """Bound on the absolute value of every critic weight with weight clipping, applied after each critic update; with
    the variant video-completion after its gradient is computed, but before it is applied."""
    num_critic_updates: int = 5
    """Critic updates before each generator update."""
    rounds_per_step: int = 4
    """Generator updates per training step, which all run on the device from one batch of data."""
    learning_rate: float = 1e-4
    """Learning rate of RMSprop, for both the generator and the critic."""
    show_true_ends: bool = True
    """Show the critic generated motion with its ends pulled to the true ones, as in sampling. With the variant
    video-completion, the critic sees the raw output, whose ends need not match."""
    order: Order = "position-first"
    """Which part of a motion vector comes first, positions or Jacobians."""
    variant: Variant = dataclasses.field(default="absolute", metadata=ADDED_LATER)
    """What is generated: motion vectors, their offsets from the straight line between the ends, or motion vectors by
    the rules of the repository Video_Completion, which settle `constraint` and `show_true_ends`."""
    variety_weight: float = dataclasses.field(default=0.0, metadata=ADDED_LATER)
    """With the variant offset: weight in the generator's loss of the variety loss (Gupta et al., Social GAN, CVPR 2018,
    section 3.4), the mean squared error of the best of `variety_samples` samples in units of the spread."""
    variety_samples: int = dataclasses.field(default=3, metadata=ADDED_LATER)
    """Samples per clip that the variety loss chooses from."""

    def __post_init__(self):
        if self.variant == "video-completion":
            object.__setattr__(self, "constraint", "weight-clipping")
            object.__setattr__(self, "show_true_ends", False)
        require_at_least(self, hidden=1, noise=1, encoding=1, num_critic_updates=1, rounds_per_step=1)
        require_positive(self, "clip", "learning_rate", "penalty_weight")
        require_at_least(self, variety_weight=0, variety_samples=1)
        if self.variant != "offset":
            require(not self.variety_weight, self, "variety_weight", "0, unless `variant` is offset")


class MotionGenerator(nnx.Module):
    """Generates a vector for every frame from the two end vectors and noise for every frame.

    It is a motion vector in (-1, 1), or for the variant `offset` an offset without bounds.
    """

    def __init__(self, config: WGANConfig, vector_size: int, *, rngs: nnx.Rngs):
        self.bounded = config.variant != "offset"
        # The lists mirror nn.Sequential in the PyTorch weights, whose activations have no parameters.
        self.motion_encoder = nnx.List([pytorch_linear(vector_size, config.encoding, rngs=rngs)])
        context = 0 if self.bounded else 2 * vector_size + 1
        self.gru = BidirectionalGRU(config.noise + 2 * config.encoding + context, config.hidden, rngs=rngs)
        self.linear = nnx.List([pytorch_linear(2 * config.hidden, vector_size, rngs=rngs)])

    @jax.named_scope("motion_generator")
    def __call__(
        self, first: Float[Array, "b v"], last: Float[Array, "b v"], noise: Float[Array, "b t n"]
    ) -> Float[Array, "b t v"]:
        """Generate one frame for each noise vector. The ends approximate `first` and `last` but do not equal them."""
        ends = jax.nn.relu(self.motion_encoder[0](jnp.stack([first, last], 1))).reshape(len(first), 1, -1)
        b, t, _ = noise.shape
        seen = [noise, jnp.broadcast_to(ends, (b, t, ends.shape[-1]))]
        if not self.bounded:
            line, time = line_between(first, last, t), jnp.linspace(0, 1, t)[:, None]
            seen += [line, (last - first)[:, None] + 0 * line, jnp.broadcast_to(time, (b, t, 1))]
        generated = self.linear[0](self.gru(jnp.concatenate(seen, -1)))
        return jnp.tanh(generated) if self.bounded else generated


class MotionCritic(nnx.Module):
    """Scores every frame of a sequence of motion vectors; higher scores mean more realistic motion."""

    def __init__(self, config: WGANConfig, vector_size: int, *, rngs: nnx.Rngs):
        in_features = 3 * vector_size if config.variant == "offset" else vector_size
        self.gru = BidirectionalGRU(in_features, config.hidden, rngs=rngs)
        self.linear = pytorch_linear(2 * config.hidden, 1, rngs=rngs)

    @jax.named_scope("motion_critic")
    def __call__(self, seen: Float[Array, "b t i"]) -> Float[Array, "b t 1"]:
        """Score each frame of what `MotionGAN.seen_by_critic` returns."""
        return self.linear(self.gru(seen))


class MotionGAN(nnx.Module):
    """The stochastic motion model: generator, critic and the scaling of motion vectors.

    Args:
        config: sizes of the networks.
        num_keypoints: number of keypoints per frame.
        limits: Jacobian limits of the training split; loading weights replaces them.
        spread: for the variant `offset`, the spread of the training split (`MotionStatistics`); loading replaces it.
        rngs: random keys for the initial weights.
    """

    stochastic = True
    ends_only = True
    num_frames = None

    def __init__(
        self,
        config: WGANConfig,
        num_keypoints: int,
        *,
        limits: JacobianLimits | None = None,
        spread: Float[Array, " v"] | None = None,
        rngs: nnx.Rngs,
    ):
        self.config = config
        self.num_keypoints = num_keypoints
        self.generator = MotionGenerator(config, 6 * num_keypoints, rngs=rngs)
        self.critic = MotionCritic(config, 6 * num_keypoints, rngs=rngs)
        self.scaling = Scaling(limits, config.order)
        if config.variant == "offset":
            self.spread = nnx.BatchStat(jnp.ones(6 * num_keypoints) if spread is None else spread)

    def draw(
        self, first: Float[Array, "b v"], last: Float[Array, "b v"], noise: Float[Array, "b t n"], *, pull: bool = True
    ) -> Float[Array, "b t v"]:
        """Draw sequences of motion vectors.

        Args:
            first, last: motion vectors of the ends.
            noise: noise for every frame.
            pull: shift the frames so that the ends are kept, which the variant `offset` does in any case, and the
                variant `video-completion` in none.
        """
        generated = self.generator(first, last, noise)
        if self.config.variant == "offset":
            zero = jnp.zeros_like(first)
            return line_between(first, last, noise.shape[1]) + self.spread[...] * pull_to_ends(generated, zero, zero)
        return pull_to_ends(generated, first, last) if pull and self.config.variant == "absolute" else generated

    def seen_by_critic(self, vectors: Float[Array, "b t v"]) -> Float[Array, "b t i"]:
        """What the critic sees of sequences: all of them, or for the variant `offset` their offsets and ends."""
        if self.config.variant != "offset":
            return vectors
        first, last = vectors[:, 0], vectors[:, -1]
        offsets = (vectors - line_between(first, last, vectors.shape[1])) / self.spread[...]
        ends = jnp.broadcast_to(jnp.concatenate([first, last], -1)[:, None], (*vectors.shape[:2], 2 * first.shape[-1]))
        return jnp.concatenate([offsets, ends], -1)

    def generate(
        self,
        known: Keypoints,
        times: Int[Array | np.ndarray, " n"],
        num_frames: int,
        keys: Key[Array, " b"],
        clock: Float[Array | np.ndarray, " t"] | None = None,
    ) -> Keypoints:
        """Draw one sample for each pair of ends; see `vidcomp_jax.motion.model.MotionModel`.

        `num_frames` may differ from the length in training; `clock` is not used.
        """
        first, last = (Keypoints(*(x[:, i] for x in known)) for i in (0, -1))
        start, end = self.scaling.to_vectors(first), self.scaling.to_vectors(last)
        noise = jax.vmap(lambda key: jax.random.normal(key, (num_frames, self.config.noise)))(keys)
        keypoints = self.scaling.to_keypoints(self.draw(start, end, noise))
        return keep_known(keypoints, known, times)


def pull_to_ends(
    vectors: Float[Array, "b t v"], first: Float[Array, "b v"], last: Float[Array, "b v"]
) -> Float[Array, "b t v"]:
    """Shift every frame so that the sequence starts at `first` and ends at `last` without a jump.

    The shift of an inner frame interpolates linearly in time between the shifts of the two ends. A constant sequence
    therefore becomes linear interpolation, and an untrained generator starts out close to it.
    """
    return vectors + line_between(first - vectors[:, 0], last - vectors[:, -1], vectors.shape[1])
