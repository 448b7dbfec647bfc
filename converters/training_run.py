"""Training runs of ours from official checkpoints, and the other direction.

Both sides count epochs in the same way: the `epoch` of an official checkpoint is the one at which the published code
goes on, and at whose first step ours goes on, too.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from converters.fomm_state import PARTS, dump_fomm_state, parameter_names
from converters.official_yaml import milestones_in_epochs
from converters.optimizer_state import (
    OWNERS,
    Moments,
    dump_moments,
    initial_moments,
    load_moments,
    official_optimizer,
    read_moments,
)
from converters.weight_map import State
from experiments.configs import TrainFOMMConfig
from experiments.optimizers import AdamConfig
from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.losses import TrainingNetworks
from vidcomp_jax.fomm.model import FirstOrderMotionModel
from vidcomp_jax.storage.checkpoint import Checkpoints, load_checkpoint
from vidcomp_jax.storage.config import CONFIG_FILE, save_config
from vidcomp_jax.storage.folders import new_folder
from vidcomp_jax.storage.steps import CHECKPOINTS, Which
from vidcomp_jax.training.step import TrainState


class OfficialState(NamedTuple):
    """Where official training stands.

    Attributes:
        moments: the state of the optimizer of each part.
        epoch: the epoch at which training goes on, from 0.
    """

    moments: dict[str, Moments]
    epoch: int


def read_training(
    content: Mapping[str, Any], checkpoint: Mapping[str, State], model: FirstOrderMotionModel, path: Path
) -> OfficialState:
    """Where training stands in an official checkpoint.

    Args:
        content: everything in the file.
        checkpoint: the state dicts of those networks whose weights are taken over; the others start anew.
        model: the model with these weights.
        path: path of the file, for errors.

    Raises:
        InputError: an optimizer or the epoch is missing, or an optimizer belongs to another model.
    """
    names, weights = parameter_names(model), dump_fomm_state(model)
    moments = {
        part: read_moments(content, part, checkpoint[part], names[part], path)
        if part in checkpoint
        else initial_moments(weights[part], names[part])
        for part in PARTS
    }
    epoch = content.get("epoch")
    if not isinstance(epoch, int) or epoch < 0:
        raise InputError(f"{path}: epoch is {epoch}, so it does not say where its training stands")
    return OfficialState(moments, epoch)


def write_run(directory: Path, config: TrainFOMMConfig, model: FirstOrderMotionModel, state: OfficialState) -> int:
    """Write a run folder with which `experiments.train_fomm` goes on; return its step.

    Args:
        directory: a new or empty folder, which appears whole or not at all.
        config: the run's configuration, with all durations in steps.
        model: the model, with its weights.
        state: where training stands.
    """
    step = state.epoch * config.schedule.steps_per_epoch
    empty = _empty_state(config)
    networks = TrainingNetworks(model, config.loss)
    params, stats = (nnx.to_pure_dict(nnx.state(networks, kind)) for kind in (nnx.Param, nnx.BatchStat))
    opt_state = load_moments(empty.opt_state, model, state.moments, step)
    with new_folder(directory, "run", replace=True) as folder:
        save_config(folder / CONFIG_FILE, config)
        with Checkpoints(folder / CHECKPOINTS) as checkpoints:
            checkpoints.save(step, TrainState(jnp.asarray(step, jnp.int32), params, stats, opt_state))
    return step


class Run(NamedTuple):
    """A checkpoint of a training run.

    Attributes:
        model: the model, with its weights.
        moments: the state of the optimizer of each part of an official checkpoint.
        step: number of steps completed.
    """

    model: FirstOrderMotionModel
    moments: dict[str, Moments]
    step: int


def read_run(directory: Path, config: TrainFOMMConfig, which: Which = "latest") -> Run:
    """Read a checkpoint of a training run; `InputError` if there is none or it does not fit the configuration."""
    state = load_checkpoint(_empty_state(config), directory, which)
    networks = nnx.eval_shape(lambda: _networks(config))
    nnx.update(networks, *(jax.tree.map(jnp.asarray, tree) for tree in (state.params, state.batch_stats)))
    return Run(networks.model, dump_moments(state.opt_state, networks.model), int(state.step))


def official_checkpoint(run: Run, config: TrainFOMMConfig, steps_per_epoch: int) -> dict[str, Any]:
    """Everything that an official checkpoint holds: state dicts, optimizers and the epoch to go on at."""
    epoch = run.step // steps_per_epoch
    content: dict[str, Any] = dump_fomm_state(run.model)
    # A milestone at this very epoch is not passed: the scheduler reduces the rate when it goes on there.
    passed = sum(milestone < epoch for milestone in milestones_in_epochs(config, steps_per_epoch))
    for part, name in OWNERS.items():
        adam: AdamConfig = getattr(config.optimizer, name)
        rate = adam.learning_rate * 0.1**passed
        content[f"optimizer_{part}"] = official_optimizer(run.moments[part], rate, adam.learning_rate)
    return {**content, "epoch": epoch}


def untrained(model: FirstOrderMotionModel) -> Run:
    """A model that optimizers have not yet updated, as a run at step 0."""
    names, weights = parameter_names(model), dump_fomm_state(model)
    return Run(model, {part: initial_moments(weights[part], names[part]) for part in PARTS}, 0)


def _networks(config: TrainFOMMConfig) -> TrainingNetworks:
    return TrainingNetworks(FirstOrderMotionModel(config.fomm, rngs=nnx.Rngs(0)), config.loss)


def _empty_state(config: TrainFOMMConfig) -> TrainState:
    """The structure and shapes of a checkpoint of a run."""
    networks = nnx.eval_shape(lambda: _networks(config))
    params, stats = (nnx.to_pure_dict(nnx.state(networks, kind)) for kind in (nnx.Param, nnx.BatchStat))
    opt_state = jax.eval_shape(config.optimizer.build().init, params)
    return TrainState(jnp.zeros((), jnp.int32), params, stats, opt_state)
