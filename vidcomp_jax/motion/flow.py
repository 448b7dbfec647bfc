"""A stochastic motion model: flow matching on the offset of keypoint motion from a straight line.

Input: the motion vectors of the known frames, two or more at any times, and noise. Output: the motion vectors of all
frames.

Straight lines between the known frames are a good first guess, so the model generates what is missing from it: the
offset y, in units of its spread in the training data, which is zero at the known frames. Flow matching (Lipman et al.,
arXiv 2210.02747, with the path of section 4.1) moves noise to offsets along y_tau = (1 - tau) noise + tau y. A
transformer over frames predicts y from y_tau, and dy_tau / dtau = (y - y_tau) / (1 - tau) is integrated from tau = 0
to 1. `flow_training` trains it.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from vidcomp_jax.errors import require, require_at_least, require_positive
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.motion.known import Neighbors, keep_known, neighbors, place
from vidcomp_jax.motion.vectors import JacobianLimits, MotionStatistics, Scaling
from vidcomp_jax.nn.transformer import Transformer

_WAVES = 6  # sines of the position between two known frames; all are zero at both


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """Sizes, training and sampling settings of the flow-matching model."""

    width: int = 128
    """Length of the tokens of the transformer."""
    num_layers: int = 4
    """Number of transformer blocks."""
    num_heads: int = 4
    """Attention heads of each block."""
    feed_forward: int = 512
    """Hidden units of the feed-forward part of each block."""
    baseline: Literal["line", "none"] = "line"
    """What is generated: offsets from the straight line between known frames, or with `none` the motion itself."""
    predict: Literal["offset", "velocity"] = "offset"
    """What the network predicts: the offset at the end of the path, or the velocity along it."""
    random_known: float = 0.2
    """Fraction of the training windows in which randomly chosen frames are known, instead of the first and last."""
    difference_weight: float = 0.1
    """Weight of the squared error of differences between consecutive frames."""
    learning_rate: float = 2e-3
    """Largest learning rate of AdamW, reached after `warmup_steps`."""
    warmup_steps: int = 100
    """Steps over which the learning rate rises from 0."""
    decay_steps: int = 5000
    """Step at which the learning rate has decayed to a hundredth along a cosine, warm-up included."""
    weight_decay: float = 1e-2
    """Weight decay of AdamW."""
    max_gradient: float = 1.0
    """Norm that gradients are clipped to."""
    average_decay: float = 0.995
    """Decay per step of the moving average of the weights, which samples are drawn with."""
    sampler_steps: int = 10
    """Steps of Heun's method from noise to a sample; each evaluates the network twice, the last one once."""

    def __post_init__(self):
        require_at_least(self, width=1, num_layers=1, num_heads=1, feed_forward=1, sampler_steps=1)
        require_at_least(self, warmup_steps=0, difference_weight=0, weight_decay=0)
        require(self.width % (2 * self.num_heads) == 0, self, "width", "an even multiple of `num_heads`")
        require(self.decay_steps > self.warmup_steps, self, "decay_steps", f"above `warmup_steps`, {self.warmup_steps}")
        require(0 <= self.random_known <= 1, self, "random_known", "in [0, 1]")
        require(0 <= self.average_decay < 1, self, "average_decay", "in [0, 1)")
        require_positive(self, "learning_rate", "max_gradient")


class OffsetNetwork(nnx.Module):
    """Predicts the offset of every frame from its noisy version and the known frames around it."""

    def __init__(self, config: FlowConfig, vector_size: int, *, rngs: nnx.Rngs):
        self.width = config.width
        self.embed_level = nnx.Linear(config.width, config.width, rngs=rngs)
        self.transformer = Transformer(
            4 * vector_size + 3 + _WAVES,
            vector_size,
            width=config.width,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            feed_forward=config.feed_forward,
            rngs=rngs,
        )

    @jax.named_scope("offset_network")
    def __call__(
        self,
        noisy: Float[Array, "b t v"],
        level: Float[Array, " b"],
        context: Float[Array, "b t c"],
        times: Float[Array, "#b t"],
    ) -> Float[Array, "b t v"]:
        """Predict offsets [b, t, v] from noisy ones at `level` tau in [0, 1]; zero before training."""
        frequency = 1000.0 ** (-jnp.arange(self.width // 2) / (self.width // 2))
        angle = 1000 * level[:, None] * frequency
        condition = self.embed_level(jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], -1))
        return self.transformer(jnp.concatenate([noisy, context], -1), times, condition)


