"""Conversion of frames to the input of the networks: floats in [0, 1]."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from vidcomp_jax.errors import InputError

_ROUNDING = 1e-3
"""How far outside [0, 1] values may lie, to allow for rounding in resizing and other arithmetic."""


def unit_frames(frames: Shaped[Array | np.ndarray, "..."]) -> Float[Array | np.ndarray, "..."]:
    """Convert frames to floats in [0, 1]: integers are divided by the largest value of their type, floats are kept.

    The values of a NumPy array are checked on the host, those of a JAX array by a small program on its device, which
    the call waits for. While JAX traces, values are unknown and are not checked.

    Args:
        frames: frames of any shape; integers, such as uint8 in 0..255, or floats in [0, 1].

    Raises:
        InputError: if values are outside [0, 1] or NaN, or are neither integers nor floats.
    """
    library = np if isinstance(frames, np.ndarray) else jnp
    if library.issubdtype(frames.dtype, library.integer):
        largest = library.iinfo(frames.dtype).max
        unit = frames.astype(library.float32) / library.float32(largest)
    elif library.issubdtype(frames.dtype, library.floating):
        unit = frames
    else:
        raise InputError(f"frames of type {frames.dtype}; they must be uint8 in 0..255, or floats in [0, 1]")
    if frames.size and not isinstance(frames, jax.core.Tracer) and frames.dtype != np.uint8:
        low, high = (float(x) for x in ((unit.min(), unit.max()) if library is np else _extremes(unit)))
        if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
            raise InputError(
                f"frames of type {frames.dtype} have values from {low:.4g} to {high:.4g}; floats must be in [0, 1], or "
                "give uint8 in 0..255"
            )
    return unit


@jax.jit
def _extremes(x: Array) -> tuple[Array, Array]:
    return x.min(), x.max()
