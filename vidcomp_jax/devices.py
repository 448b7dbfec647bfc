"""The device axis: its name, and the mean over it for code that also runs without one."""

from typing import TypeVar

import jax

AXIS = "devices"
"""Name of the axis that training maps over with `jax.pmap`. Use it in your own `pmap` or `shard_map`."""

Tree = TypeVar("Tree")


def inside_device_axis() -> bool:
    """Whether the code being traced runs mapped over `AXIS`."""
    try:
        jax.lax.axis_size(AXIS)
    except NameError:
        return False
    return True


def mean_over_devices(tree: Tree) -> Tree:
    """Average every array of `tree` over the devices of `AXIS`; outside of it, return `tree` as it is."""
    return jax.lax.pmean(tree, AXIS) if inside_device_axis() else tree
