"""A motion model that samples: the networks of a Wasserstein GAN (Arjovsky et al., ICML 2017) over keypoints.

Input: the motion vectors of the first and last frame, and noise for every frame. Output: the vectors of all frames.
One bidirectional GRU generates them; another, the critic, scores every frame. `wgan_training` trains the two.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from vidcomp_jax.errors import require_at_least, require_positive
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.motion.gru import BidirectionalGRU, pytorch_linear
from vidcomp_jax.motion.linear import keep_ends
from vidcomp_jax.motion.vectors import JacobianLimits, Order, Scaling


@dataclasses.dataclass(frozen=True, kw_only=True)
class WGANConfig:
    """Sizes and training of the motion GAN; the defaults are the published ones."""

    hidden: int = 256
    """Hidden units of each direction of both GRUs."""
    noise: int = 40
    """Noise entries a frame."""
    encoding: int = 40
    """Entries that the first and the last motion vector are encoded to."""
    constraint: Literal["gradient-penalty", "weight-clipping"] = "gradient-penalty"
    """What keeps the critic Lipschitz."""
    penalty_weight: float = 10.0
    """Weight of the gradient penalty."""
    clip: float = 0.01
    """With weight clipping: bound of every critic weight, applied after each critic update."""
    num_critic_updates: int = 5
    """Critic updates before each generator update."""
    rounds_per_step: int = 4
    """Generator updates in one training step; between two steps the host is asked for data."""
    learning_rate: float = 1e-4
    """Of RMSprop, for generator and critic."""
    show_true_ends: bool = True
    """Let the critic see generated motion with its ends pulled to the true ones, as it is sampled. The published
    critic sees the raw output, and so never whether the ends fit."""
    order: Order = "position-first"
    """Which part of a motion vector comes first."""

    def __post_init__(self):
        require_at_least(self, hidden=1, noise=1, encoding=1, num_critic_updates=1, rounds_per_step=1)
        require_positive(self, "clip", "learning_rate", "penalty_weight")


class MotionGenerator(nnx.Module):
    """Vectors of the two ends and noise for every frame in, a vector in (-1, 1) for every frame out."""

    def __init__(self, config: WGANConfig, vector_size: int, *, rngs: nnx.Rngs):
        # The lists stand for PyTorch's nn.Sequential, whose activations have no weights.
        self.motion_encoder = nnx.List([pytorch_linear(vector_size, config.encoding, rngs=rngs)])
        self.gru = BidirectionalGRU(config.noise + 2 * config.encoding, config.hidden, rngs=rngs)
        self.linear = nnx.List([pytorch_linear(2 * config.hidden, vector_size, rngs=rngs)])

    def __call__(
        self, first: Float[Array, "b v"], last: Float[Array, "b v"], noise: Float[Array, "b t n"]
    ) -> Float[Array, "b t v"]:
        """Generate as many frames as there is noise for; the ends come out near the given ones, not equal."""
        ends = jax.nn.relu(self.motion_encoder[0](jnp.stack([first, last], 1))).reshape(len(first), 1, -1)
        ends = jnp.broadcast_to(ends, (*noise.shape[:2], ends.shape[-1]))
        return jnp.tanh(self.linear[0](self.gru(jnp.concatenate([noise, ends], -1))))


class MotionCritic(nnx.Module):
    """Scores every frame of a sequence of motion vectors; larger means more like the data."""

    def __init__(self, config: WGANConfig, vector_size: int, *, rngs: nnx.Rngs):
        self.gru = BidirectionalGRU(vector_size, config.hidden, rngs=rngs)
        self.linear = pytorch_linear(2 * config.hidden, 1, rngs=rngs)

    def __call__(self, vectors: Float[Array, "b t v"]) -> Float[Array, "b t 1"]:
        """One score a frame."""
        return self.linear(self.gru(vectors))


class MotionGAN(nnx.Module):
    """Generator, critic and the scaling of motion vectors; a motion model.

    Args:
        config: sizes.
        num_keypoints: of the keypoint model.
        limits: Jacobian limits of the training split; loading weights replaces them.
        rngs: key of the initial weights.
    """

    stochastic = True

    def __init__(self, config: WGANConfig, num_keypoints: int, *, limits: JacobianLimits | None = None, rngs: nnx.Rngs):
        self.config = config
        self.num_keypoints = num_keypoints
        self.generator = MotionGenerator(config, 6 * num_keypoints, rngs=rngs)
        self.critic = MotionCritic(config, 6 * num_keypoints, rngs=rngs)
        self.scaling = Scaling(limits, config.order)

    def generate(self, first: Keypoints, last: Keypoints, num_frames: int, keys: Key[Array, " b"]) -> Keypoints:
        """One sample for each pair of ends, which are kept exactly.

        Args:
            first: keypoints [b, k, 2] and [b, k, 2, 2].
            last: likewise.
            num_frames: any number from 2, whatever the network was trained on.
            keys: one key a sample.
        """
        start, end = self.scaling.to_vectors(first), self.scaling.to_vectors(last)
        noise = jax.vmap(lambda key: jax.random.normal(key, (num_frames, self.config.noise)))(keys)
        keypoints = self.scaling.to_keypoints(pull_to_ends(self.generator(start, end, noise), start, end))
        return Keypoints(*(keep_ends(*x) for x in zip(keypoints, first, last, strict=True)))


def pull_to_ends(
    vectors: Float[Array, "b t v"], first: Float[Array, "b v"], last: Float[Array, "b v"]
) -> Float[Array, "b t v"]:
    """Shift every frame so that the sequence starts at `first` and ends at `last`, without a jump.

    What the ends are missed by is taken off the frames between in proportion to their nearness in time. A sequence
    that does not move becomes linear interpolation, from which an untrained generator is therefore not far.
    """
    time = jnp.linspace(0, 1, vectors.shape[1])[:, None]
    return vectors + (1 - time) * (first - vectors[:, 0])[:, None] + time * (last - vectors[:, -1])[:, None]
