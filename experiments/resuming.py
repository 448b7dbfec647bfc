"""Goes on with runs that an earlier version began."""

import dataclasses
from typing import Any, TypeVar

from experiments.configs import TrainFOMMConfig
from vidcomp_jax.storage.config import CONFIG_FILE, as_begun, load_config
from vidcomp_jax.storage.steps import CHECKPOINTS, latest_step

Config = TypeVar("Config")


def resumed(config: TrainFOMMConfig) -> TrainFOMMConfig:
    """The configuration with which to train in its work folder.

    If an earlier version began the run there, settings that it did not have stay without effect, and durations that
    are now given in epochs keep their stored number of steps. What that changes is printed in one line, and so is,
    once, that the random draws of the augmentation differ from here on.
    """
    config = dataclasses.replace(config, augmented_in_step=True)
    if latest_step(config.workdir / CHECKPOINTS) is None:
        return config
    begun = as_begun(windows_as_begun(config), config.workdir)
    # What somebody asks for is not dropped without a word: other values than those in effect are refused.
    begun = dataclasses.replace(
        begun,
        precision=config.precision,
        train=dataclasses.replace(begun.train, accumulate=config.train.accumulate),
    )
    stored = load_config(config.workdir / CONFIG_FILE, TrainFOMMConfig)
    if not stored.augmented_in_step:
        print(
            f"{config.workdir}: an earlier version began this run; frames are now augmented in the training step, so "
            "the random changes differ from here on, and are distributed as before"
        )
    if begun.schedule == config.schedule:
        return begun
    names = [name for name in ("num_steps", "checkpoint_every", "panel_every") if not getattr(begun.train, name)]
    train = dataclasses.replace(begun.train, **{name: getattr(stored.train, name) for name in names})
    optimizer = begun.optimizer.with_milestones(stored.optimizer.generator.milestones)
    print(f"{config.workdir}: an earlier version began this run; it goes on with its own augmentation and durations")
    return dataclasses.replace(begun, train=train, optimizer=optimizer)


def windows_as_begun(config: Config) -> Config:
    """The configuration of a training command, with the training windows of KTH that its run was begun with.

    Where they are others, because an earlier version began the run, this is printed in one line.
    """
    given: Any = config
    if latest_step(given.workdir / CHECKPOINTS) is None:
        return config
    begun = as_begun(given, given.workdir).data.kth.train_windows
    if begun == given.data.kth.train_windows:
        return config
    if given.data.kind == "kth":
        print(
            f"{given.workdir}: an earlier version began this run; its training windows start where they did, "
            f"--kth.train-windows={begun}"
        )
    kth = dataclasses.replace(given.data.kth, train_windows=begun)
    return dataclasses.replace(given, data=dataclasses.replace(given.data, kth=kth))
