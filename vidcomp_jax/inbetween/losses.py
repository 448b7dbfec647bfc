"""The objective and optimizer of 3D-convolution in-betweening.

Input: the three networks and a batch of real clips. Output: one loss for all of them, and its parts. The loss is
reconstruction (squared error and gradient difference, Mathieu et al., 2016) plus two non-saturating GAN terms. A step
trains the generator and both discriminators at once, because the gradient of each term reaches its own network only.
A paused network gets a gradient of exact zeros, for which `pausing` leaves its parameters and Adam's moments alone.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float, Key

from vidcomp_jax.devices import mean_over_devices
from vidcomp_jax.errors import require, require_at_least, require_positive
from vidcomp_jax.inbetween.discriminators import ImageDiscriminator, VideoDiscriminator
from vidcomp_jax.inbetween.networks import Generator, InbetweenConfig

Scalar = Float[Array, ""]


@dataclasses.dataclass(frozen=True, kw_only=True)
class InbetweenLossConfig:
    """Weights of the loss, and the optimizer."""

    reconstruction_weight: float = 1.0
    """Weight of squared error plus gradient difference of the inner frames."""
    gradient_weight: float = 1.0
    """Weight of the gradient difference beside the squared error. Small networks learn much faster with 0.1."""
    adversarial_weight: float = 0.02
    """Weight of the two GAN terms in the generator's loss; 0 trains without discriminators."""
    margin: float = 0.3
    """A discriminator with a loss below this pauses, one with a loss above 1 minus this pauses the generator."""
    learning_rate: float = 1e-4
    """Step size of Adam, for all networks."""
    cosine_steps: int = 0
    """If not 0, the learning rate falls to a hundredth over this many steps, along a cosine."""
    beta1: float = 0.5
    """Decay of Adam's first moment."""

    def __post_init__(self):
        require_at_least(self, reconstruction_weight=0, gradient_weight=0, adversarial_weight=0, cosine_steps=0)
        require(0 <= self.margin < 0.5, self, "margin", "at least 0 and below 0.5")
        require_positive(self, "learning_rate")
        require(0 <= self.beta1 < 1, self, "beta1", "at least 0 and below 1")


class Inbetween(nnx.Module):
    """The networks that are trained together: the generator and its two discriminators."""

    def __init__(self, config: InbetweenConfig, *, rngs: nnx.Rngs):
        self.generator = Generator(config, rngs=rngs)
        self.video_discriminator = VideoDiscriminator(config, rngs=rngs)
        self.image_discriminator = ImageDiscriminator(config, rngs=rngs)
        self.noise_size = config.noise_size


class AdversarialLosses(NamedTuple):
    """The losses of one discriminator and of the generator against it; each is log 2 where every logit is 0.

    Attributes:
        real, fake: the discriminator's cross-entropy on real and on generated input.
        generator: the generator's non-saturating loss, -log D(generated).
    """

    real: Scalar
    fake: Scalar
    generator: Scalar


class ActiveNetworks(NamedTuple):
    """Which networks are updated in this step; the same on all devices.

    Attributes:
        generator, video_discriminator, image_discriminator: False if the network is paused.
    """

    generator: Bool[Array, ""]
    video_discriminator: Bool[Array, ""]
    image_discriminator: Bool[Array, ""]


