"""The precision that networks compute in: float32, or bfloat16 where it costs little accuracy.

Layers compute in the type of their input, whatever the type of their weights, which stay float32. A network with a
`compute_dtype` converts its input to it, and what its heads predict is computed in float32 again: masks, occlusion
maps, pixels, scores. Softmax, coordinates, the weights of warps, batch statistics and losses are float32 always, and so
is the whole keypoint detector: it is small, and rounding its features moves keypoints by up to a pixel of 256.
"""

from typing import Any, Literal, TypeVar, cast

import jax.numpy as jnp
from flax import nnx

Precision = Literal["float32", "bfloat16"]
Module = TypeVar("Module", bound=nnx.Module)
Arrays = TypeVar("Arrays", bound=tuple[Any, ...])


class MixedPrecision(nnx.Module):
    """Base class of networks whose precision `in_precision` sets.

    Attributes:
        compute_dtype: the type that the network converts its input to.
    """

    compute_dtype: Any = jnp.float32

    def set_view(self, compute_dtype: Any = None):
        """Set the type to compute in; called by `nnx.view`."""
        if compute_dtype is not None:
            self.compute_dtype = compute_dtype


def in_precision(module: Module, precision: Precision) -> Module:
    """The same module, computing in `precision`; the two share their weights, which are float32 in either case.

    Checkpoints do not depend on the precision: a model can be trained in one and used in the other.
    """
    return nnx.view(module, compute_dtype=jnp.dtype(precision))


def as_input(arrays: Arrays, /, *, dtype: Any = None, inexact: bool = True) -> Arrays:
    """An input, a kernel and a bias in the type of the input; give it to `flax.nnx.Conv(promote_dtype=...)`."""
    own = arrays[0].dtype
    return cast(Arrays, tuple(array if array is None else array.astype(own) for array in arrays))
