"""The step and the loop, on a toy module with batch statistics and constants."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from vidcomp_jax import train
from vidcomp_jax.errors import InputError
from vidcomp_jax.layers import BatchNorm


class Points(NamedTuple):
    inputs: np.ndarray
    targets: np.ndarray


class Toy(nnx.Module):
    """Two linear layers with batch normalisation between, behind a frozen scale."""

    def __init__(self, seed: int = 0):
        rngs = nnx.Rngs(seed)
        self.scale = train.Constant(jnp.full(3, 2.0))
        self.layers = nnx.List([nnx.Linear(3, 5, rngs=rngs), nnx.Linear(5, 2, rngs=rngs)])
        self.norm = BatchNorm(5)

    def __call__(self, x):
        return self.layers[1](jax.nn.relu(self.norm(self.layers[0](x * self.scale[...]))))


def objective(model, batch, keys):
    """Squared error with noise drawn for each example."""
    noise = jax.vmap(lambda key: jax.random.normal(key, (2,)))(keys)
    error = jnp.square(model(batch.inputs) - batch.targets + 0.1 * noise).mean()
    return error, {"error": error, "noise": noise.mean()}


def batch_of(step: int, size: int = 8) -> Points:
    random = np.random.default_rng([7, step])
    inputs = random.normal(size=(size, 3)).astype(np.float32)
    return Points(inputs, inputs[:, :2] * 0.5 + 1)


def batches(start_step: int, process: int, processes: int):
    step = start_step
    while True:
        share = 8 // processes
        yield Points(*(x[process * share : (process + 1) * share] for x in batch_of(step)))
        step += 1


def config(**changes) -> train.TrainConfig:
    return train.TrainConfig(**{"num_steps": 6, "batch_size": 8, "log_every": 1} | changes)


def run(workdir, tx=None, model=None, objective=objective, batches=batches, **options):
    options = {"config": config(), "devices": jax.devices()[:2]} | options
    model = model or Toy()
    return train.fit(model, tx=tx or optax.adam(1e-2), objective=objective, batches=batches, workdir=workdir, **options)


def lines_of(workdir: pathlib.Path) -> list[dict]:
    speed = {"steps_per_second", "data_wait"}
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name not in speed} for line in lines]


def weights_of(model) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(nnx.state(model)))
    return {jax.tree_util.keystr(path): np.array(leaf) for path, leaf in leaves}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run of six steps on two devices."""
    workdir = tmp_path_factory.mktemp("whole")
    return run(workdir), workdir


def test_two_devices_equal_one(tmp_path):
    results = [
        run(tmp_path / str(n), tx=optax.sgd(0.1), devices=jax.devices()[:n], config=config(num_steps=4)) for n in (1, 2)
    ]
    one, two = (weights_of(result.model) for result in results)
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_allclose(one[name], two[name], atol=1e-6, err_msg=name)
    for a, b in zip(lines_of(tmp_path / "1"), lines_of(tmp_path / "2"), strict=True):
        assert a == pytest.approx(b, abs=1e-6)
