"""The one map between the arrays of a Flax model and those of a PyTorch state dict, strict in both directions.

Input: a model and a state dict (key -> NumPy array). Output: the model filled, or its state dict. Attribute names of
the models follow the PyTorch module tree; exceptions are in `RENAMES`, the memory layouts of arrays in `_leaf_names`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.discriminator import InstanceNorm, SpectralNormConv
from vidcomp_jax.nn.layers import AntiAliasDownsample, BatchNorm

State = Mapping[str, np.ndarray]

RENAMES = {r"\bbottleneck\.(\d+)": r"bottleneck.r\1"}
"""Patterns in our paths, and what PyTorch's have there."""


_OPTIONAL = ".weight_v"
"""PyTorch 1.0 stored no right singular vector of a spectral norm; one half power iteration gives it back."""


class Leaf(NamedTuple):
    """One leaf of a model and its place in a PyTorch state dict.

    Attributes:
        key: PyTorch's key.
        variable: the leaf; None for a constant that PyTorch stores and we compute.
        shape: PyTorch's shape.
        to_torch: our array -> PyTorch's.
        to_flax: PyTorch's array -> ours.
        constant: the expected value where `variable` is None.
    """

    key: str
    variable: nnx.Variable | None
    shape: tuple[int, ...]
    to_torch: Callable[[np.ndarray], np.ndarray]
    to_flax: Callable[[np.ndarray], np.ndarray]
    constant: np.ndarray | None = None


def leaves(model: nnx.Module, prefix: str = "") -> Iterator[Leaf]:
    """Every leaf of `model` with its PyTorch key, in the order of PyTorch's own module tree where that is known."""
    if isinstance(model, AntiAliasDownsample):
        if model.stride > 1:
            kernel = _blur_kernel(model)
            yield Leaf(f"{prefix}weight", None, kernel.shape, _same, _same, kernel)
        return
    names = _leaf_names(model)
    for name, value in _children(model):
        if isinstance(value, nnx.Variable):
            torch_name, to_torch, to_flax = names.get(name, (name, _same, _same))
            shape = to_torch(np.zeros(value.shape)).shape
            key = prefix + torch_name
            for pattern, replacement in RENAMES.items():
                key = re.sub(pattern, replacement, key)
            yield Leaf(key, value, shape, to_torch, to_flax)
        elif isinstance(value, nnx.Module):
            yield from leaves(value, f"{prefix}{name}.")


def _blur_kernel(model: AntiAliasDownsample) -> np.ndarray:
    """The blur as the published code stores it, to the last bit: in float32, and divided by its sum in two axes."""
    radius = len(model.kernel()) // 2
    bell = np.exp(-(np.arange(-radius, radius + 1, dtype=np.float32) ** 2) / (2 * ((model.stride - 1) / 2) ** 2))
    kernel = np.outer(bell, bell)
    kernel /= kernel.sum()
    return np.broadcast_to(kernel, (model.num_channels, 1, *kernel.shape)).copy()


def _children(model: nnx.Module) -> Iterator[tuple[str, object]]:
    if isinstance(model, nnx.List):
        return ((str(i), child) for i, child in enumerate(model))
    return ((name, child) for name, child in vars(model).items() if isinstance(child, nnx.Variable | nnx.Module))


def _leaf_names(module: nnx.Module) -> dict[str, tuple[str, Callable, Callable]]:
    """For one kind of layer: our name of a leaf -> PyTorch's name and the two changes of layout."""
    if isinstance(module, SpectralNormConv):
        return {
            "kernel": ("weight_orig", _to_oihw, _to_hwio),
            "u": ("weight_u", _same, _same),
            "v": ("weight_v", _same, _same),
        }
    if isinstance(module, nnx.Conv):
        return {"kernel": ("weight", _to_oihw, _to_hwio)}
    if isinstance(module, nnx.Linear):
        return {"kernel": ("weight", np.transpose, np.transpose)}
    if isinstance(module, BatchNorm):
        return {
            "scale": ("weight", _same, _same),
            "mean": ("running_mean", _same, _same),
            "var": ("running_var", _same, _same),
            "num_batches": ("num_batches_tracked", _to_int64, _to_int32),
        }
    if isinstance(module, InstanceNorm):
        return {"scale": ("weight", _same, _same)}
    return {}


def _same(array: np.ndarray) -> np.ndarray:
    return array


def _to_oihw(kernel: np.ndarray) -> np.ndarray:
    return kernel.transpose(3, 2, 0, 1)


def _to_hwio(weight: np.ndarray) -> np.ndarray:
    return weight.transpose(2, 3, 1, 0)


def _to_int64(count: np.ndarray) -> np.ndarray:
    return count.astype(np.int64)


def _to_int32(count: np.ndarray) -> np.ndarray:
    return count.astype(np.int32)


def differences(model: nnx.Module, state: State) -> list[str]:
    """Every way in which a state dict does not fit a model, one line each; empty if it fits."""
    expected = {leaf.key: leaf for leaf in leaves(model)}
    needed = {key: leaf for key, leaf in expected.items() if not key.endswith(_OPTIONAL)}
    lines = [f"missing {key} {leaf.shape}" for key, leaf in needed.items() if key not in state]
    lines += [f"unexpected {key} {tuple(np.shape(value))}" for key, value in state.items() if key not in expected]
    for key, leaf in expected.items():
        if key not in state:
            continue
        if tuple(np.shape(state[key])) != leaf.shape:
            lines.append(f"{key} has shape {tuple(np.shape(state[key]))}, expected {leaf.shape}")
        elif leaf.constant is not None and not np.allclose(state[key], leaf.constant, atol=1e-5):
            lines.append(f"{key} is not the Gaussian blur this model computes")
    return lines


def load_state(model: nnx.Module, state: State, *, name: str = "the checkpoint", place: Callable = jnp.array) -> None:
    """Fill every leaf of `model` from a PyTorch state dict; every key is used exactly once.

    Args:
        model: changed in place, unless an error is raised.
        state: NumPy arrays under PyTorch's keys.
        name: what to call the state dict in an error.
        place: makes a leaf of an array and a type. The default copies to the device; `np.asarray` shares memory with
            the state dict where it can, for a model that is only written.

    Raises:
        InputError: names every missing, unexpected and misshaped key.
    """
    lines = differences(model, state)
    if lines:
        raise InputError(f"{name} does not fit the model, {len(lines)} differences: " + "; ".join(lines))
    for leaf in leaves(model):
        if leaf.variable is None:
            continue
        value = leaf.to_flax(np.asarray(state[leaf.key])) if leaf.key in state else _left_out_vector(leaf.key, state)
        leaf.variable.set_value(place(value, leaf.variable.dtype))


def _left_out_vector(key: str, state: State) -> np.ndarray:
    stem = key.removesuffix("weight_v")
    weight = np.asarray(state[stem + "weight_orig"], np.float64)
    v = weight.reshape(len(weight), -1).T @ np.asarray(state[stem + "weight_u"], np.float64)
    return v / max(float(np.linalg.norm(v)), 1e-12)


def dump_state(model: nnx.Module) -> dict[str, np.ndarray]:
    """The model's leaves as a PyTorch state dict of NumPy arrays, fixed blur kernels included."""
    state = {}
    for leaf in leaves(model):
        value = leaf.constant if leaf.variable is None else leaf.to_torch(np.asarray(leaf.variable[...]))
        state[leaf.key] = np.asarray(value, order="C")  # np.ascontiguousarray would give a count an axis
    return state
