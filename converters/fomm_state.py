"""Maps the three state dicts of an official FOMM checkpoint to the modules of our model, and back.

Input: state dicts and a model. Output: the filled model; or, in the other direction, the state dicts of a model.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from converters.weight_map import State, differences, dump_state, leaves, load_state
from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.model import FirstOrderMotionModel

PARTS = ("generator", "kp_detector", "discriminator")
"""Names of the state dicts; the generator's includes the dense motion network."""

_DENSE_MOTION = "dense_motion_network."
_ORDER = (
    *("dense_motion_network", "predictor", "hourglass", "encoder", "decoder", "kp", "jacobian", "mask", "occlusion"),
    *("down", "first", "down_blocks", "up_blocks", "bottleneck", "final", "conv", "conv1", "conv2", "norm", "norm1"),
    *("norm2", "weight", "bias", "weight_orig", "weight_u", "weight_v", "running_mean", "running_var"),
    "num_batches_tracked",
)
"""Names in the order in which the official networks create them; an official optimizer numbers its parameters so."""
_PLACES = {name: place for place, name in enumerate(_ORDER)}


def _parts(model: FirstOrderMotionModel) -> dict[str, dict[str, Any]]:
    """For each part of a checkpoint, the prefixes of its keys and the modules that they belong to."""
    return {
        "generator": {_DENSE_MOTION: model.dense_motion, "": model.generator},
        "kp_detector": {"": model.detector},
        "discriminator": {"": model.discriminator},
    }


def _share(state: State, prefix: str, others: list[str]) -> dict[str, np.ndarray]:
    taken = {k: v for k, v in state.items() if k.startswith(prefix) and not any(k.startswith(o) for o in others if o)}
    return {k.removeprefix(prefix): v for k, v in taken.items()}


def fomm_differences(model: FirstOrderMotionModel, checkpoint: Mapping[str, State]) -> list[str]:
    """List every mismatch between a checkpoint and a model, one line each; the discriminator may be missing."""
    lines = [f"missing the whole part {part}" for part in PARTS[:2] if part not in checkpoint]
    for part, _, module, share in _shares(model, checkpoint):
        lines += [f"{part}: {line}" for line in differences(module, share)]
    return lines


def load_fomm_state(
    model: FirstOrderMotionModel, checkpoint: Mapping[str, State], place: Callable = jnp.array
) -> list[str]:
    """Fill a model from `{"generator": ..., "kp_detector": ..., "discriminator": ...}`.

    The discriminator may be missing; the model then keeps its own. `place` is passed to `load_state`.

    Returns:
        The parts that were missing.

    Raises:
        InputError: a part is missing, or keys or shapes differ; the message lists the differences, and the model is
            left unchanged.
    """
    if lines := fomm_differences(model, checkpoint):
        raise InputError(
            f"the checkpoint does not fit the configuration, {len(lines)} differences: " + "; ".join(lines)
        )
    for _, _, module, share in _shares(model, checkpoint):
        load_state(module, share, place=place)
    return [part for part in PARTS if part not in checkpoint]


def _shares(model: FirstOrderMotionModel, checkpoint: Mapping[str, State]):
    """For every module in the checkpoint, yield its part, key prefix, the module, and its share of the state dict."""
    for part, modules in _parts(model).items():
        for prefix, module in modules.items():
            if part in checkpoint:
                others = [other for other in modules if other != prefix]
                yield part, prefix, module, _share(checkpoint[part], prefix, others)


def dump_fomm_state(model: FirstOrderMotionModel) -> dict[str, dict[str, np.ndarray]]:
    """Return the model as the three state dicts of an official checkpoint, with their keys in the official order."""
    states = {
        part: {prefix + key: value for prefix, module in modules.items() for key, value in dump_state(module).items()}
        for part, modules in _parts(model).items()
    }
    place = functools.partial(_place, model)
    return {part: {key: state[key] for key in sorted(state, key=place)} for part, state in states.items()}


def parameter_names(model: FirstOrderMotionModel) -> dict[str, list[str]]:
    """The keys of the trained parameters of each part, in the order of the official optimizers."""
    names = {
        part: [
            prefix + leaf.key
            for prefix, module in modules.items()
            for leaf in leaves(module)
            if isinstance(leaf.variable, nnx.Param)
        ]
        for part, modules in _parts(model).items()
    }
    return {part: sorted(keys, key=functools.partial(_place, model)) for part, keys in names.items()}


def _place(model: FirstOrderMotionModel, key: str) -> list[int]:
    """Sorting key for the official order: of `_ORDER`, of blocks by their number, of scales as configured."""
    scales = {name: place for place, name in enumerate(model.discriminator.names)}
    first, *rest = key.split(".")
    if first == "discs":
        return [scales[rest[0]], *map(_rank, rest[1:])]
    return list(map(_rank, (first, *rest)))


def _rank(name: str) -> int:
    return _PLACES[name] if name in _PLACES else int(name.removeprefix("r"))
