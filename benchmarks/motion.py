"""Times the motion GAN beside the same networks in plain PyTorch.

    python -m benchmarks.motion

Both sides start from equal weights and windows, run in a process each, and take turns of 50 critic updates (with a
generator update after every fifth), so that what slows the machine down for a while slows both. Out: a Markdown table;
the speed-up says how many times as fast ours is. Run it on an otherwise idle machine.
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
    """What keeps the critic Lipschitz."""
    turns: int = 5
    """Turns of each side that count, after one that compiles."""
    generator_updates: int = 10
    """Generator updates a turn, each after five critic updates."""

    def __post_init__(self):
        require_at_least(self, turns=1, generator_updates=1)


def windows(generator_updates: int) -> np.ndarray:
    """Motion vectors [b, update, t, v], six windows for each generator update."""
    with np.load(GOLDEN / "motion-wgan.npz") as file:
        real = file["real"].swapaxes(0, 1)
    return np.ascontiguousarray(np.tile(real, (1, generator_updates, 1, 1)))


def jax_side(constraint: Constraint, generator_updates: int) -> Callable[[], float]:
    """Our training step; a call makes all updates of a turn and returns the last Wasserstein estimate."""
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
    """The same in PyTorch."""
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
    """Runs one side in its process: a turn for each request, until the request is None."""
    turn = {"jax": jax_side, "torch": torch_side}[framework](constraint, generator_updates)
    while connection.recv() is not None:
        start = time.perf_counter()
        turn()
        connection.send(time.perf_counter() - start)


def measure(constraint: Constraint, options: Options) -> tuple[list[float], list[float]]:
    """Seconds of each turn that counts, ours and PyTorch's."""
    context = multiprocessing.get_context("spawn")
    sides = []
    for framework in ("jax", "torch"):
        ours, theirs = context.Pipe()
        process = context.Process(
            target=serve, args=(theirs, framework, constraint, options.generator_updates), daemon=True
        )
        process.start()
        theirs.close()  # so that a side which dies is an end of file here
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
    """Prints the table."""
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
