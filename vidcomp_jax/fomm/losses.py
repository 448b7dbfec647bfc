"""The training objective of the First Order Motion Model.

Input: a batch of frame pairs. Output: the loss and its terms.

The terms are a perceptual pyramid, LSGAN, feature matching, and equivariance of positions and Jacobians under a random
warp (Siarohin et al., NeurIPS 2019, section 3.1, equations 9 to 11), with the weights of the released training code.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from vidcomp_jax.errors import InputError, require, require_at_least
from vidcomp_jax.fomm.discriminator import MultiScaleDiscriminator, Scores
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.fomm.model import FirstOrderMotionModel, Rendered
from vidcomp_jax.fomm.perceptual import VGG19, perceptual_loss, pyramid_loss
from vidcomp_jax.nn.geometry import RandomWarp, RandomWarpConfig, inverse_2x2, multiply_2x2
from vidcomp_jax.nn.resampling import UNIT_FRACTION, is_unit_fraction

Metrics = dict[str, Float[Array, ""]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FOMMLossConfig:
    """Weights of the loss terms. The defaults are those of the released code."""

    scales: tuple[float, ...] = (1.0, 0.5, 0.25, 0.125)
    """Scales of the frames at which the reconstruction losses are computed."""
    perceptual: tuple[float, ...] = (10.0, 10.0, 10.0, 10.0, 10.0)
    """Weights of the perceptual loss for the five VGG19 layers; used when VGG19 weights are given."""
    pyramid: float = 100.0
    """Weight of the multi-scale L1 and gradient difference loss; used when no VGG19 weights are given."""
    generator_gan: float = 1.0
    """Weight of the generator's LSGAN term; 0 trains without the discriminator."""
    discriminator_gan: float = 1.0
    """Weight of the discriminator's LSGAN term."""
    feature_matching: tuple[float, ...] = (10.0, 10.0, 10.0, 10.0)
    """Weights of the feature matching losses, one for each block of the discriminator."""
    equivariance_position: float = 10.0
    """Weight of the equivariance loss on positions."""
    equivariance_jacobian: float = 10.0
    """Weight of the equivariance loss on Jacobians."""
    warp: RandomWarpConfig = RandomWarpConfig()
    """Random warp used by the equivariance losses."""

    def __post_init__(self):
        require(len(self.perceptual) == 5, self, "perceptual", "five weights, one for each layer of VGG19 that is used")
        require(self.scales, self, "scales", "at least one scale, such as 1")
        require(all(map(is_unit_fraction, self.scales)), self, "scales", f"each {UNIT_FRACTION}")
        require_at_least(
            self, pyramid=0, generator_gan=0, discriminator_gan=0, equivariance_position=0, equivariance_jacobian=0
        )


class TrainingNetworks(nnx.Module):
    """A model and the settings and frozen network that its loss needs.

    Args:
        model: the model to train.
        loss: weights of the loss terms.
        vgg: trained VGG19 with frozen weights; without it, the pyramid loss is used.

    Raises:
        InputError: if the discriminator is used and `loss.feature_matching` does not have one weight for each block.
    """

    def __init__(self, model: FirstOrderMotionModel, loss: FOMMLossConfig, vgg: VGG19 | None = None):
        blocks, weights = model.config.discriminator.num_blocks, loss.feature_matching
        if loss.generator_gan and len(weights) != blocks:
            raise InputError(
                f"loss.feature_matching has {len(weights)} weights, discriminator.num_blocks is {blocks}; "
                "they must be equal"
            )
        self.model = model
        self.loss = loss
        self.vgg = vgg


def fomm_objective(
    networks: TrainingNetworks,
    pair: tuple[Float[Array, "b h w c"], Float[Array, "b h w c"]],
    keys: Key[Array, " b"],
) -> tuple[Float[Array, ""], Metrics]:
    """Loss and weighted terms for a batch of (source, driving) frames in [0, 1], with one random warp drawn per key."""
    source, driving = pair
    total, metrics, _ = fomm_losses(networks, source, driving, RandomWarp.draw(keys, networks.loss.warp))
    return total, metrics