def objective(
    model: Inbetween,
    clips: Float[Array, "b t h w c"],
    keys: Key[Array, " b"],
    *,
    config: InbetweenLossConfig,
) -> tuple[Scalar, dict[str, Scalar]]:
    """Loss of all networks on a batch of clips in [0, 1].

    Args:
        model: the networks, in training mode.
        clips: of the configured length and size.
        keys: one random key for each clip; its noise is drawn from it.

    Returns:
        The loss, and its parts unweighted, with `active_*` at 1 for each network that is updated and 0 for
            one that is paused.
    """
    generated = model.generator(clips[:, 0], clips[:, -1], draw_noise(keys, model.noise_size))
    inner, target = generated[:, 1:-1], clips[:, 1:-1]
    squared_error = jnp.square(inner - target).mean()
    gradients = gradient_difference(inner, target)
    # The published weights take the squared error of pixels from -1 to 1, four times that from 0 to 1, and the gradient
    # difference of pixels from 0 to 1.
    loss = config.reconstruction_weight * (4 * squared_error + config.gradient_weight * gradients)
    metrics = {"squared_error": squared_error, "gradient_difference": gradients, "l1": abs(inner - target).mean()}
    if not config.adversarial_weight:
        return loss, metrics

    video = adversarial_losses(model.video_discriminator, clips, generated)
    image = adversarial_losses(model.image_discriminator, _as_frames(target), _as_frames(inner))
    active = active_networks(video, image, config.margin)
    loss += config.adversarial_weight * (video.generator + image.generator)
    # A factor of exactly 0 or 1 for all losses of a network is what pauses it.
    loss *= active.generator
    loss += active.video_discriminator * (video.real + video.fake)
    loss += active.image_discriminator * (image.real + image.fake)
    metrics |= {f"video_{name}": value for name, value in video._asdict().items()}
    metrics |= {f"image_{name}": value for name, value in image._asdict().items()}
    metrics |= {f"active_{name}": value.astype(loss.dtype) for name, value in active._asdict().items()}
    return loss, metrics


def draw_noise(keys: Key[Array, " b"], size: int) -> Float[Array, "b n"]:
    """Standard normal noise, each row from its own key."""
    return jax.vmap(lambda key: jax.random.normal(key, (size,)))(keys)


def gradient_difference(a: Float[Array, "b t h w c"], b: Float[Array, "b t h w c"]) -> Scalar:
    """Mean difference between the absolute spatial differences of two clips, vertical plus horizontal."""
    terms = (abs(abs(jnp.diff(a, axis=axis)) - abs(jnp.diff(b, axis=axis))).mean() for axis in (2, 3))
    return sum(terms)  # type: ignore[return-value]  # the number 0 for no terms only


def adversarial_losses(
    discriminator: nnx.Module, real: Float[Array, "*s"], generated: Float[Array, "*s"]
) -> AdversarialLosses:
    """Losses of a discriminator and of the generator; the gradient of each reaches its own network only."""
    definition, state = nnx.split(discriminator)
    judge = nnx.merge(definition, jax.lax.stop_gradient(state))
    return AdversarialLosses(
        real=nnx.softplus(-discriminator(real)).mean(),
        fake=nnx.softplus(discriminator(jax.lax.stop_gradient(generated))).mean(),
        generator=nnx.softplus(-judge(generated)).mean(),
    )


def active_networks(video: AdversarialLosses, image: AdversarialLosses, margin: float) -> ActiveNetworks:
    """Which networks a step updates, from its losses averaged over all devices.

    A discriminator with a loss below `margin` is ahead and is paused. With a loss above 1 - `margin` it is behind, and
    the generator is paused. If that would pause all three, all are updated.
    """
    losses = mean_over_devices(jax.lax.stop_gradient(jnp.array([[g.real, g.fake] for g in (video, image)])))
    ahead = losses.min(axis=1) < margin
    behind = losses.max(axis=1) > 1 - margin
    paused = jnp.concatenate([behind.any(keepdims=True), ahead])
    return ActiveNetworks(*(~paused | paused.all()))


def optimizer(config: InbetweenLossConfig) -> optax.GradientTransformation:
    """Adam for each network by itself, pausing on a gradient of zeros. For parameters of `Inbetween`."""
    rate = config.learning_rate
    if config.cosine_steps:
        rate = optax.cosine_decay_schedule(rate, config.cosine_steps, alpha=0.01)
    each = {name: pausing(optax.adam(rate, b1=config.beta1)) for name in ActiveNetworks._fields}
    return optax.partition(each, lambda parameters: {name: name for name in parameters})


def pausing(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """`inner`, except that a gradient of nothing but zeros changes neither the parameters nor its state."""

    def update(gradients, state, parameters=None):
        moving = optax.tree.norm(gradients) != 0
        updates, moved = inner.update(gradients, state, parameters)
        updates = jax.tree.map(lambda leaf: jnp.where(moving, leaf, 0), updates)
        return updates, jax.tree.map(lambda new, old: jnp.where(moving, new, old), moved, state)

    return optax.GradientTransformation(inner.init, update)


def _as_frames(clips: Float[Array, "b t h w c"]) -> Float[Array, "n h w c"]:
    return clips.reshape(-1, *clips.shape[2:])
