"""Reconstruction objectives: two batches of frames in, a scalar out.

With VGG19 weights, the multi-scale perceptual loss (Johnson et al., 2016) as released with the First Order Motion
Model; without them, a multi-scale L1 and gradient difference loss (Mathieu et al., 2016, equation 6).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from vidcomp_jax.errors import InputError
from vidcomp_jax.layers import conv, image_pyramid

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Position in torchvision's `features`, channels in, channels out. "M" is a 2x2 maximum.
_VGG19 = [64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512, 512, 512, 512, "M"]
_TAPS = ("features.0", "features.5", "features.10", "features.19", "features.28")


class VGG19(nnx.Module):
    """The convolutions of VGG19 (Simonyan and Zisserman, 2015), in torchvision's numbering.

    Args:
        rngs: key of the initial weights, which are worthless: load trained ones.
    """

    def __init__(self, *, rngs: nnx.Rngs):
        self.features = nnx.Dict()
        position, channels = 0, 3
        for item in _VGG19:
            if item == "M":
                position += 1
                continue
            self.features[str(position)] = conv(channels, item, 3, padding=1, rngs=rngs)
            position, channels = position + 2, item

    def __call__(self, frames: Float[Array, "b h w c"]) -> list[Float[Array, "b _ _ _"]]:
        """Features after relu1_1, relu2_1, relu3_1, relu4_1, relu5_1 of frames in [0, 1], gray or RGB."""
        x = jnp.broadcast_to(frames, (*frames.shape[:3], 3))
        x = (x - jnp.asarray(IMAGENET_MEAN)) / jnp.asarray(IMAGENET_STD)
        position, outputs = 0, []
        for item in _VGG19:
            if item == "M":
                x = nnx.max_pool(x, (2, 2), (2, 2))
                position += 1
                continue
            x = nnx.relu(self.features[str(position)](x))
            if f"features.{position}" in _TAPS:
                outputs.append(x)
                if len(outputs) == len(_TAPS):
                    break
            position += 2
        return outputs


def perceptual_loss(
    vgg: VGG19,
    prediction: Float[Array, "b h w c"],
    target: Float[Array, "b h w c"],
    *,
    scales: Sequence[float] = (1, 0.5, 0.25, 0.125),
    weights: Sequence[float] = (10, 10, 10, 10, 10),
) -> Float[Array, ""]:
    """Weighted mean absolute difference of VGG19 features, summed over scales and layers.

    Frames must be at least 16 pixels at the smallest scale. No gradient flows into the target.
    """
    smallest = min(prediction.shape[1:3]) * min(scales)
    if smallest < 16:
        raise InputError(
            f"the perceptual loss at scale {min(scales):g} sees frames of {smallest:g} pixels, VGG19 needs 16; "
            "leave that scale out with --fomm.loss.scales"
        )
    total = jnp.zeros(())
    for x, y in zip(image_pyramid(prediction, scales), image_pyramid(target, scales), strict=True):
        for weight, a, b in zip(weights, vgg(x), vgg(y), strict=True):
            total += weight * jnp.mean(jnp.abs(a - jax.lax.stop_gradient(b)))
    return total


def pyramid_loss(
    prediction: Float[Array, "b h w c"],
    target: Float[Array, "b h w c"],
    *,
    scales: Sequence[float] = (1, 0.5, 0.25, 0.125),
) -> Float[Array, ""]:
    """Mean absolute difference plus gradient difference, averaged over scales."""
    total = jnp.zeros(())
    for x, y in zip(image_pyramid(prediction, scales), image_pyramid(target, scales), strict=True):
        total += jnp.mean(jnp.abs(x - y))
        for axis in (1, 2):
            total += jnp.mean(jnp.abs(jnp.abs(jnp.diff(x, axis=axis)) - jnp.abs(jnp.diff(y, axis=axis))))
    return total / len(scales)
