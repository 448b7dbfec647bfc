"""LPIPS, the learned perceptual distance between images (Zhang et al., 2018), with AlexNet or VGG16.

Input: pairs of frames. Output: a distance for each pair, equal to version 0.1 of the authors' `lpips` package. The
weights are converted once with `converters.convert_lpips`: those of the backbone are torchvision's, those of the heads
are part of the authors' package.
"""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from vidcomp_jax.errors import InputError
from vidcomp_jax.nn.layers import freeze
from vidcomp_jax.replicas import Devices, Replicas
from vidcomp_jax.storage.atomic import new_file
from vidcomp_jax.storage.checksums import checksum_of
from vidcomp_jax.storage.untrusted import read_npz

Backbone = Literal["alex", "vgg16"]
Frames = Float[np.ndarray, "..."]  # sizes are checked by the function, which raises an InputError

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of the authors, for colors in [-1, 1]
_EPSILON = 1e-10
_BATCH_SIZE = 16  # pairs compared per call; smaller batches are padded
_ENTRY = "backbone"


class _Conv(NamedTuple):
    """A convolution followed by a ReLU; `tap` marks the layers whose outputs are compared."""

    channels: int
    size: int = 3
    stride: int = 1
    padding: int = 1
    tap: bool = False


class _Pool(NamedTuple):
    """Max pooling with stride 2, without padding."""

    size: int


_TAP = functools.partial(_Conv, tap=True)
_LAYERS: dict[Backbone, list[_Conv | _Pool]] = {
    "alex": [
        *(_Conv(64, 11, 4, 2, tap=True), _Pool(3), _Conv(192, 5, 1, 2, tap=True), _Pool(3)),
        *(_TAP(384), _TAP(256), _TAP(256)),
    ],
    "vgg16": [
        *(_Conv(64), _TAP(64), _Pool(2), _Conv(128), _TAP(128), _Pool(2), _Conv(256), _Conv(256), _TAP(256), _Pool(2)),
        *(_Conv(512), _Conv(512), _TAP(512), _Pool(2), _Conv(512), _Conv(512), _TAP(512)),
    ],
}
_SMALLEST: dict[Backbone, int] = {"alex": 31, "vgg16": 16}
"""Height and width in pixels that leave at least one pixel in the last layer."""


class LPIPS(nnx.Module):
    """The distance network: a convolutional backbone, and a non-negative weight for each of its channels.

    Args:
        backbone: `alex` or `vgg16`.
        rngs: random keys for the initial weights; meaningful distances need trained ones, see `load_lpips`.

    Attributes:
        backbone: see above.
        features: the convolutions, in torchvision's numbering.
        heads: the weights of the channels, one array for each compared layer.
        checksum: sixteen hexadecimal digits that identify the file that the weights were loaded from; empty if none.
    """

    def __init__(self, backbone: Backbone, *, rngs: nnx.Rngs):
        self.backbone: Backbone = backbone
        self.checksum = ""
        self.features: nnx.Dict[nnx.Conv] = nnx.Dict()
        heads, channels = [], 3
        for position, layer in _numbered(backbone):
            if isinstance(layer, _Conv):
                self.features[position] = nnx.Conv(
                    channels,
                    layer.channels,
                    (layer.size, layer.size),
                    strides=layer.stride,
                    padding=((layer.padding, layer.padding), (layer.padding, layer.padding)),
                    rngs=rngs,
                )
                channels = layer.channels
                if layer.tap:
                    heads.append(nnx.Param(jnp.full(channels, 1 / channels)))
        self.heads = nnx.List(heads)

    def __call__(self, a: Float[Array, "b h w c"], b: Float[Array, "b h w c"]) -> Float[Array, " b"]:
        """Distances between two batches of gray or RGB frames in [0, 1]."""
        total = jnp.zeros(len(a))
        for head, x, y in zip(self.heads, self._activations(a), self._activations(b), strict=True):
            total += (jnp.square(_unit(x) - _unit(y)) * head[...]).sum(-1).mean((1, 2))
        return total

    def _activations(self, frames: Float[Array, "b h w c"]) -> Iterator[Float[Array, "b _ _ _"]]:
        x = jnp.broadcast_to(frames, (*frames.shape[:3], 3))
        x = (2 * x - 1 - jnp.asarray(_SHIFT)) / jnp.asarray(_SCALE)
        for position, layer in _numbered(self.backbone):
            if isinstance(layer, _Pool):
                x = nnx.max_pool(x, (layer.size, layer.size), (2, 2))
                continue
            x = nnx.relu(self.features[position](x))
            if layer.tap:
                yield x


