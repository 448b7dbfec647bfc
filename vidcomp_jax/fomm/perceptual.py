"""The reconstruction losses.

Input: predicted and true frames. Output: the loss, a scalar.

With VGG19 weights, the multi-scale perceptual loss (Johnson et al., 2016) as released with the First Order Motion
Model; without them, a multi-scale L1 and gradient difference loss (Mathieu et al., 2016, equation 6).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from vidcomp_jax.errors import InputError
from vidcomp_jax.nn.layers import conv, freeze
from vidcomp_jax.nn.precision import MixedPrecision
from vidcomp_jax.nn.resampling import image_pyramid, max_pool
from vidcomp_jax.storage.atomic import new_file
from vidcomp_jax.storage.untrusted import read_npz

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Channels of the convolutions in torchvision's `features`; "M" is 2x2 max pooling.
_VGG19: list[int | str] = [64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4, "M"]
_TAPS = (0, 5, 10, 19, 28)


class VGG19(MixedPrecision):
    """The convolutions of VGG19 (Simonyan and Zisserman, 2015), in torchvision's numbering.

    Args:
        rngs: random keys for the initial weights; the losses need trained weights, see `load_vgg19`.
    """

    def __init__(self, *, rngs: nnx.Rngs):
        self.features: nnx.Dict[nnx.Conv] = nnx.Dict()
        position, channels = 0, 3
        for item in _VGG19:
            if isinstance(item, str):
                position += 1
                continue
            self.features[str(position)] = conv(channels, item, 3, padding=1, rngs=rngs)
            position, channels = position + 2, item

    @jax.named_scope("vgg19")
    def __call__(self, frames: Float[Array, "b h w c"]) -> list[Float[Array, "b _ _ _"]]:
        """Features after relu1_1, relu2_1, relu3_1, relu4_1 and relu5_1 of gray or RGB frames in [0, 1]."""
        x = jnp.broadcast_to(frames, (*frames.shape[:3], 3))
        x = ((x - jnp.asarray(IMAGENET_MEAN)) / jnp.asarray(IMAGENET_STD)).astype(self.compute_dtype)
        position, outputs = 0, []
        for item in _VGG19:
            if isinstance(item, str):
                x = max_pool(x)
                position += 1
                continue
            x = nnx.relu(self.features[str(position)](x))
            if position in _TAPS:
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
    scales: Sequence[float] = (1.0, 0.5, 0.25, 0.125),
    weights: Sequence[float] = (10.0, 10.0, 10.0, 10.0, 10.0),
) -> Float[Array, ""]:
    """Weighted mean absolute difference of VGG19 features, summed over scales and layers; frames in [0, 1].

    No gradient flows into the target.

    Raises:
        InputError: if height or width is less than 16 pixels at the smallest scale.
    """
    smallest = min(prediction.shape[1:3]) * min(scales)
    if smallest < 16:
        raise InputError(
            f"the perceptual loss at scale {min(scales):g} sees frames of {smallest:g} pixels, VGG19 needs 16; "
            "leave that scale out of `loss.scales`"
        )
    total = jnp.zeros(())
    for x, y in zip(image_pyramid(prediction, scales), image_pyramid(target, scales), strict=True):
        for weight, a, b in zip(weights, vgg(x), vgg(y), strict=True):
            a, b = a.astype(jnp.float32), jax.lax.stop_gradient(b).astype(jnp.float32)
            total += weight * jnp.mean(jnp.abs(a - b))
    return total


def pyramid_loss(
    prediction: Float[Array, "b h w c"],
    target: Float[Array, "b h w c"],
    *,
    scales: Sequence[float] = (1.0, 0.5, 0.25, 0.125),
) -> Float[Array, ""]:
    """Mean absolute difference plus mean gradient difference, averaged over scales; frames in [0, 1]."""
    total = jnp.zeros(())
    for x, y in zip(image_pyramid(prediction, scales), image_pyramid(target, scales), strict=True):
        total += jnp.mean(jnp.abs(x - y))
        for axis in (1, 2):
            total += jnp.mean(jnp.abs(jnp.abs(jnp.diff(x, axis=axis)) - jnp.abs(jnp.diff(y, axis=axis))))
    return total / len(scales)


def save_vgg19(path: Path | str, vgg: VGG19) -> None:
    """Write the weights to one file in NumPy's `.npz` format, whatever the file's name."""
    path = Path(path)
    with new_file(path) as temporary, temporary.open("wb") as file:
        arrays: dict[str, Any] = {key: np.asarray(leaf[...]) for key, leaf in _vgg19_leaves(vgg)}
        np.savez(file, **arrays)


def load_vgg19(path: Path | str) -> VGG19:
    """Load VGG19 with frozen weights from a file that `save_vgg19` wrote.

    Raises:
        InputError: if the file is missing, is not such a file, or lacks weights.
    """
    vgg = nnx.eval_shape(lambda: VGG19(rngs=nnx.Rngs(0)))
    problem, advice = (
        "no converted VGG19 weights",
        ("make them with `python -m converters.convert_vgg19 vgg19.pth --output=FILE`"),
    )
    if not Path(path).exists():
        raise InputError(f"{path}: no such file; converted VGG19 weights were expected")
    stored = read_npz(Path(path), problem, advice)
    if "features.0.kernel" not in stored:
        raise InputError(f"{path}: {problem}; {advice}")
    for key, leaf in _vgg19_leaves(vgg):
        if key not in stored or stored[key].shape != leaf.shape or stored[key].dtype.kind != "f":
            found = stored[key].shape if key in stored else "nothing"
            raise InputError(f"{path}: {key} is {found}, expected an array of shape {leaf.shape}")
        leaf.set_value(jnp.asarray(stored[key]))
    freeze(vgg)
    return vgg


def _vgg19_leaves(vgg: VGG19) -> Iterator[tuple[str, nnx.Variable]]:
    for position in vgg.features:
        layer = vgg.features[position]
        assert layer.bias is not None  # for the type checker; `conv` always creates a bias
        yield f"features.{position}.kernel", layer.kernel
        yield f"features.{position}.bias", layer.bias
