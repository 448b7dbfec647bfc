"""The configurations that both sides of a benchmark share; imports neither JAX nor PyTorch.

Input: the name of a configuration such as `kth-128`. Output: its official parameters and frame size.
"""

import json
import pathlib
from typing import Any

GOLDEN = pathlib.Path(__file__).parents[1] / "tests" / "data" / "golden"


def layouts() -> dict[str, Any]:
    """Return all configurations by name, with their official parameters and the shapes of their arrays."""
    return json.loads((GOLDEN / "fomm_layouts.json").read_text())


def model_params(name: str) -> dict[str, Any]:
    """Return the official `model_params` of a configuration."""
    return layouts()[name]["model_params"]


def frame_size(name: str) -> int:
    """Return the height and width of a configuration's frames: the number that its name ends with, or 64."""
    ending = name.rsplit("-", 1)[-1]
    return int(ending) if ending.isdecimal() else 64
