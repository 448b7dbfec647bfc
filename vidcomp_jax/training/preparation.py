"""Lets a training step prepare its batches on the devices: conversion of stored frames, augmentation.

What is prepared is a function of the batch and of one key per example, so it is the same for any number of devices.
The objective's own random draws are those it would have without preparation.
"""

from collections.abc import Callable

import jax
from jaxtyping import Array, Key

from vidcomp_jax.training.step import Batch, DeviceStep, Objective

Preparation = Callable[[Batch, Key[Array, " b"]], Batch]
"""`(batch, keys) -> batch` on one device's share of the batch, with one key per example."""

_PREPARATION = 0x70726570
"""Folded into the keys of the examples, so that preparation and objective draw independent numbers."""


def prepared(objective: Objective, prepare: Preparation) -> Objective:
    """The objective that prepares its batch and then does what `objective` does."""

    def after_preparation(model, batch, keys):
        return objective(model, _prepared(prepare, batch, keys), keys)

    return after_preparation


def prepared_step(step: DeviceStep, prepare: Preparation) -> DeviceStep:
    """The step that prepares its batch and then does what `step` does."""

    def after_preparation(graphdef, state, constants, batch, keys):
        return step(graphdef, state, constants, _prepared(prepare, batch, keys), keys)

    return after_preparation


def _prepared(prepare: Preparation, batch: Batch, keys: Key[Array, " b"]) -> Batch:
    with jax.named_scope("preparation"):
        return prepare(batch, jax.vmap(jax.random.fold_in, (0, None))(keys, _PREPARATION))
