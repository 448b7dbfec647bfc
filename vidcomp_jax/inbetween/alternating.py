"""The training step of the variant `video-completion`: first the discriminators, then the generator, with long pauses.

Input: the three networks and a batch of real clips. Output: the networks after one step, and which of them the next
step trains.

As in the public repository xih108/Video_Completion (`train_kth_multigpu.py`): both discriminators are updated, then the
generator against the updated discriminators. Afterwards the losses of the video discriminator on the same batch decide
who pauses. The discriminators pause once it is ahead, the generator once it is behind, and neither goes on before both
are paused, which ends both pauses.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float

from vidcomp_jax.devices import mean_over_devices
from vidcomp_jax.inbetween.losses import (
    Inbetween,
    InbetweenLossConfig,
    Scalar,
    adam,
    generate,
    inner_frames,
    reconstruction,
)
from vidcomp_jax.training.step import DeviceStep, TrainState

GENERATOR, DISCRIMINATORS = "generator", ("video_discriminator", "image_discriminator")


class Moving(NamedTuple):
    """Which networks the next step trains; the same on all devices.

    Attributes:
        generator, discriminators: False while paused.
    """

    generator: Bool[Array, ""]
    discriminators: Bool[Array, ""]


class AlternatingState(NamedTuple):
    """The state of the optimizer.

    Attributes:
        generator, discriminators: state of the Adam of each.
        moving: which of the two are not paused.
    """

    generator: Any
    discriminators: Any
    moving: Moving


def alternating_optimizer(rule: optax.GradientTransformation) -> optax.GradientTransformation:
    """One optimizer for the generator and one for both discriminators, for `alternating_step`, which updates them."""

    def init(params: dict[str, Any]) -> AlternatingState:
        generator, discriminators = _split(params)
        moving = Moving(*(jnp.ones((), bool) for _ in Moving._fields))
        return AlternatingState(rule.init(generator), rule.init(discriminators), moving)

    return optax.GradientTransformation(init, rule.update)


def alternating_step(
    config: InbetweenLossConfig, rule: optax.GradientTransformation | None = None
) -> tuple[optax.GradientTransformation, DeviceStep]:
    """The optimizer and the training step for `fit`.

    A batch holds clips [b, t, h, w, c] in [0, 1]. The metrics are those of the updates: `loss` and `grad_norm` of the
    generator, the parts of its loss, the losses of the discriminators, and `active_*`, which is 1 for a network that
    was updated and 0 for one that was paused.

    Args:
        config: weights of the loss terms; `adversarial_weight` must not be 0.
        rule: optimizer of each side; Adam with the settings of `config` by default.
    """
    rule = rule or adam(config)

    def step(graphdef, state, constants, clips, keys):
        moving = state.opt_state.moving
        generator, discriminators = _split(state.params)

        def merged(generator, discriminators) -> Inbetween:
            return nnx.merge(graphdef, {GENERATOR: generator, **discriminators}, state.batch_stats, constants)

        def generated_by(generator):
            model = merged(generator, discriminators)
            return generate(model, clips, keys), nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))

        def told_apart(discriminators):
            model = merged(generator, discriminators)
            video = _told_apart(model.video_discriminator, clips, generated)
            image = _told_apart(model.image_discriminator, inner_frames(clips), inner_frames(generated))
            return sum((*video, *image)), (*video, *image)

        def fooled(generated, discriminators):
            model = merged(generator, discriminators)
            loss, parts = reconstruction(model, generated, clips, config)
            video = nnx.softplus(-model.video_discriminator(generated)).mean()
            image = nnx.softplus(-model.image_discriminator(inner_frames(generated))).mean()
            parts |= {"video_generator": video, "image_generator": image}
            return loss + config.adversarial_weight * (video + image), parts

        def updated(params, grads, opt_state, moves):
            updates, moved = rule.update(grads, opt_state, params)
            new = optax.apply_updates(params, updates), moved
            return jax.tree.map(lambda new, old: jnp.where(moves, new, old), new, (params, opt_state))

        generated, back, batch_stats = jax.vjp(generated_by, generator, has_aux=True)
        grads, losses = jax.grad(told_apart, has_aux=True)(discriminators)
        grads, opt_state = mean_over_devices(grads), state.opt_state
        discriminators, second = updated(discriminators, grads, opt_state.discriminators, moving.discriminators)
        (loss, parts), grads = jax.value_and_grad(fooled, has_aux=True)(generated, discriminators)
        grads = mean_over_devices(back(grads)[0])
        generator, first = updated(generator, grads, opt_state.generator, moving.generator)

        metrics = {"loss": loss, "grad_norm": optax.tree.norm(grads), **parts}
        metrics |= dict(zip(("video_real", "video_fake", "image_real", "image_fake"), losses, strict=True))
        metrics |= {f"active_{name}": value.astype(loss.dtype) for name, value in moving._asdict().items()}

        judge = merged(generator, discriminators).video_discriminator
        after = mean_over_devices(jnp.stack(_told_apart(judge, clips, generated_by(generator)[0])))
        opt_state = AlternatingState(first, second, following(moving, after, config.margin))
        params = {GENERATOR: generator, **discriminators}
        return TrainState(state.step, params, batch_stats, opt_state), metrics

    return alternating_optimizer(rule), step


def following(moving: Moving, losses: Float[Array, "2"], margin: float) -> Moving:
    """Which networks the next step trains.

    Args:
        moving: which ones this step trained.
        losses: of the video discriminator, on real and on generated clips.
        margin: the discriminators pause if one of its losses is below this, the generator if one is above 1 - this.
    """
    discriminators = moving.discriminators & (losses >= margin).all()
    generator = moving.generator & (losses <= 1 - margin).all()
    neither = ~discriminators & ~generator
    return Moving(generator | neither, discriminators | neither)


def _told_apart(
    discriminator: nnx.Module, real: Float[Array, "b *s"], generated: Float[Array, "b *s"]
) -> tuple[Scalar, Scalar]:
    """The losses of a discriminator, on real and on generated input, in one pass."""
    logits = discriminator(jnp.concatenate([real, generated]))
    return nnx.softplus(-logits[: len(real)]).mean(), nnx.softplus(logits[len(real) :]).mean()


def _split(params: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return params[GENERATOR], {name: params[name] for name in DISCRIMINATORS}
