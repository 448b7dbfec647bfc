"""Convert torchvision's VGG19 weights to a file that `--perceptual-weights` accepts.

python -m converters.convert_vgg19 vgg19-dcbb9e9d.pth --output=vgg19.npz
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro
from flax import nnx

from converters.torch_files import read_torch_file, unwrap
from converters.weight_map import load_state
from experiments.commands import run
from vidcomp_jax.fomm.perceptual import VGG19, save_vgg19
from vidcomp_jax.storage.atomic import check_output_file


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertVGG19Config:
    """Convert VGG19's convolutions for the perceptual loss."""

    weights: Annotated[Path, tyro.conf.Positional]
    """Torchvision's weights of VGG19 without batch normalization."""
    output: Path
    """The file to write."""
    overwrite: bool = False
    """Replace the file if it exists."""


def main(config: ConvertVGG19Config) -> None:
    """Convert the weights, and print what was left out."""
    check_output_file(config.output, overwrite=config.overwrite)
    state = unwrap(read_torch_file(config.weights))
    classifier = [key for key in state if key.startswith("classifier.")]
    vgg = nnx.eval_shape(lambda: VGG19(rngs=nnx.Rngs(0)))
    load_state(vgg, {key: value for key, value in state.items() if key not in classifier}, name=str(config.weights))
    save_vgg19(config.output, vgg)
    print(f"{config.output}: the convolutions of VGG19")
    if classifier:
        print(f"  left out: {len(classifier)} arrays of the classifier")


if __name__ == "__main__":
    run(main, ConvertVGG19Config)