class FlowMotion(nnx.Module):
    """The flow-matching motion model: network, moving average of its weights, and statistics of the motion vectors.

    Args:
        config: sizes and sampling settings.
        num_keypoints: number of keypoints per frame.
        num_frames: length of the training windows.
        limits, statistics: Jacobian limits and statistics of the training split; loading weights replaces them.
        rngs: random keys for the initial weights.

    Attributes:
        network: the network that is trained.
        average: the network with the moving average of the weights, which samples are drawn with.
    """

    stochastic = True
    ends_only = False

    def __init__(
        self,
        config: FlowConfig,
        num_keypoints: int,
        *,
        num_frames: int = 16,
        limits: JacobianLimits | None = None,
        statistics: MotionStatistics | None = None,
        rngs: nnx.Rngs,
    ):
        self.config, self.num_keypoints, self.num_frames = config, num_keypoints, num_frames
        size = 6 * num_keypoints
        statistics = statistics or MotionStatistics.of_nothing(size, num_frames)
        self.network = OffsetNetwork(config, size, rngs=rngs)
        self.average = nnx.clone(self.network)
        _as_statistics(self.average)
        self.scaling = Scaling(limits)
        self.mean, self.deviation = nnx.BatchStat(statistics.mean), nnx.BatchStat(statistics.deviation)
        self.spread, self.drift = nnx.BatchStat(statistics.spread), nnx.BatchStat(statistics.drift)

    def to_offsets(self, vectors: Float[Array, "b t v"], around: Neighbors) -> Float[Array, "b t v"]:
        """Motion vectors as offsets in units of their spread: zero at known frames, if offsets are from the line."""
        if self.config.baseline == "none":
            return self._standardized(vectors)
        return (vectors - around.line) / self._spread(around)

    def to_vectors(self, offsets: Float[Array, "b t v"], around: Neighbors) -> Float[Array, "b t v"]:
        """Motion vectors from offsets, the inverse of `to_offsets`."""
        if self.config.baseline == "none":
            return offsets * self.deviation[...] + self.mean[...]
        return around.line + offsets * self._spread(around)

    def context(self, around: Neighbors, known: Bool[Array, "b t"]) -> Float[Array, "b t c"]:
        """What the network is told about every frame besides its noisy offset."""
        before, after = self._standardized(around.before), self._standardized(around.after)
        line = before + around.fraction * (after - before)
        waves = jnp.sin(jnp.pi * around.fraction * jnp.arange(1, _WAVES + 1))
        place_in_time = [around.fraction, waves, around.gap / self.num_frames, known[..., None].astype(jnp.float32)]
        return jnp.concatenate([line, before, after - before, *place_in_time], -1)

    def offsets(
        self,
        network: OffsetNetwork,
        noisy: Float[Array, "b t v"],
        level: Float[Array, " b"],
        context: Float[Array, "b t c"],
        times: Float[Array, "#b t"],
    ) -> tuple[Float[Array, "b t v"], Float[Array, "b t v"]]:
        """The offset at the end of the path, and the velocity towards it, as `network` predicts them at `level`."""
        predicted = network(noisy, level, context, times)
        left = 1 - level[:, None, None]
        if self.config.predict == "velocity":
            return noisy + left * predicted, predicted
        return predicted, (predicted - noisy) / left

    def sample(
        self,
        values: Float[Array, "b t v"],
        known: Bool[Array, "b t"],
        times: Float[Array, "#b t"],
        noise: Float[Array, "b t v"],
    ) -> Float[Array, "b t v"]:
        """Draw sequences of motion vectors.

        Args:
            values: motion vectors, of which only those of known frames are used.
            known: which frames are known.
            times: time of each frame, in frames; ascending.
            noise: standard normal noise.

        Returns:
            Motion vectors of all frames, those of known frames unchanged up to rounding.
        """
        around = neighbors(values, known, times)
        context = self.context(around, known)
        fixed = self.to_offsets(values, around)
        num_steps = self.config.sampler_steps

        def keep(offsets):
            return jnp.where(known[..., None], fixed, offsets)

        def predict(noisy, level):
            levels = jnp.full(len(noisy), level)
            return self.offsets(self.average, noisy, levels, context, times)

        def heun(noisy, step):
            level, size = step / num_steps, 1 / num_steps
            _, velocity = predict(noisy, level)
            ahead = keep(noisy + size * velocity)
            _, velocity_ahead = predict(ahead, level + size)
            return keep(noisy + size * (velocity + velocity_ahead) / 2), None

        noisy, _ = jax.lax.scan(heun, keep(noise), jnp.arange(num_steps - 1))
        predicted, _ = predict(noisy, 1 - 1 / num_steps)
        return self.to_vectors(keep(predicted), around)

    def generate(
        self,
        known: Keypoints,
        times: Int[Array | np.ndarray, " n"],
        num_frames: int,
        keys: Key[Array, " b"],
        clock: Float[Array | np.ndarray, " t"] | None = None,
    ) -> Keypoints:
        """Draw one sample for each sequence of known frames; see `vidcomp_jax.motion.model.MotionModel`.

        A sequence shorter than the training windows is drawn as the first part of a window.

        Raises:
            ValueError: `num_frames` is above the length of the training windows.
        """
        more = self.num_frames - num_frames
        if more < 0:
            raise ValueError(f"{num_frames} frames at once; this model generates up to {self.num_frames}")
        clock = jnp.arange(num_frames, dtype=jnp.float32) if clock is None else jnp.asarray(clock)
        clock = jnp.concatenate([clock, clock[-1] + 1 + jnp.arange(more)])
        vectors, mask = place(self.scaling.to_vectors(known), times, self.num_frames)
        noise = jax.vmap(lambda key: jax.random.normal(key, vectors.shape[1:]))(keys)
        sampled = self.sample(vectors, mask, clock[None], noise)[:, :num_frames]
        return keep_known(self.scaling.to_keypoints(sampled), known, times)

    def _spread(self, around: Neighbors) -> Float[Array, "b t v"]:
        """How far frames are expected to lie from the line, given how far away the known frames are."""
        inside, beyond = _rows(self.spread[...], around.gap), _rows(self.drift[...], around.beyond)
        return jnp.where(around.gap > 0, inside, beyond)

    def _standardized(self, vectors: Float[Array, "b t v"]) -> Float[Array, "b t v"]:
        return (vectors - self.mean[...]) / self.deviation[...]


def _as_statistics(module: nnx.Module) -> None:
    """Turn all parameters of a module into statistics, in place."""
    for _, part in nnx.iter_modules(module):
        for name, value in list(vars(part).items()):
            if isinstance(value, nnx.Param):
                setattr(part, name, nnx.BatchStat(value[...]))


def _rows(table: Float[Array, "t v"], index: Float[Array, "b t 1"]) -> Float[Array, "b t v"]:
    """Rows of a table at numbers that need not be whole, interpolated linearly; the last row beyond the end."""
    index = jnp.clip(index[..., 0], 0, len(table) - 1)
    lower = jnp.minimum(index.astype(jnp.int32), len(table) - 2)
    weight = (index - lower)[..., None]
    return (1 - weight) * table[lower] + weight * table[lower + 1]