def lpips_distance(network: LPIPS, clips: Frames, truth: Frames, *, devices: Devices = None) -> Float[np.ndarray, "*t"]:
    """LPIPS of each frame, computed in batches of fixed size.

    Args:
        network: see `load_lpips`.
        clips: frames [..., h, w, c] in [0, 1], gray or RGB; gray frames are passed as three equal channels.
        truth: true frames, of the same shape.
        devices: devices of this process that share the frames of each batch; all of them if None.

    Raises:
        InputError: the shapes differ, or the frames are too small for the backbone.
    """
    if clips.shape != truth.shape:
        raise InputError(f"frames of shape {clips.shape} cannot be compared with those of {truth.shape}")
    *leading, height, width, channels = clips.shape
    smallest = _SMALLEST[network.backbone]
    if min(height, width) < smallest:
        raise InputError(f"frames of {width}x{height} pixels; LPIPS with {network.backbone} needs at least {smallest}")
    replicas = Replicas(network, devices)
    flat = [np.asarray(x, np.float32).reshape(-1, height, width, channels) for x in (clips, truth)]
    found = np.empty(len(flat[0]))
    for start in range(0, len(found), _BATCH_SIZE):
        share = [x[start : start + _BATCH_SIZE] for x in flat]
        distances = replicas.run(_distances, *(replicas.filled_up(x, _BATCH_SIZE) for x in share), axes=(0, 0))
        found[start : start + _BATCH_SIZE] = np.asarray(distances)[: len(share[0])]
    return found.reshape(leading)


def save_lpips(path: Path | str, network: LPIPS) -> None:
    """Write the weights to one file in NumPy's `.npz` format, whatever the file's name."""
    with new_file(Path(path)) as temporary, temporary.open("wb") as file:
        arrays: dict[str, Any] = {name: np.asarray(leaf[...]) for name, leaf in _leaves(network)}
        arrays[_ENTRY] = np.asarray(network.backbone)
        np.savez(file, **arrays)


def load_lpips(path: Path | str) -> LPIPS:
    """Load the network with frozen weights from a file that `save_lpips` wrote.

    Raises:
        InputError: the file is missing, is not such a file, or lacks weights.
    """
    problem, advice = (
        "no converted LPIPS weights",
        ("make them with `python -m converters.convert_lpips --backbone=alexnet.pth --heads=alex.pth --output=FILE`"),
    )
    if not Path(path).exists():
        raise InputError(f"{path}: no such file; converted LPIPS weights were expected")
    stored = read_npz(Path(path), problem, advice)
    backbone = str(stored.pop(_ENTRY, ""))
    if backbone not in _LAYERS:
        raise InputError(f"{path}: {problem}; {advice}")
    network = nnx.eval_shape(lambda: LPIPS(backbone, rngs=nnx.Rngs(0)))
    for name, leaf in _leaves(network):
        if name not in stored or stored[name].shape != leaf.shape or stored[name].dtype.kind != "f":
            found = stored[name].shape if name in stored else "nothing"
            raise InputError(f"{path}: {name} is {found}, expected an array of shape {leaf.shape}")
        leaf.set_value(jnp.asarray(stored[name]))
    freeze(network)
    network.checksum = checksum_of(Path(path))
    return network


def _distances(network: LPIPS, a: Float[Array, "b h w c"], b: Float[Array, "b h w c"]) -> Float[Array, " b"]:
    return network(a, b)


def _unit(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Activations scaled to length 1 at every pixel."""
    return x / (jnp.sqrt(jnp.square(x).sum(-1, keepdims=True)) + _EPSILON)


def _numbered(backbone: Backbone) -> Iterator[tuple[str, _Conv | _Pool]]:
    """The layers with torchvision's numbers, in which every ReLU counts as a layer."""
    position = 0
    for layer in _LAYERS[backbone]:
        yield str(position), layer
        position += 2 if isinstance(layer, _Conv) else 1


def _leaves(network: LPIPS) -> Iterator[tuple[str, nnx.Variable]]:
    for position in network.features:
        layer = network.features[position]
        assert layer.bias is not None  # for the type checker; `nnx.Conv` creates one by default
        yield f"features.{position}.kernel", layer.kernel
        yield f"features.{position}.bias", layer.bias
    for i, head in enumerate(network.heads):
        yield f"heads.{i}", head
