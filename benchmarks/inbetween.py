"""Times a training step of 3D-convolution in-betweening against the same network in plain PyTorch.

    python -m benchmarks.inbetween --help

Input: sizes of the networks, the published ones by default.
Output: a Markdown table of time ratios (ours / PyTorch, so below 1 ours is faster) and memory, with and without
gradient checkpointing. All sides use the same weights, clips and noise in separate processes and run alternately, so
that a slow phase of the machine affects all. Run it on an otherwise idle machine.
"""

import dataclasses
import functools
import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple

import numpy as np

from benchmarks.workers import peak_memory
from vidcomp_jax.errors import require_at_least
from vidcomp_jax.inbetween.losses import InbetweenLossConfig
from vidcomp_jax.inbetween.networks import InbetweenConfig

OURS, CHECKPOINTED, TORCH = "JAX", "JAX, activations recomputed", "PyTorch"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    batch: int = 2
    """Clips per step."""
    rounds: int = 3
    """Measured rounds, after those of `warmup`."""
    warmup: int = 1
    """Rounds before the measured ones; the first includes compilation."""
    times: bool = False
    """Also print seconds, which hold for this machine only."""
    inbetween: InbetweenConfig = InbetweenConfig()
    """Sizes of the networks."""

    def __post_init__(self):
        require_at_least(self, batch=1, rounds=1, warmup=1)


class Shared(NamedTuple):
    """Initial weights and noise that all sides share.

    Attributes:
        weights: arrays of all networks by dotted name.
        noise: noise vectors of the clips, [b, noise_size].
    """

    weights: dict[str, np.ndarray]
    noise: np.ndarray


class Report(NamedTuple):
    """Device and memory of one side, sent after its last step.

    Attributes:
        device: name of the processor it ran on.
        peak: peak memory in bytes: of the GPU if there is one, otherwise of the process, compilation included.
        temporary: bytes that the compiled step allocates besides its arguments and results; 0 if unknown.
        kept: bytes that the forward pass stores for the backward pass, before XLA's fusions reduce them; 0 if unknown.
            On a CPU, XLA undoes the recomputation, so that only this number shows what checkpointing saves.
    """

    device: str
    peak: int
    temporary: int
    kept: int


Step = Callable[[], dict[str, float]]


def clips(options: Options) -> np.ndarray:
    """Return smooth moving patterns [b, t, h, w, c] in [0, 1], the same for all sides."""
    config = options.inbetween
    y, x = np.mgrid[: config.frame_size, : config.frame_size] / config.frame_size
    t = np.arange(config.num_frames).reshape(1, -1, 1, 1, 1)
    phase = np.arange(options.batch * config.num_channels).reshape(options.batch, 1, 1, 1, -1)
    pattern = np.sin(9 * x[..., None] + 0.3 * t + phase) * np.cos(7 * y[..., None] - 0.2 * t - 0.5 * phase)
    return (0.5 + 0.5 * pattern).astype(np.float32)


def serve(connection: Connection, side: str, options: Options, shared: Shared | None) -> None:
    """Run one step of a side for each message received, until that is `None`.

    Args:
        shared: initial weights and noise for PyTorch; None for the JAX sides, which send theirs back.
    """
    step, report, start = _jax(options, side == CHECKPOINTED) if shared is None else _torch(options, shared)
    connection.send(start)
    while connection.recv() is not None:
        begin = time.perf_counter()
        losses = step()
        connection.send((time.perf_counter() - begin, losses))
    connection.send(report())


def _jax(options: Options, remat: bool) -> tuple[Step, Callable[[], Report], Shared]:
    from experiments.tuning import tune_process

    tune_process()
    import jax
    from flax import nnx

    from vidcomp_jax.devices import shard
    from vidcomp_jax.inbetween.losses import Inbetween, draw_noise, objective, optimizer
    from vidcomp_jax.training.step import init_state, make_train_step

    config, loss = dataclasses.replace(options.inbetween, remat=remat), InbetweenLossConfig()
    # XLA's own generator, because the default one takes long to compile for every new shape.
    model = Inbetween(config, rngs=nnx.Rngs(jax.random.key(0, impl="rbg")))
    flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
    weights = {".".join(map(str, path)): np.asarray(leaf[...]) for path, leaf in flat}
    device, tx, key = jax.devices()[0], optimizer(loss), jax.random.key(0)
    graphdef, constants, state = init_state(model, tx, [device])
    train_step: Any = make_train_step(graphdef, tx, functools.partial(objective, config=loss), [device])
    batch = shard(clips(options), options.batch, [device])
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, 0), np.arange(options.batch))
    compiled: Any = None

    def step() -> dict[str, float]:
        nonlocal state, compiled
        if compiled is None:
            compiled = train_step.lower(state, constants, batch, key).compile()
        state, metrics = jax.block_until_ready(compiled(state, constants, batch, key))
        return {name: float(value) for name, value in metrics.items()}

    def report() -> Report:
        analysis = compiled.memory_analysis()
        temporary = analysis.temp_size_in_bytes if analysis is not None else 0
        gpu = device.platform == "gpu"
        peak = device.memory_stats()["peak_bytes_in_use"] if gpu else peak_memory()
        return Report(device.device_kind if gpu else "CPU", peak, temporary, _kept(config, loss, options.batch))

    return step, report, Shared(weights, np.asarray(draw_noise(keys, config.noise_size)))


