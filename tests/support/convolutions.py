"""Turns the ways to convolve on for all shapes, as tiny networks have none of those in the tables."""

from vidcomp_jax.nn import convolution
from vidcomp_jax.nn.convolution import Shapes

SIZES = (1, 2, 3, 4, 7)
"""Heights of kernels in the networks."""
BLOCKS = (2, 4)
"""Heights that are divisible by a stride of 2."""


def hold_for_all(
    monkeypatch,
    *,
    patches: int = 0,
    rows: bool = False,
    shifts: bool = False,
    unpadded: bool = False,
    blocks: bool = False,
) -> None:
    """Use patches up to so many pixels, and the other ways for all other shapes, or for none."""
    used = {"PATCHES": patches, "ROWS": 4096 * rows, "SHIFTS": 4096 * shifts, "UNPADDED": 4096 * unpadded}
    tables = {name: [(size, most, 1) for size in SIZES] for name, most in used.items()}
    tables["PATCHES"] += [(size, patches, 2) for size in SIZES]
    tables["BLOCKS"] = [(size, 4096 * blocks, 2) for size in BLOCKS]
    for name, table in tables.items():
        shapes = (Shapes(size, (1, most), 1, 1, 1, stride=stride) for size, most, stride in table)
        monkeypatch.setattr(convolution, name, tuple(shapes))
