"""Convert the weights of LPIPS to a file that `--lpips` of `experiments.evaluate` accepts.

python -m converters.convert_lpips --backbone=alexnet-owt-7be5be79.pth --heads=alex.pth --output=lpips-alex.npz

The backbone is torchvision's AlexNet or VGG16. The heads are `alex.pth` or `vgg.pth` in the folder `weights/v0.1` of
the authors' `lpips` package.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from flax import nnx

from converters.torch_files import read_torch_file, unwrap
from converters.weight_map import load_state
from experiments.commands import run
from vidcomp_jax.errors import InputError
from vidcomp_jax.evaluation.lpips import LPIPS, Backbone, save_lpips
from vidcomp_jax.storage.atomic import check_output_file

_CHANNELS: dict[tuple[int, ...], Backbone] = {
    (64, 192, 384, 256, 256): "alex",
    (64, 128, 256, 512, 512): "vgg16",
}
"""Backbones by the numbers of channels that their heads weight."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertLPIPSConfig:
    """Convert the backbone and the heads of LPIPS."""

    backbone: Path
    """Torchvision's weights of AlexNet or of VGG16 without batch normalization."""
    heads: Path
    """Weights of the heads from the lpips package: weights/v0.1/alex.pth or weights/v0.1/vgg.pth."""
    output: Path
    """The file to write."""
    overwrite: bool = False
    """Replace the file if it exists."""


def main(config: ConvertLPIPSConfig) -> None:
    """Convert the weights, and print what was left out."""
    check_output_file(config.output, overwrite=config.overwrite)
    heads = unwrap(read_torch_file(config.heads))
    name = _backbone_of(heads, config.heads)
    state = unwrap(read_torch_file(config.backbone))
    classifier = [key for key in state if key.startswith("classifier.")]
    features = {key: value for key, value in state.items() if key not in classifier}
    network = nnx.eval_shape(lambda: LPIPS(name, rngs=nnx.Rngs(0)))
    weights = {f"heads.{i}": heads[_key(i)].reshape(-1) for i in range(len(heads))}
    load_state(network, {**features, **weights}, name=f"{config.backbone} with heads for {name}")
    save_lpips(config.output, network)
    print(f"{config.output}: LPIPS with {name}")
    if classifier:
        print(f"  left out: {len(classifier)} arrays of the classifier")


def _backbone_of(heads: Mapping[str, np.ndarray], path: Path) -> Backbone:
    channels = tuple(heads[_key(i)].size if _key(i) in heads else 0 for i in range(len(heads)))
    if channels not in _CHANNELS:
        found = ", ".join(f"{key} {value.shape}" for key, value in heads.items()) or "nothing"
        raise InputError(
            f"`heads` is {path}: holds {found[:200]}; the heads of alex or vgg, lin0.model.1.weight to "
            "lin4.model.1.weight, were expected"
        )
    negative = [key for key, value in heads.items() if (value < 0).any()]
    if negative:
        raise InputError(f"`heads` is {path}: {negative[0]} has negative weights; the published heads have none")
    return _CHANNELS[channels]


def _key(layer: int) -> str:
    return f"lin{layer}.model.1.weight"


if __name__ == "__main__":
    run(main, ConvertLPIPSConfig)
