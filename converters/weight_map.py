"""Maps the arrays of Flax models to those of PyTorch state dicts, strictly in both directions.

Input: a model and a state dict (key -> NumPy array). Output: the filled model, or its state dict. Attribute names of
the models follow PyTorch's module tree; exceptions are in `RENAMES`, the memory layouts of arrays in `_leaf_names`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.discriminator import InstanceNorm, SpectralNormConv
from vidcomp_jax.nn.layers import BatchNorm
from vidcomp_jax.nn.resampling import AntiAliasDownsample

State = Mapping[str, np.ndarray]

RENAMES = {r"\bbottleneck\.(\d+)": r"bottleneck.r\1"}
"""Regular expressions for our paths, and their replacements in PyTorch's keys."""


_OPTIONAL = ".weight_v"
"""PyTorch 1.0 did not store the right singular vectors of spectral norms; half a power iteration recovers them."""


class Leaf(NamedTuple):
    """One leaf of a model and its place in a PyTorch state dict.

    Attributes:
        key: PyTorch's key.
        variable: the leaf; None for a constant that PyTorch stores and we compute.
        shape: PyTorch's shape.
        to_torch: converts our array to PyTorch's layout.
        to_flax: converts PyTorch's array to our layout.
        constant: the expected value where `variable` is None.
    """

    key: str
    variable: nnx.Variable | None
    shape: tuple[int, ...]
    to_torch: Callable[[np.ndarray], np.ndarray]
    to_flax: Callable[[np.ndarray], np.ndarray]
    constant: np.ndarray | None = None


def leaves(model: nnx.Module, prefix: str = "") -> Iterator[Leaf]:
    """Yield every leaf of `model` with its PyTorch key, in the order of the model's attributes."""
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
    """The blur kernel exactly as the published code stores it: in float32, normalized by its sum over both axes."""
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
    """Map our names of a layer's leaves to PyTorch's names and the conversions to PyTorch's layout and to ours."""
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
    """List every mismatch between a state dict and a model, one line each; empty if it fits."""
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
        name: name of the state dict in errors.
        place: creates a leaf's value from an array and a dtype. The default copies to the device; `np.asarray` shares
            memory with the state dict where possible, for a model that is only saved.

    Raises:
        InputError: the state dict does not fit; the message lists every missing, unexpected and mismatched key.
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
    """Return the leaves of a model as a PyTorch state dict of NumPy arrays, including the fixed blur kernels."""
    state = {}
    for leaf in leaves(model):
        value = leaf.constant if leaf.variable is None else leaf.to_torch(np.asarray(leaf.variable[...]))
        state[leaf.key] = np.asarray(value, order="C")  # np.ascontiguousarray would make a scalar one-dimensional
    return state
