"""Times training of the motion GAN against the same networks in plain PyTorch.

    python -m benchmarks.motion

Both sides start from the same weights and windows in separate processes and alternate after 50 critic updates (with a
generator update after every fifth), so that a slow phase of the machine affects both.
Output: a Markdown table; the speed-up is PyTorch's time divided by ours. Run it on an otherwise idle machine.
"""

import dataclasses
import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Literal

import numpy as np
import tyro

from benchmarks.recipes import GOLDEN
from tools.make_checkpoint import recipe_state
from vidcomp_jax.errors import require_at_least

Constraint = Literal["gradient-penalty", "weight-clipping"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    constraints: tuple[Constraint, ...] = ("gradient-penalty", "weight-clipping")
    """How the critic is kept Lipschitz continuous."""
    turns: int = 5
    """Measured turns of each side, after one that includes compilation."""
    generator_updates: int = 10
    """Generator updates per turn, each after five critic updates."""

    def __post_init__(self):
        require_at_least(self, turns=1, generator_updates=1)


def windows(generator_updates: int) -> np.ndarray:
    """Return motion vectors [b, update, t, v], with six windows for each generator update."""
    with np.load(GOLDEN / "motion-wgan.npz") as file:
        real = file["real"].swapaxes(0, 1)
    return np.ascontiguousarray(np.tile(real, (1, generator_updates, 1, 1)))


def jax_side(constraint: Constraint, generator_updates: int) -> Callable[[], float]:
    """Return a function that runs all updates of one turn in JAX and returns the last Wasserstein estimate."""
    import jax
    from flax import nnx

    from converters.weight_map import load_state
    from vidcomp_jax.motion.wgan import MotionGAN, WGANConfig
    from vidcomp_jax.motion.wgan_training import rmsprop, training_step
    from vidcomp_jax.training.step import init_state, map_over_devices

    config = WGANConfig(constraint=constraint, rounds_per_step=generator_updates)
    gan, tx, devices = MotionGAN(config, 10, rngs=nnx.Rngs(0)), rmsprop(config.learning_rate), jax.devices()[:1]
    for name, weights in recipe_state("wgan").items():
        load_state(getattr(gan, name), weights)
    graphdef, constants, state = init_state(gan, tx, devices)
    step = map_over_devices(graphdef, training_step(config, tx), devices)
    batch = windows(generator_updates)[None]

    def turn() -> float:
        nonlocal state
        state, metrics = step(state, constants, batch, jax.random.key(0))
        return float(metrics["wasserstein"])

    return turn


def torch_side(constraint: Constraint, generator_updates: int) -> Callable[[], float]:
    """Return the PyTorch counterpart of `jax_side`."""
    import torch

    from benchmarks.torch_motion import WassersteinTraining

    device = "cuda" if torch.cuda.is_available() else "cpu"
    training = WassersteinTraining(recipe_state("wgan"), clipping=constraint == "weight-clipping", device=device)
    real = torch.from_numpy(windows(generator_updates)).to(device)
    b, _, t, _ = real.shape

    def turn() -> float:
        for i in range(generator_updates):
            for j in range(5):
                noise, alpha = torch.randn(b, t, 40, device=device), torch.rand(b, t, 1, device=device)
                distance = training.update_critic(real[:, 6 * i + j], noise, alpha)
            training.update_generator(real[:, 6 * i + 5], torch.randn(b, t, 40, device=device))
        return float(distance)

    return turn


def serve(connection: Connection, framework: str, constraint: Constraint, generator_updates: int) -> None:
    """Run one turn of a side for each message received, until that is `None`."""
    turn = {"jax": jax_side, "torch": torch_side}[framework](constraint, generator_updates)
    while connection.recv() is not None:
        start = time.perf_counter()
        turn()
        connection.send(time.perf_counter() - start)


def measure(constraint: Constraint, options: Options) -> tuple[list[float], list[float]]:
    """Return the seconds of each measured turn, ours and PyTorch's."""
    context = multiprocessing.get_context("spawn")
    sides = []
    for framework in ("jax", "torch"):
        ours, theirs = context.Pipe()
        process = context.Process(
            target=serve, args=(theirs, framework, constraint, options.generator_updates), daemon=True
        )
        process.start()
        theirs.close()  # so that `recv` raises EOFError if the other process dies
        sides.append((ours, process))
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(1 + options.turns):
        for (connection, _), times in zip(sides, seconds, strict=True):
            connection.send("turn")
            elapsed = connection.recv()
            if turn:
                times.append(elapsed)
    for connection, process in sides:
        connection.send(None)
        process.join()
    return seconds


def main() -> None:
    """Measure both sides and print the table."""
    options = tyro.cli(Options, description=__doc__)
    updates = 5 * options.generator_updates
    print(f"| constraint | s a turn of {updates} critic updates, ours | PyTorch | speed-up | single turns |")
    print("|---|---|---|---|---|")
    for constraint in options.constraints:
        ours, torch = measure(constraint, options)
        pairs = [b / a for a, b in zip(ours, torch, strict=True)]
        ratio = statistics.median(torch) / statistics.median(ours)
        print(
            f"| {constraint} | {statistics.median(ours):.2f} | {statistics.median(torch):.2f} "
            f"| {ratio:.2f} | {min(pairs):.2f} to {max(pairs):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
