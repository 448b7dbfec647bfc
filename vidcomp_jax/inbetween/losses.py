"""The objective and optimizer of 3D-convolution in-betweening.

Input: the three networks and a batch of real clips. Output: one loss for all networks, and its parts.

The loss is the sum of a reconstruction loss (squared error and gradient difference; Mathieu et al., 2016) and two
non-saturating GAN losses. One step trains the generator and both discriminators, since the gradient of each term
reaches only its own network. A paused network gets a gradient of exact zeros, for which `pausing` leaves both its
parameters and its Adam moments unchanged. The variant `video-completion` trains its networks in turn instead, see
`alternating`; its reconstruction loss also compares the gradients of the two generated ends.
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
    """Weights of the loss terms and settings of the optimizer."""

    reconstruction_weight: float = 1.0
    """Weight of the reconstruction loss of the inner frames: squared error plus gradient difference."""
    gradient_weight: float = 1.0
    """Weight of the gradient difference relative to the squared error. Small networks learn much faster with 0.1."""
    adversarial_weight: float = 0.02
    """Weight of the two GAN terms in the generator's loss; 0 trains without discriminators."""
    margin: float = 0.3
    """A discriminator is paused while its loss is below this, and the generator while one is above 1 minus this. With
    the variant video-completion, the video discriminator decides for all, and a pause lasts until the others pause."""
    learning_rate: float = 1e-4
    """Learning rate of Adam, for all networks."""
    cosine_steps: int = 0
    """If not 0, cosine decay of the learning rate to a hundredth over this many steps."""
    beta1: float = 0.5
    """Decay rate of Adam's first moment."""

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
        self.as_in_video_completion = config.as_in_video_completion


class AdversarialLosses(NamedTuple):
    """The losses of one discriminator, and of the generator against it. Each is log 2 if all logits are 0.

    Attributes:
        real, fake: cross-entropy of the discriminator on real and on generated input.
        generator: non-saturating loss of the generator, -log D(generated).
    """

    real: Scalar
    fake: Scalar
    generator: Scalar


