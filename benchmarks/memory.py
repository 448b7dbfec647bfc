"""Estimates the memory of a training step of the First Order Motion Model, for any batch, without running it.

    python -m benchmarks.memory --help

Output: a Markdown table of the memory that a step needs on one device, and what that consists of. Float32 steps that
keep their activations are compiled, and XLA's own analysis says what they need: `held` for weights, optimizer, batch
statistics, VGG19 and the batch, and `computed` for everything else at the peak. `stored` is what the forward pass
stores for the backward pass, by the derivative's program, before XLA merges operations. XLA for CPUs merges recomputed
activations with the first ones and computes much of bfloat16 in float32, so it cannot show what these options save; for
them, `computed` is taken to shrink as `stored` does. Where the step is compiled on a CPU, the numbers are an estimate
for GPUs, without the workspace of their convolutions.
"""

import dataclasses
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.configs import CONFIGS, TrainFOMMConfig
from vidcomp_jax.data import prepare_pairs
from vidcomp_jax.devices import all_devices
from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.losses import TrainingNetworks, fomm_objective
from vidcomp_jax.fomm.model import FirstOrderMotionModel
from vidcomp_jax.fomm.perceptual import VGG19
from vidcomp_jax.nn import convolution
from vidcomp_jax.nn.layers import Constant, freeze
from vidcomp_jax.nn.precision import Precision, in_precision
from vidcomp_jax.nn.remat import recomputed
from vidcomp_jax.training.preparation import prepared
from vidcomp_jax.training.step import TrainState, gradient_step, map_over_devices


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Estimate the memory of a training step, with the VGG19 perceptual loss, on one device."""

    configs: tuple[str, ...] = ("kth", "bair", "vox")
    """Configurations, as --dataset of experiments.train_fomm."""
    batches: tuple[int, ...] = (4, 8)
    """Pairs per step."""
    accumulate: tuple[int, ...] = (1,)
    """Parts that a step is computed in; batches that are no multiple are left out."""
    remat: tuple[bool, ...] = (False, True)
    """Keep the activations of hourglasses and generator, compute them again, or each of both."""
    precision: tuple[Precision, ...] = ("float32", "bfloat16")
    """What to compute in."""
    perceptual: bool = True
    """Whether VGG19 is part of the step."""

    def __post_init__(self):
        for name in self.configs:
            if name not in CONFIGS:
                raise InputError(f"--configs: no configuration {name}; there are {', '.join(CONFIGS)}")
        for name, least in (("batches", min(self.batches, default=1)), ("accumulate", min(self.accumulate, default=1))):
            if least < 1:
                raise InputError(f"--{name}: {least}; at least 1 is needed")


def build(config: TrainFOMMConfig, remat: bool, precision: Precision, perceptual: bool) -> TrainingNetworks:
    """Return the networks that are trained, with shapes in place of arrays."""

    def networks() -> TrainingNetworks:
        vgg = None
        if perceptual:
            vgg = VGG19(rngs=nnx.Rngs(0))
            freeze(vgg)
        networks = TrainingNetworks(FirstOrderMotionModel(config.fomm, rngs=nnx.Rngs(0)), config.loss, vgg)
        networks = in_precision(networks, precision)
        return recomputed(networks) if remat else networks

    return nnx.eval_shape(networks)


def planned(config: TrainFOMMConfig, batch_size: int, accumulate: int = 1, perceptual: bool = True) -> tuple[int, int]:
    """Return the bytes that a float32 step holds and computes, by XLA's analysis of the compiled step."""
    graphdef, *parts = nnx.split(build(config, False, "float32", perceptual), nnx.Param, nnx.BatchStat, Constant)
    params, batch_stats, constants = map(nnx.to_pure_dict, parts)
    tx: optax.GradientTransformation = config.optimizer.with_milestones((1000,)).build()
    counter: Any = jax.ShapeDtypeStruct((), jnp.int32)
    state = TrainState(counter, params, batch_stats, jax.eval_shape(tx.init, params))
    size, channels = config.data.size, config.data.num_channels
    frames = jax.ShapeDtypeStruct((1, batch_size, size, size, channels), np.uint8)
    prepare = functools.partial(prepare_pairs, augmentation=config.augmentation, size=size, num_channels=channels)
    step: Any = map_over_devices(
        graphdef,
        gradient_step(tx, prepared(fomm_objective, prepare), accumulate=accumulate),
        all_devices()[:1],
    )
    plan = step.lower(state, constants, (frames, frames), jax.random.key(0)).compile().memory_analysis()
    # The new state takes the place of the old one.
    return plan.argument_size_in_bytes, plan.temp_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes


def kept(
    config: TrainFOMMConfig,
    batch_size: int,
    *,
    remat: bool = False,
    precision: Precision = "float32",
    perceptual: bool = True,
) -> int:
    """Return the bytes that the forward pass of a batch stores for the backward pass; nothing is compiled."""
    graphdef, *parts = nnx.split(build(config, remat, precision, perceptual), nnx.Param, ...)
    params, rest = map(nnx.to_pure_dict, parts)

    def backward(params, rest):
        keys = jax.random.split(jax.random.key(0), batch_size)
        frames = jnp.zeros((batch_size, config.data.size, config.data.size, config.data.num_channels))
        return jax.vjp(
            lambda params: fomm_objective(nnx.merge(graphdef, params, rest), (frames, frames), keys)[0], params
        )[1]

    stored, weights = (
        sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
        for tree in (jax.eval_shape(backward, params, rest), params)
    )
    return stored - weights


def main(options: Options) -> None:
    """Print each row as soon as it is known."""
    convolution.PATCHES = ()  # GPUs gather no patches, so they must not count
    print(f"compiled for {all_devices()[0].device_kind}; GiB\n")
    columns = ["configuration", "batch", "parts", "precision", "activations", "stored", "held", "computed", "sum"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for name, batch, parts in itertools.product(options.configs, options.batches, options.accumulate):
        if batch % parts:
            continue
        config = CONFIGS[name]
        held, computed = planned(config, batch, parts, options.perceptual)
        exact = kept(config, batch // parts, perceptual=options.perceptual)
        for precision, remat in itertools.product(options.precision, options.remat):
            stored = kept(config, batch // parts, remat=remat, precision=precision, perceptual=options.perceptual)
            needed = computed * stored / exact
            sizes = " | ".join(f"{x / 2**30:.2f}" for x in (stored, held, needed, held + needed))
            activations = "recomputed" if remat else "kept"
            print(f"| {name} | {batch} | {parts} | {precision} | {activations} | {sizes} |", flush=True)


if __name__ == "__main__":
    from experiments.commands import run

    run(main, Options)
