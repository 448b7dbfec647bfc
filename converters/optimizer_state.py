"""Maps the state of the official optimizers, Adam for each network, to ours and back, bit for bit.

Input: the entries `optimizer_generator`, `optimizer_kp_detector` and `optimizer_discriminator` of an official
checkpoint. Output: the optimizer state of a training run; or, in the other direction, the entries.

PyTorch numbers the parameters of an optimizer in the order in which the network created them, which is also the order
of the keys in its state dict. An optimizer that has made no step has no state.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optax
from flax import nnx

from converters.fomm_state import PARTS, dump_fomm_state, load_fomm_state, parameter_names
from converters.weight_map import State
from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.model import FirstOrderMotionModel

OWNERS = {"generator": "generator", "kp_detector": "detector", "discriminator": "discriminator"}
"""Our optimizer for each part of a checkpoint; dense motion belongs to the generator's in both."""
_BETAS, _EPSILON = (0.5, 0.999), 1e-8


class Moments(NamedTuple):
    """The state of one optimizer.

    Attributes:
        step: number of updates made.
        first: moving average of the gradient, by the parameter's key.
        second: moving average of the squared gradient.
    """

    step: int
    first: State
    second: State


def read_moments(content: Mapping[str, Any], part: str, state: State, names: list[str], path: Path) -> Moments:
    """The state of one optimizer of an official checkpoint.

    Args:
        content: the whole checkpoint.
        part: the network, such as `kp_detector`.
        state: the network's state dict, whose order numbers the parameters.
        names: keys of the parameters in it.
        path: path of the checkpoint, for errors.

    Raises:
        InputError: the entry is missing or damaged, or belongs to another network.
    """
    entry = f"optimizer_{part}"
    if not isinstance(content.get(entry), Mapping):
        raise InputError(f"{path}: holds no {entry}, so training cannot go on from it; its weights can be converted")
    try:
        (group,) = content[entry]["param_groups"]
        numbers, stored = [str(number) for number in group["params"]], content[entry]["state"]
        states = {number: dict(stored[number]) for number in numbers if number in stored}
        steps = {int(one["step"]) for one in states.values()}
        betas = tuple(map(float, group["betas"]))
    except (LookupError, TypeError, ValueError, OverflowError, AttributeError):
        raise InputError(f"{path}: {entry} is not the state of one Adam optimizer") from None
    ordered = [key for key in state if key in set(names)]
    if len(numbers) != len(ordered):
        raise InputError(
            f"{path}: {entry} has {len(numbers)} parameters, {part} has {len(ordered)}; it belongs to another model"
        )
    if betas != _BETAS or group.get("weight_decay") or group.get("amsgrad"):
        raise InputError(f"{path}: {entry} is not Adam with betas {_BETAS}, no weight decay and no amsgrad")
    if len(steps) > 1:
        raise InputError(f"{path}: {entry} has made {min(steps)} to {max(steps)} steps for different parameters")
    moments = []
    for name in ("exp_avg", "exp_avg_sq"):
        found = {}
        for number, key in zip(numbers, ordered, strict=True):
            value = states[number].get(name) if number in states else np.zeros_like(state[key])
            if not isinstance(value, np.ndarray) or value.shape != state[key].shape:
                shape = value.shape if isinstance(value, np.ndarray) else "nothing"
                raise InputError(
                    f"{path}: {entry}.state.{number}.{name} is {shape}, {part}.{key} is {state[key].shape}; it belongs "
                    "to another model"
                )
            found[key] = value
        moments.append(found)
    first, second = moments
    return Moments(max(steps, default=0), first, second)


def initial_moments(state: State, names: list[str]) -> Moments:
    """The state of an optimizer that has made no step."""
    zeros = {key: np.zeros_like(state[key]) for key in names}
    return Moments(0, zeros, zeros)


def load_moments(opt_state: Any, model: FirstOrderMotionModel, moments: Mapping[str, Moments], step: int) -> Any:
    """The state of `OptimizerConfig.build()`, as initialized for `model`, with these moments.

    Args:
        opt_state: the initialized state, of arrays or of shapes.
        model: the model that is trained, with its weights.
        moments: for each part of a checkpoint, its moments.
        step: place in the schedules of the learning rates.
    """
    weights = dump_fomm_state(model)
    first = _as_params(model, {part: {**weights[part], **moments[part].first} for part in PARTS})
    second = _as_params(model, {part: {**weights[part], **moments[part].second} for part in PARTS})

    def placed(own: Any, values: Any) -> Any:
        # An optimizer has a place holder for each of the other networks.
        return {"model": {network: old if _masked(old) else values[network] for network, old in own["model"].items()}}

    inner = dict(opt_state.inner_states)
    for part, name in OWNERS.items():
        adam, schedule = inner[name].inner_state
        count = np.asarray(moments[part].step, np.int32)
        adam = adam._replace(count=count, mu=placed(adam.mu, first), nu=placed(adam.nu, second))
        inner[name] = inner[name]._replace(inner_state=(adam, schedule._replace(count=np.asarray(step, np.int32))))
    return opt_state._replace(inner_states=inner)


def dump_moments(opt_state: Any, model: FirstOrderMotionModel) -> dict[str, Moments]:
    """The moments in the state of `OptimizerConfig.build()`, for each part of an official checkpoint."""
    names, found = parameter_names(model), {}
    graphdef, *variables = nnx.split(model, nnx.Param, ...)
    params, rest = map(nnx.to_pure_dict, variables)
    for part, name in OWNERS.items():
        adam = opt_state.inner_states[name].inner_state[0]
        states = []
        for tree in (adam.mu, adam.nu):
            own = {network: moments for network, moments in tree["model"].items() if not _masked(moments)}
            filled = {**params, **own}
            dumped = dump_fomm_state(nnx.merge(graphdef, filled, rest))[part]
            states.append({key: dumped[key] for key in names[part]})
        first, second = states
        found[part] = Moments(int(adam.count), first, second)
    return found


def official_optimizer(moments: Moments, learning_rate: float, initial: float) -> dict[str, Any]:
    """An optimizer's entry in an official checkpoint, as PyTorch 1.0 writes it and all later versions read it.

    One whose second moments are all 0 never had a gradient, and is written as one that has made no step.
    """
    used = any(np.any(value) for value in moments.second.values())
    pairs = zip(moments.first.values(), moments.second.values(), strict=True)
    group = {
        "lr": learning_rate,
        "betas": _BETAS,
        "eps": _EPSILON,
        "weight_decay": 0,
        "amsgrad": False,
        "initial_lr": initial,
        "params": list(range(len(moments.first))),
    }
    states = {i: {"step": moments.step, "exp_avg": m, "exp_avg_sq": v} for i, (m, v) in enumerate(pairs)}
    return {"state": states if used else {}, "param_groups": [group]}


def _masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)


def _as_params(model: FirstOrderMotionModel, checkpoint: Mapping[str, State]) -> dict[str, Any]:
    """The arrays of a checkpoint in the structure and layout of the model's parameters."""
    clone = nnx.eval_shape(lambda: FirstOrderMotionModel(model.config, rngs=nnx.Rngs(0)))
    load_fomm_state(clone, checkpoint, place=np.asarray)
    return nnx.to_pure_dict(nnx.state(clone, nnx.Param))
