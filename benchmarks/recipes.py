"""Configurations and weights that both sides of a benchmark share; NumPy only, so that neither loads the other.

In: the name of a configuration such as `kth-128`. Out: its official parameters, and weights from a recipe.
"""

import json
import pathlib
import runpy
from typing import Any

import numpy as np

GOLDEN = pathlib.Path(__file__).parents[1] / "tests" / "data" / "golden"


def layouts() -> dict[str, Any]:
    """All configurations by name: official parameters, and the shape of every array."""
    return json.loads((GOLDEN / "fomm_layouts.json").read_text())


def model_params(name: str) -> dict[str, Any]:
    """The official `model_params` of a configuration."""
    return layouts()[name]["model_params"]


def recipe_state(name: str) -> dict[str, dict[str, np.ndarray]]:
    """The state dicts of a checkpoint's parts (`generator`, ...) with recipe weights."""
    return runpy.run_path(str(GOLDEN / "make_checkpoint.py"))["recipe_state"](name)


def frame_size(name: str) -> int:
    """Height and width of a configuration's frames: the number at the end of its name, 64 where there is none."""
    ending = name.rsplit("-", 1)[-1]
    return int(ending) if ending.isdecimal() else 64
