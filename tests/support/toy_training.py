"""A training run of a few milliseconds: a module with batch statistics and a constant, data and objective.

Run as a program, it trains and sends itself SIGTERM: `python -m tests.support.toy_training WORKDIR`.
"""

import json
import os
import pathlib
import signal
import sys
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from vidcomp_jax.devices import BatchShare
from vidcomp_jax.nn.layers import BatchNorm, Constant
from vidcomp_jax.training.config import TrainConfig
from vidcomp_jax.training.loop import fit


class Points(NamedTuple):
    inputs: np.ndarray
    targets: np.ndarray


class Toy(nnx.Module):
    """A frozen scale, then two linear layers with batch normalization in between."""

    def __init__(self, seed: int = 0):
        rngs = nnx.Rngs(seed)
        self.scale = Constant(jnp.full(3, 2.0))
        self.layers = nnx.List([nnx.Linear(3, 5, rngs=rngs), nnx.Linear(5, 2, rngs=rngs)])
        self.norm = BatchNorm(5)

    def __call__(self, x):
        return self.layers[1](jax.nn.relu(self.norm(self.layers[0](x * self.scale[...]))))


def objective(model, batch, keys):
    """Return the squared error, with noise drawn for each example."""
    noise = jax.vmap(lambda key: jax.random.normal(key, (2,)))(keys)
    error = jnp.square(model(batch.inputs) - batch.targets + 0.1 * noise).mean()
    return error, {"error": error, "noise": noise.mean()}


def batch_of(step: int, size: int = 8) -> Points:
    random = np.random.default_rng([7, step])
    inputs = random.normal(size=(size, 3)).astype(np.float32)
    return Points(inputs, inputs[:, :2] * 0.5 + 1)


def batches(share: BatchShare):
    step = share.start_step
    while True:
        rows = share.rows(8)
        yield Points(*(x[rows.start : rows.stop] for x in batch_of(step)))
        step += 1


def config(**changes) -> TrainConfig:
    return TrainConfig(**{"num_steps": 6, "batch_size": 8, "log_every": 1} | changes)


def run(workdir, tx=None, model=None, objective=objective, batches=batches, **options):
    options = {"config": config(), "devices": jax.devices()[:2]} | options
    model = model or Toy()
    return fit(model, tx=tx or optax.adam(1e-2), objective=objective, batches=batches, workdir=workdir, **options)


def lines_of(workdir: pathlib.Path) -> list[dict]:
    speed = {"steps_per_second", "data_wait"}
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name not in speed} for line in lines]


def weights_of(model) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(nnx.state(model)))
    return {jax.tree_util.keystr(path): np.array(leaf) for path, leaf in leaves}


def run_until_terminated(workdir: str):
    """Train, and send this process SIGTERM in the middle."""

    def with_signal(share):
        for i, batch in enumerate(batches(share)):
            if i == 3:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.5)  # lets the earlier steps finish and the signal arrive before this batch is used
            yield batch

    raise SystemExit(run(pathlib.Path(workdir), batches=with_signal).exit_code)


if __name__ == "__main__":
    run_until_terminated(sys.argv[1])
