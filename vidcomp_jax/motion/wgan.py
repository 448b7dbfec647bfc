"""A stochastic motion model: a Wasserstein GAN (Arjovsky et al., ICML 2017) over keypoint motion.

Input: the motion vectors of the first and last frame, and noise for every frame. Output: the vectors of all frames.
One bidirectional GRU generates them; another one, the critic, scores every frame. `wgan_training` trains both.
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
    """Sizes and training settings of the motion GAN. The defaults are the published values unless noted."""

    hidden: int = 256
    """Hidden units of each direction of both GRUs."""
    noise: int = 40
    """Length of the noise vector of each frame."""
    encoding: int = 40
    """Length of the encodings of the first and last motion vectors."""
    constraint: Literal["gradient-penalty", "weight-clipping"] = "gradient-penalty"
    """How the critic is kept Lipschitz continuous."""
    penalty_weight: float = 10.0
    """Weight of the gradient penalty."""
    clip: float = 0.01
    """Bound on the absolute value of every critic weight, applied after each critic update with weight clipping."""
    num_critic_updates: int = 5
    """Critic updates before each generator update."""
    rounds_per_step: int = 4
    """Generator updates per training step, which all run on the device from one batch of data."""
    learning_rate: float = 1e-4
    """Learning rate of RMSprop, for both the generator and the critic."""
    show_true_ends: bool = True
    """Show the critic generated motion with its ends pulled to the true ones, as in sampling. The published critic sees
    the raw output and cannot tell whether the ends match."""
    order: Order = "position-first"
    """Which part of a motion vector comes first, positions or Jacobians."""

    def __post_init__(self):
        require_at_least(self, hidden=1, noise=1, encoding=1, num_critic_updates=1, rounds_per_step=1)
        require_positive(self, "clip", "learning_rate", "penalty_weight")


class MotionGenerator(nnx.Module):
    """Generates a motion vector in (-1, 1) for every frame from the two end vectors and noise for every frame."""

    def __init__(self, config: WGANConfig, vector_size: int, *, rngs: nnx.Rngs):
        # The lists mirror nn.Sequential in the PyTorch weights, whose activations have no parameters.
        self.motion_encoder = nnx.List([pytorch_linear(vector_size, config.encoding, rngs=rngs)])
        self.gru = BidirectionalGRU(config.noise + 2 * config.encoding, config.hidden, rngs=rngs)
        self.linear = nnx.List([pytorch_linear(2 * config.hidden, vector_size, rngs=rngs)])

    def __call__(
        self, first: Float[Array, "b v"], last: Float[Array, "b v"], noise: Float[Array, "b t n"]
    ) -> Float[Array, "b t v"]:
        """Generate one frame for each noise vector. The ends approximate `first` and `last` but do not equal them."""
        ends = jax.nn.relu(self.motion_encoder[0](jnp.stack([first, last], 1))).reshape(len(first), 1, -1)
        ends = jnp.broadcast_to(ends, (*noise.shape[:2], ends.shape[-1]))
        return jnp.tanh(self.linear[0](self.gru(jnp.concatenate([noise, ends], -1))))


class MotionCritic(nnx.Module):
    """Scores every frame of a sequence of motion vectors; higher scores mean more realistic motion."""

    def __init__(self, config: WGANConfig, vector_size: int, *, rngs: nnx.Rngs):
        self.gru = BidirectionalGRU(vector_size, config.hidden, rngs=rngs)
        self.linear = pytorch_linear(2 * config.hidden, 1, rngs=rngs)

    def __call__(self, vectors: Float[Array, "b t v"]) -> Float[Array, "b t 1"]:
        """Score each frame."""
        return self.linear(self.gru(vectors))


class MotionGAN(nnx.Module):
    """The stochastic motion model: generator, critic and the scaling of motion vectors.

    Args:
        config: sizes of the networks.
        num_keypoints: number of keypoints per frame.
        limits: Jacobian limits of the training split; loading weights replaces them.
        rngs: random keys for the initial weights.
    """

    stochastic = True

    def __init__(self, config: WGANConfig, num_keypoints: int, *, limits: JacobianLimits | None = None, rngs: nnx.Rngs):
        self.config = config
        self.num_keypoints = num_keypoints
        self.generator = MotionGenerator(config, 6 * num_keypoints, rngs=rngs)
        self.critic = MotionCritic(config, 6 * num_keypoints, rngs=rngs)
        self.scaling = Scaling(limits, config.order)

    def generate(self, first: Keypoints, last: Keypoints, num_frames: int, keys: Key[Array, " b"]) -> Keypoints:
        """Draw one sample for each pair of ends; the ends are kept exactly.

        Args:
            first: keypoints of the first frame: positions [b, k, 2] and Jacobians [b, k, 2, 2].
            last: keypoints of the last frame, with the same shapes.
            num_frames: length of the sequence, at least 2; it may differ from the length in training.
            keys: one random key for each sample.

        Returns:
            Keypoints [b, num_frames, k, ...].
        """
        start, end = self.scaling.to_vectors(first), self.scaling.to_vectors(last)
        noise = jax.vmap(lambda key: jax.random.normal(key, (num_frames, self.config.noise)))(keys)
        keypoints = self.scaling.to_keypoints(pull_to_ends(self.generator(start, end, noise), start, end))
        return Keypoints(*(keep_ends(*x) for x in zip(keypoints, first, last, strict=True)))


def pull_to_ends(
    vectors: Float[Array, "b t v"], first: Float[Array, "b v"], last: Float[Array, "b v"]
) -> Float[Array, "b t v"]:
    """Shift every frame so that the sequence starts at `first` and ends at `last` without a jump.

    The shift of an inner frame interpolates linearly in time between the shifts of the two ends. A constant sequence
    therefore becomes linear interpolation, and an untrained generator starts out close to it.
    """
    time = jnp.linspace(0, 1, vectors.shape[1])[:, None]
    return vectors + (1 - time) * (first - vectors[:, 0])[:, None] + time * (last - vectors[:, -1])[:, None]
