"""Inference on several devices: each holds a copy of the weights, and computes its share of the frames or clips.

Input: a network, and a program that computes with it. Output: the results of the program, as one device computes them,
up to rounding: the kernels for smaller shares may add in another order.
"""

import functools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vidcomp_jax.devices import filled_up
from vidcomp_jax.errors import InputError
from vidcomp_jax.nn.inference import split_for_inference

Devices = Sequence[jax.Device] | None
"""The devices that share the work; None for all of this process, or for the one that `jax.default_device` sets."""

_SHARES = "shares"
_COPIES: "weakref.WeakKeyDictionary[nnx.Module, tuple[Any, list, Any]]" = weakref.WeakKeyDictionary()
"""The last copies of the weights of each module: where they are, the weights that they were copied from, the copies."""


class Replicas:
    """A network in inference mode on several devices, which split the examples of each call evenly.

    The weights are copied to the devices once, and again only after they have changed. With one device, programs run
    as if they were called directly.

    Args:
        module: the network.
        devices: devices of this process.

    Raises:
        InputError: `devices` is empty, or has a device twice or one of another process.
    """

    def __init__(self, module: nnx.Module, devices: Devices = None):
        self._devices = _chosen(devices)
        self._definition, state = split_for_inference(module)
        several = self._devices is not None and len(self._devices) > 1
        self._mesh = Mesh(np.array(self._devices), (_SHARES,)) if several else None
        if self._devices is not None:
            leaves = jax.tree.leaves(state)
            place, before, copies = _COPIES.get(module, (None, [], None))
            same = len(before) == len(leaves) and all(a is b for a, b in zip(before, leaves, strict=True))
            if place != self._devices or not same:
                copies = self.shared(state)
                _COPIES[module] = self._devices, leaves, copies
            state = copies
        self._state = state

    @property
    def count(self) -> int:
        """Number of devices."""
        return len(self._devices or (None,))

    def multiple(self, size: int) -> int:
        """The least multiple of the number of devices that is at least `size`."""
        return -(-size // self.count) * self.count

    def filled_up(self, examples: np.ndarray | jax.Array, size: int) -> np.ndarray:
        """Pad `examples` [n, ...] to `multiple(size)` by repeating the last, so that one program serves all n."""
        return filled_up(examples, self.multiple(size))

    def shared(self, tree: Any) -> Any:
        """Copy the arrays of `tree` to all devices, for an argument of several calls that is not split."""
        if self._devices is None:
            return tree
        if self._mesh is None:
            return jax.device_put(tree, self._devices[0])
        return jax.device_put(tree, NamedSharding(self._mesh, PartitionSpec()))

    def run(
        self,
        program: Callable[..., Any],
        *arguments: Any,
        axes: tuple[int | None, ...],
        out_axis: int | None = 0,
        options: tuple[Any, ...] = (),
    ) -> Any:
        """Call `program(network, *arguments, *options)`, compiled once for each program, options and shapes.

        On several devices, each computes `program` on its part of the arguments, so that the examples of a batch must
        not depend on each other. The call returns before the result is computed.

        Args:
            program: a function at the top level of a module.
            arguments: trees of arrays.
            axes: for each argument, the axis along which the devices split it, whose length must be a multiple of
                their number; None gives all of it to every device.
            out_axis: the axis along which the results of the devices are joined; None if all compute the same.
            options: further arguments, which do not change within the program and can be hashed.
        """
        if self._mesh is not None:
            arguments = tuple(
                x if axis is None else jax.device_put(x, NamedSharding(self._mesh, _along(axis)))
                for x, axis in zip(arguments, axes, strict=True)
            )
        return _run(program, self._definition, self._mesh, axes, out_axis, options, self._state, arguments)


def _chosen(devices: Devices) -> tuple[jax.Device, ...] | None:
    """The devices to place arrays on; None if they need not be placed, because there is just the default one."""
    if devices is None:
        local = jax.local_devices()
        return tuple(local) if len(local) > 1 and getattr(jax.config, "jax_default_device", None) is None else None
    chosen = tuple(devices)
    here = jax.process_index()
    if not chosen or len(set(chosen)) < len(chosen) or any(device.process_index != here for device in chosen):
        raise InputError(f"`devices` is {list(chosen)}; it must be devices of this process, each once")
    return chosen


def _along(axis: int | None) -> PartitionSpec:
    return PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, _SHARES)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4, 5))
def _run(program, definition, mesh, axes, out_axis, options, state, arguments):
    def share(state, arguments):
        return program(nnx.merge(definition.graphdef, state), *arguments, *options)

    if mesh is None:
        return share(state, arguments)
    specs = PartitionSpec(), tuple(map(_along, axes))
    mapped = jax.shard_map(share, mesh=mesh, in_specs=specs, out_specs=_along(out_axis), check_vma=False)
    return mapped(state, arguments)
