"""Recomputation of activations in the backward pass (Chen et al., 2016), which saves memory and costs time.

Only the input of each block is then kept for the backward pass, which runs the block once more.
"""

from typing import TypeVar

from flax import nnx
from jaxtyping import Array

Module = TypeVar("Module", bound=nnx.Module)


class Recomputing(nnx.Module):
    """Base class of networks made of blocks, whose activations `recomputed` does not keep.

    Attributes:
        remat: whether the activations inside of blocks are computed again for the backward pass.
    """

    remat: bool = False

    def set_view(self, remat: bool | None = None):
        """Start or stop recomputation; called by `nnx.view`."""
        if remat is not None:
            self.remat = remat

    def run(self, block: nnx.Module, x: Array) -> Array:
        """The output of a block, whose activations are kept or not."""
        return nnx.remat(_call)(block, x) if self.remat else _call(block, x)


def recomputed(module: Module) -> Module:
    """The same module, with the activations inside of its blocks computed again for the backward pass.

    The two share their weights and compute the same.
    """
    return nnx.view(module, remat=True)


def _call(block, x: Array) -> Array:
    return block(x)