def _kept(config: InbetweenConfig, loss: InbetweenLossConfig, batch: int) -> int:
    """Return the bytes that the forward pass stores for the backward pass, without the weights; nothing is executed."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from vidcomp_jax.inbetween.losses import Inbetween, objective

    model = nnx.eval_shape(lambda: Inbetween(config, rngs=nnx.Rngs(0)))
    definition, *states = nnx.split(model, nnx.Param, ...)
    params, rest = map(nnx.to_pure_dict, states)
    shape = (batch, config.num_frames, config.frame_size, config.frame_size, config.num_channels)

    def backward(params, rest):
        keys = jax.random.split(jax.random.key(0), batch)
        clips = jnp.zeros(shape)
        return jax.vjp(
            lambda params: objective(nnx.merge(definition, params, rest), clips, keys, config=loss)[0], params
        )[1]

    kept, weights = (
        sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
        for tree in (jax.eval_shape(backward, params, rest), params)
    )
    return kept - weights


def _torch(options: Options, shared: Shared) -> tuple[Step, Callable[[], Report], None]:
    import torch

    from benchmarks.torch_inbetween import Training

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    training = Training(options.inbetween, InbetweenLossConfig(), shared.weights, device)
    batch = torch.from_numpy(clips(options)).permute(0, 4, 1, 2, 3).contiguous().to(device)
    noise = torch.from_numpy(shared.noise).to(device)

    def report() -> Report:
        if device.type == "cuda":
            return Report(torch.cuda.get_device_name(), torch.cuda.max_memory_allocated(), 0, 0)
        return Report(f"CPU, {torch.get_num_threads()} threads", peak_memory(), 0, 0)

    return lambda: {k: float(v) for k, v in training.step(batch, noise).items()}, report, None


class Outcome(NamedTuple):
    """Measurements of one side: seconds of the measured rounds, losses of the first step, and the report."""

    seconds: list[float]
    first: dict[str, float]
    report: Report


def measure(options: Options) -> dict[str, Outcome]:
    """Run all sides alternately, each in a new process."""
    context = multiprocessing.get_context("spawn")
    sides: dict[str, tuple[Connection, SpawnProcess]] = {}
    shared: Shared | None = None
    for side in (OURS, CHECKPOINTED, TORCH):
        ours, theirs = context.Pipe()
        given = shared if side == TORCH else None
        process = context.Process(target=serve, args=(theirs, side, options, given), daemon=True)
        process.start()
        theirs.close()  # so that `recv` raises EOFError if the other process dies
        shared = ours.recv() or shared
        sides[side] = (ours, process)
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    first: dict[str, dict[str, float]] = {}
    for turn in range(options.warmup + options.rounds):
        for side, (connection, _) in sides.items():
            connection.send("step")
            elapsed, losses = connection.recv()
            first.setdefault(side, losses)
            if turn >= options.warmup:
                seconds[side].append(elapsed)
    outcomes = {}
    for side, (connection, process) in sides.items():
        connection.send(None)
        outcomes[side] = Outcome(seconds[side], first[side], connection.recv())
        process.join()
    return outcomes


def difference(ours: dict[str, float], torch: dict[str, float]) -> float:
    """Return the largest relative difference between the losses of two sides."""
    return max(abs(ours[name] / value - 1) for name, value in torch.items())


def main(options: Options) -> None:
    """Measure all sides and print the table."""
    outcomes = measure(options)
    torch = outcomes[TORCH]
    config = options.inbetween
    devices = ", ".join(dict.fromkeys(f"{side} on {outcome.report.device}" for side, outcome in outcomes.items()))
    print(f"{config.num_frames} frames of {config.frame_size} pixels, batch {options.batch}; {devices}\n")
    columns = [
        "side",
        "ratio to PyTorch",
        "single rounds",
        "peak GiB",
        "step's own GiB",
        "kept for backward GiB",
        "difference",
    ]
    print(f"| {' | '.join(columns + ['s a step'] * options.times)} |\n|{'---|' * (len(columns) + options.times)}")
    for side, outcome in outcomes.items():
        ratios = [a / b for a, b in zip(outcome.seconds, torch.seconds, strict=True)]
        own, kept = (f"{x / 2**30:.2f}" if x else "" for x in (outcome.report.temporary, outcome.report.kept))
        cells = [
            side,
            f"{statistics.median(outcome.seconds) / statistics.median(torch.seconds):.2f}",
            f"{min(ratios):.2f} to {max(ratios):.2f}",
            f"{outcome.report.peak / 2**30:.2f}",
            own,
            kept,
            f"{difference(outcome.first, torch.first):.0e}",
        ]
        if options.times:
            cells.append(f"{statistics.median(outcome.seconds):.2f}")
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    from experiments.commands import run

    run(main, Options)