class ActiveNetworks(NamedTuple):
    """Which networks a step updates; the same on all devices.

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
    """Compute the loss of all networks on a batch of clips.

    The variant `video-completion` is trained with it only without discriminators, `adversarial_weight` 0.

    Args:
        model: the networks, in training mode.
        clips: clips in [0, 1] of the configured length and size.
        keys: one random key for the noise of each clip.
        config: weights of the loss terms.

    Returns:
        The loss, and as metrics its unweighted parts and `active_*`, which is 1 for a network that is updated and 0
            for one that is paused.
    """
    generated = generate(model, clips, keys)
    loss, metrics = reconstruction(model, generated, clips, config)
    if not config.adversarial_weight:
        return loss, metrics

    video = adversarial_losses(model.video_discriminator, clips, generated)
    image = adversarial_losses(model.image_discriminator, inner_frames(clips), inner_frames(generated))
    active = active_networks(video, image, config.margin)
    loss += config.adversarial_weight * (video.generator + image.generator)
    # A factor of 0 makes the gradient exactly zero, which pauses the network.
    loss *= active.generator
    loss += active.video_discriminator * (video.real + video.fake)
    loss += active.image_discriminator * (image.real + image.fake)
    metrics |= {f"video_{name}": value for name, value in video._asdict().items()}
    metrics |= {f"image_{name}": value for name, value in image._asdict().items()}
    metrics |= {f"active_{name}": value.astype(loss.dtype) for name, value in active._asdict().items()}
    return loss, metrics


def generate(model: Inbetween, clips: Float[Array, "b t h w c"], keys: Key[Array, " b"]) -> Float[Array, "b t h w c"]:
    """Generate the clips between the ends of `clips`; the variant `video-completion` generates the ends as well."""
    run = model.generator.generate if model.as_in_video_completion else model.generator
    return run(clips[:, 0], clips[:, -1], draw_noise(keys, model.noise_size))


def reconstruction(
    model: Inbetween,
    generated: Float[Array, "b t h w c"],
    clips: Float[Array, "b t h w c"],
    config: InbetweenLossConfig,
) -> tuple[Scalar, dict[str, Scalar]]:
    """The weighted reconstruction loss of generated clips, and its unweighted parts as metrics."""
    inner, target = generated[:, 1:-1], clips[:, 1:-1]
    squared_error = jnp.square(inner - target).mean()
    if model.as_in_video_completion:
        gradients = gradient_difference(generated, clips, bordered=True)
    else:
        gradients = gradient_difference(inner, target)
    # The weights of Video_Completion are for squared errors of pixels in [-1, 1], which are four times those of pixels
    # in [0, 1], but for gradient differences of pixels in [0, 1].
    loss = config.reconstruction_weight * (4 * squared_error + config.gradient_weight * gradients)
    parts = {"squared_error": squared_error, "gradient_difference": gradients, "l1": abs(inner - target).mean()}
    return loss, parts


def draw_noise(keys: Key[Array, " b"], size: int) -> Float[Array, "b n"]:
    """Draw standard normal noise, each row from its own key."""
    return jax.vmap(lambda key: jax.random.normal(key, (size,)))(keys)


def gradient_difference(
    a: Float[Array, "b t h w c"], b: Float[Array, "b t h w c"], *, bordered: bool = False
) -> Scalar:
    """Gradient difference loss: mean difference of absolute image gradients, vertical plus horizontal.

    With `bordered`, the last row and column have gradients, too: differences from a black border.
    """

    def gradients(x: Array, axis: int) -> Array:
        border = [(0, int(bordered and place == axis)) for place in range(x.ndim)]
        return abs(jnp.diff(jnp.pad(x, border), axis=axis))

    terms = (abs(gradients(a, axis) - gradients(b, axis)).mean() for axis in (2, 3))
    return sum(terms)  # type: ignore[return-value]  # sum() is typed as int for no terms


def adversarial_losses(
    discriminator: nnx.Module, real: Float[Array, "*s"], generated: Float[Array, "*s"]
) -> AdversarialLosses:
    """Losses of a discriminator and of the generator. The gradient of each reaches only its own network."""
    definition, state = nnx.split(discriminator)
    judge = nnx.merge(definition, jax.lax.stop_gradient(state))
    return AdversarialLosses(
        real=nnx.softplus(-discriminator(real)).mean(),
        fake=nnx.softplus(discriminator(jax.lax.stop_gradient(generated))).mean(),
        generator=nnx.softplus(-judge(generated)).mean(),
    )


def active_networks(video: AdversarialLosses, image: AdversarialLosses, margin: float) -> ActiveNetworks:
    """Decide which networks a step updates, based on the losses averaged over all devices.

    A discriminator with a loss below `margin` is ahead and is paused. If one has a loss above 1 - `margin`, it is
    behind and the generator is paused. If this would pause all three networks, all are updated.
    """
    losses = mean_over_devices(jax.lax.stop_gradient(jnp.array([[g.real, g.fake] for g in (video, image)])))
    ahead = losses.min(axis=1) < margin
    behind = losses.max(axis=1) > 1 - margin
    paused = jnp.concatenate([behind.any(keepdims=True), ahead])
    return ActiveNetworks(*(~paused | paused.all()))


def optimizer(config: InbetweenLossConfig) -> optax.GradientTransformation:
    """A separate Adam for each network of `Inbetween`, which leaves a network with zero gradients unchanged."""
    each = {name: pausing(adam(config)) for name in ActiveNetworks._fields}
    return optax.partition(each, lambda parameters: {name: name for name in parameters})


def adam(config: InbetweenLossConfig) -> optax.GradientTransformation:
    """The Adam of one network."""
    rate = config.learning_rate
    if config.cosine_steps:
        rate = optax.cosine_decay_schedule(rate, config.cosine_steps, alpha=0.01)
    return optax.adam(rate, b1=config.beta1)


def pausing(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Wrap `inner` so that an all-zero gradient changes neither the parameters nor the optimizer state."""

    def update(gradients, state, parameters=None):
        moving = optax.tree.norm(gradients) != 0
        updates, moved = inner.update(gradients, state, parameters)
        updates = jax.tree.map(lambda leaf: jnp.where(moving, leaf, 0), updates)
        return updates, jax.tree.map(lambda new, old: jnp.where(moving, new, old), moved, state)

    return optax.GradientTransformation(inner.init, update)


def inner_frames(clips: Float[Array, "b t h w c"]) -> Float[Array, "n h w c"]:
    """The frames of clips between their ends, one after another."""
    return clips[:, 1:-1].reshape(-1, *clips.shape[2:])
