"""The configurations that both sides of a benchmark share; imports neither framework, so that neither side loads the
other's.

Input: the name of a configuration such as `kth-128`. Output: its official parameters and the size of its frames.
"""

import json
import pathlib
from typing import Any

GOLDEN = pathlib.Path(__file__).parents[1] / "tests" / "data" / "golden"


def layouts() -> dict[str, Any]:
    """All configurations by name: official parameters, and the shape of every array."""
    return json.loads((GOLDEN / "fomm_layouts.json").read_text())


def model_params(name: str) -> dict[str, Any]:
    """The official `model_params` of a configuration."""
    return layouts()[name]["model_params"]


def frame_size(name: str) -> int:
    """Height and width of a configuration's frames: the number at the end of its name, 64 where there is none."""
    ending = name.rsplit("-", 1)[-1]
    return int(ending) if ending.isdecimal() else 64
