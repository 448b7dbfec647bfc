"""The training step that `scaling.py` reckons with: its time, what it reduces, and the rate of a reader of its data."""

import contextlib
import functools
import itertools
import re
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from benchmarks.scaling import Reduced
from experiments.configs import CONFIGS, TrainFOMMConfig
from vidcomp_jax.data import as_stored, pairs, prepare_pairs
from vidcomp_jax.data.cache import cached_clips
from vidcomp_jax.data.sources import Clip, Source
from vidcomp_jax.devices import shard
from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.losses import TrainingNetworks, fomm_objective
from vidcomp_jax.fomm.model import FirstOrderMotionModel
from vidcomp_jax.nn.layers import BatchNorm
from vidcomp_jax.training.preparation import prepared
from vidcomp_jax.training.step import gradient_step, init_state, map_over_devices

_CLIPS, _LENGTH = 64, 16
_AHEAD, _SECONDS = 12, 3.0
_VIDEOS = 100
"""Number of training videos, from which the number of steps of a configuration in epochs follows."""


def training(name: str) -> TrainFOMMConfig:
    """The training configuration of this name; an `InputError` if there is none."""
    if name not in CONFIGS:
        raise InputError(f"--config={name}: unknown; choose from {', '.join(CONFIGS)}")
    return CONFIGS[name].in_steps(_VIDEOS)


def reduced_by(config: TrainFOMMConfig) -> Reduced:
    """What a step of this training reduces over the devices, from the weights of its networks."""
    model = nnx.eval_shape(lambda: FirstOrderMotionModel(config.fomm, rngs=nnx.Rngs(0)))
    loss, jacobian = config.loss, config.fomm.estimate_jacobian
    position, jacobian = bool(loss.equivariance_position), bool(loss.equivariance_jacobian and jacobian)
    networks = [model.detector, model.dense_motion, model.generator]
    networks += [model.discriminator] if loss.generator_gan else []
    weights = sum(x.size for network in networks for x in jax.tree.leaves(nnx.state(network, nnx.Param)))
    running = [x for x in jax.tree.leaves(nnx.state(model, nnx.BatchStat)) if x.dtype == np.float32]
    frames = 3 if position or jacobian else 2  # that the detector sees, each with statistics of its own
    norms = [(network, part) for network in networks for _, part in nnx.iter_modules(network)]
    channels = [
        part.mean.size * (frames if network is model.detector else 1)
        for network, part in norms
        if isinstance(part, BatchNorm)
    ]
    # Of the pyramid loss, the L1 error, their sum and the norm of the gradient; of the equivariance; of the GAN.
    metrics = 4 + position + jacobian + (2 + any(loss.feature_matching) if loss.generator_gan else 0)
    others = sum(x.size for x in running) + metrics
    # Mean and variance, forward and backward, each a reduction of its own; and one at the end.
    return Reduced(weights, 4 * sum(channels), others, 4 * len(channels) + 1)


def measured_step(config: TrainFOMMConfig, batch: int, steps: int) -> float:
    """Median seconds of a training step of `batch` pairs on one device, after one that compiles."""
    step, state, constants, data = _prepare(config, batch, jax.devices()[:1])
    seconds = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        state, metrics = step(state, constants, data, jax.random.key(0))
        jax.block_until_ready((state, metrics))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def measured_pairs(config: TrainFOMMConfig) -> float:
    """Pairs a second of one reader process, of noise in the layout that the configuration reads."""
    data = as_stored(config.data)
    shape, size = (data.size, data.size, data.num_channels), config.train.batch_size
    rng = np.random.default_rng(0)

    def noise(source: Source) -> list[Clip]:
        return [Clip(source.name, source.name, rng.integers(0, 256, (_LENGTH, *shape), np.uint8), 25.0)]

    with tempfile.TemporaryDirectory() as folder:
        sources = [Source(f"clip{number}", Path(folder), ()) for number in range(_CLIPS)]
        clips = cached_clips(sources, noise, settings={}, frame_shape=shape, cache_dir=Path(folder), label="scaling")
        with contextlib.closing(pairs(clips, batch_size=size, seed=0, workers=1)) as batches:
            for _ in itertools.islice(batches, _AHEAD):
                pass
            start, count = time.perf_counter(), 0
            while time.perf_counter() - start < _SECONDS:
                count += len(next(batches).source)
            return count / (time.perf_counter() - start)


def all_reduced(text: str) -> int:
    """Bytes that the all-reduces of a compiled program, as XLA prints it, reduce."""
    found = 0
    for line in text.splitlines():
        match = re.match(r"\s*(?:ROOT )?%?[\w.-]+ = (.*?) all-reduce(?:-start)?\(", line)
        for kind, bits, shape in re.findall(r"\b([a-z]+)(\d+)\[([\d,]*)\]", match[1] if match else ""):
            assert kind in ("f", "bf", "s", "u"), line
            found += int(bits) // 8 * int(np.prod([int(size) for size in shape.split(",") if size]))
    return found


def check(config: TrainFOMMConfig, batch: int) -> str:
    """Run a step on two simulated devices and on one, and compare its all-reduces with `reduced_by`, in one line."""
    devices, losses, sizes = jax.devices("cpu"), [], []
    for count in (1, 2):
        step, *arguments = _prepare(config, 2 * batch, devices[:count])
        compiled = step.lower(*arguments, jax.random.key(0)).compile()
        sizes.append(all_reduced(compiled.as_text()))
        _, metrics = compiled(*arguments, jax.random.key(0))
        losses.append(float(metrics["loss"]))
    reckoned = reduced_by(config).num_bytes
    return (
        f"simulated: the step for two devices reduces {sizes[1]} bytes ({reckoned} reckoned, {sizes[1] / reckoned:.6f} "
        f"of it), that for one {sizes[0]}; on the same {2 * batch} pairs the losses are {losses[0]:.6f} on one device "
        f"and {losses[1]:.6f} on two"
    )


def _prepare(config: TrainFOMMConfig, batch: int, devices: Sequence[jax.Device]) -> tuple:
    """The step for these devices, and its arguments but for the key, with noise as frames."""
    networks = TrainingNetworks(FirstOrderMotionModel(config.fomm, rngs=nnx.Rngs(0)), config.loss)
    tx = config.optimizer.build()
    graphdef, constants, state = init_state(networks, tx, devices)
    data = config.data
    prepare = functools.partial(
        prepare_pairs, augmentation=config.augmentation, size=data.size, num_channels=data.num_channels
    )
    step = map_over_devices(graphdef, gradient_step(tx, prepared(fomm_objective, prepare)), devices)
    stored = as_stored(data)
    shape = (batch, stored.size, stored.size, stored.num_channels)
    noise = np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8)
    return step, state, constants, shard(tuple(noise), batch, devices)
