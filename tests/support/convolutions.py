"""Turns the ways to convolve on for all shapes, as tiny networks have none of those in the tables."""

from vidcomp_jax.nn import convolution
from vidcomp_jax.nn.convolution import Shapes

SIZES = (1, 2, 3, 4, 7)
"""Heights of kernels in the networks."""


def hold_for_all(monkeypatch, *, patches: int = 0, rows: bool = False) -> None:
    """Use patches up to so many pixels, and row products for all other shapes, or none."""
    tables = {
        "PATCHES": tuple(Shapes(size, (1, patches), 1, 1, 1) for size in SIZES),
        "ROWS": tuple(Shapes(size, (1, 4096), 1, 1, 1) for size in SIZES) if rows else (),
    }
    for name, table in tables.items():
        monkeypatch.setattr(convolution, name, table)
