"""Expected results of the official PyTorch code, and models with the recipe weights that they were computed with."""

import dataclasses
import functools
import json
import pathlib

import numpy as np
from flax import nnx

from converters.fomm_state import load_fomm_state
from tools.make_checkpoint import recipe_state
from vidcomp_jax.fomm.model import FirstOrderMotionModel
from vidcomp_jax.fomm.official import fomm_config

FOLDER = pathlib.Path(__file__).parents[1] / "data" / "golden"
TINY = ("tiny-gray", "tiny-rgb-sn", "tiny-rgb-kp-multiscale", "tiny-zero-order")


@functools.cache
def layouts() -> dict:
    return json.loads((FOLDER / "fomm_layouts.json").read_text())


def arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz") as file:
        return dict(file)


def images(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) / 255


def fomm(name: str, **changes) -> FirstOrderMotionModel:
    """Return the model of a configuration with its recipe weights, loaded by the converters' weight map."""
    config = dataclasses.replace(fomm_config(layouts()[name]["model_params"]), **changes)
    model = nnx.eval_shape(lambda: FirstOrderMotionModel(config, rngs=nnx.Rngs(0)))
    load_fomm_state(model, recipe_state(name))
    return model