def fomm_losses(
    networks: TrainingNetworks, source: Float[Array, "b h w c"], driving: Float[Array, "b h w c"], warp: RandomWarp
) -> tuple[Float[Array, ""], Metrics, Rendered]:
    """Loss, weighted terms and rendered frames for frames in [0, 1] and given warps.

    The loss is the sum of the generator's and the discriminator's terms. Its gradient for either network is that of
    the network's own objective, as in the alternating updates of the released code, which read the same weights.

    Returns:
        The loss; its weighted terms by name, and the unweighted `l1` of the prediction; the rendered frames.
    """
    model, weights = networks.model, networks.loss
    frames = [source, driving]
    if weights.equivariance_position or (weights.equivariance_jacobian and model.config.estimate_jacobian):
        frames.append(warp.warp_frame(driving, align_corners=model.config.align_corners))
    source_keypoints, keypoints, *warped = model.detector.each(*frames)
    rendered = model.generate(source, source_keypoints, keypoints)

    terms: Metrics = {}
    if networks.vgg is None:
        loss = pyramid_loss(rendered.prediction, driving, scales=weights.scales)
        terms["pyramid"] = weights.pyramid * loss
    else:
        terms["perceptual"] = perceptual_loss(
            networks.vgg, rendered.prediction, driving, scales=weights.scales, weights=weights.perceptual
        )
    if warped:
        terms |= _equivariance(keypoints, warped[0], warp, weights, use_jacobian=model.config.estimate_jacobian)
    if weights.generator_gan:
        terms |= _adversarial(model.discriminator, rendered.prediction, driving, keypoints, weights)
    total = sum(terms.values(), start=jnp.zeros(()))
    l1 = jax.lax.stop_gradient(jnp.mean(jnp.abs(rendered.prediction - driving)))
    return total, terms | {"l1": l1}, rendered


def _equivariance(
    keypoints: Keypoints, warped: Keypoints, warp: RandomWarp, weights: FOMMLossConfig, *, use_jacobian: bool
) -> Metrics:
    """The terms for keypoints of a frame and of the warped frame."""
    terms = {}
    if weights.equivariance_position:
        difference = keypoints.position - warp(warped.position)
        terms["equivariance_position"] = weights.equivariance_position * jnp.mean(jnp.abs(difference))
    if weights.equivariance_jacobian and use_jacobian:
        expected = multiply_2x2(warp.jacobian(warped.position), warped.jacobian)
        ratio = multiply_2x2(inverse_2x2(keypoints.jacobian), expected)
        terms["equivariance_jacobian"] = weights.equivariance_jacobian * jnp.mean(jnp.abs(jnp.eye(2) - ratio))
    return terms


def _adversarial(
    discriminator: MultiScaleDiscriminator,
    prediction: Array,
    frame: Array,
    keypoints: Keypoints,
    weights: FOMMLossConfig,
) -> Metrics:
    keypoints = jax.lax.stop_gradient(keypoints)
    # Written twice, with gradients to the generator only and to the discriminator only: XLA computes each pass once,
    # except with spectral norm, where each of the four passes is one more power iteration, as in the released code.
    frozen = _with_frozen_weights(discriminator)
    for_generator, for_generator_real = frozen(prediction, keypoints), frozen(frame, keypoints)
    nnx.update(discriminator, nnx.state(frozen, nnx.BatchStat))
    generated = discriminator(jax.lax.stop_gradient(prediction), keypoints)
    real = discriminator(frame, keypoints)

    terms: dict[str, Any] = {
        "generator_gan": weights.generator_gan * sum(jnp.mean(jnp.square(1 - s.score)) for s in for_generator),
        "discriminator_gan": weights.discriminator_gan
        * sum(jnp.mean(jnp.square(1 - r.score) + jnp.square(g.score)) for r, g in zip(real, generated, strict=True)),
    }
    if any(weights.feature_matching):
        terms["feature_matching"] = _feature_matching(for_generator, for_generator_real, weights.feature_matching)
    return terms


def _feature_matching(
    generated: tuple[Scores, ...], real: tuple[Scores, ...], weights: tuple[float, ...]
) -> Float[Array, ""]:
    total = jnp.zeros(())
    for a, b in zip(generated, real, strict=True):
        for weight, x, y in zip(weights, a.features, b.features, strict=True):
            total += weight * jnp.mean(jnp.abs(x.astype(jnp.float32) - y.astype(jnp.float32)))
    return total


def _with_frozen_weights(module: MultiScaleDiscriminator) -> MultiScaleDiscriminator:
    graphdef, *states = nnx.split(module, nnx.Param, ...)
    params, rest = map(nnx.to_pure_dict, states)
    return nnx.merge(graphdef, jax.tree.map(jax.lax.stop_gradient, params), rest)
