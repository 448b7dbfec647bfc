"""Checkpoints with the recipe weights, and helpers that convert them."""

from pathlib import Path

import numpy as np
import yaml

from converters import convert_fomm
from converters.convert_fomm import ConvertFOMMConfig
from converters.official import RELEASED
from converters.torch_files import write_torch_file
from tests.support import golden
from tools.make_checkpoint import gaussian_kernel, recipe_state

ROOT = Path(__file__).parents[2]


def write_yaml(path, name):
    path.write_text(yaml.safe_dump({"model_params": golden.layouts()[name]["model_params"]}))
    return str(path)


def convert(checkpoint, name, output, **options):
    config = name if name in RELEASED else write_yaml(output.with_suffix(".yaml"), name)
    convert_fomm.main(ConvertFOMMConfig(checkpoint=checkpoint, config=config, output=output, **options))
    return output


def recipe_file(path, name, file_format="legacy", **more):
    write_torch_file(path, {**recipe_state(name), "epoch": 99, **more}, file_format)
    return path


def hollow_checkpoint(name):
    """Return a checkpoint of zeros that take no memory; only the blur kernels have their real values."""
    layout = golden.layouts()[name]
    return {
        part: {
            key: gaussian_kernel(layout["scale_factor"], shape)
            if key.endswith("down.weight")
            else np.broadcast_to(np.float32(0), shape)
            for key, shape in keys.items()
        }
        for part, keys in layout["state"].items()
    }


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())
