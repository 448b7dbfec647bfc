"""Times the training of motion models, and sampling from them, against the same networks in plain PyTorch.

    python -m benchmarks.motion

Both sides start from the same weights and data in separate processes and alternate, so that a slow phase of the machine
affects both. A turn of the motion GAN is 50 critic updates with a generator update after every fifth; a turn of flow
matching is 20 training steps with 64 windows of 16 frames, or one call that draws 64 clips. Output: a Markdown table;
the ratio is our time divided by PyTorch's. Run it on an otherwise idle machine.
"""

import dataclasses
import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Literal

import numpy as np
import tyro

from benchmarks.recipes import GOLDEN
from tools.make_checkpoint import recipe_state
from vidcomp_jax.errors import require_at_least

Case = Literal["gradient-penalty", "weight-clipping", "flow", "flow-sampling"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    cases: tuple[Case, ...] = ("gradient-penalty", "weight-clipping", "flow", "flow-sampling")
    """Training of the motion GAN with one of its constraints, training of flow matching, and sampling from it."""
    turns: int = 5
    """Measured turns of each side, after one that includes compilation."""
    generator_updates: int = 10
    """Generator updates per turn of the GAN, each after five critic updates."""
    flow_steps: int = 20
    """Training steps per turn of flow matching."""
    times: bool = False
    """Print seconds as well; they mean little on a CPU."""

    def __post_init__(self):
        require_at_least(self, turns=1, generator_updates=1, flow_steps=1)


def windows(generator_updates: int) -> np.ndarray:
    """Return motion vectors [b, update, t, v], with six windows for each generator update."""
    with np.load(GOLDEN / "motion-wgan.npz") as file:
        real = file["real"].swapaxes(0, 1)
    return np.ascontiguousarray(np.tile(real, (1, generator_updates, 1, 1)))


def jax_gan(constraint: Any, generator_updates: int) -> Callable[[], float]:
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


def torch_gan(constraint: str, generator_updates: int) -> Callable[[], float]:
    """Return the PyTorch counterpart of `jax_gan`."""
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


def flow_motion() -> tuple[Any, np.ndarray]:
    """Return the model with the default sizes for 8 keypoints, and windows of motion vectors [64, 16, v]."""
    from flax import nnx

    from vidcomp_jax.motion.flow import FlowConfig, FlowMotion
    from vidcomp_jax.motion.synthetic import turning_bodies
    from vidcomp_jax.motion.vectors import measure_limits, measure_statistics, to_vectors

    clips = turning_bodies(64, num_keypoints=8, seed=1)
    limits = measure_limits(clips.jacobian)
    vectors = np.asarray(to_vectors(clips, limits))
    statistics = measure_statistics(vectors.reshape(-1, vectors.shape[-1]), np.arange(64) * 16, 16)
    config = FlowConfig(random_known=0.0)
    return FlowMotion(config, 8, limits=limits, statistics=statistics, rngs=nnx.Rngs(0)), vectors


def jax_flow(case: Case, num_steps: int) -> Callable[[], float]:
    """Return a function that trains for `num_steps`, or draws 64 clips, in JAX."""
    import jax

    from vidcomp_jax.fomm.keypoints import Keypoints
    from vidcomp_jax.motion.fill import fill
    from vidcomp_jax.motion.flow_training import flow_optimizer, flow_step
    from vidcomp_jax.motion.synthetic import turning_bodies
    from vidcomp_jax.training.step import init_state, map_over_devices

    motion, vectors = flow_motion()
    if case == "flow-sampling":
        known = Keypoints(*(x[:, [0, -1]] for x in turning_bodies(64, num_keypoints=8, seed=1)))
        keys = jax.random.split(jax.random.key(0), 64)

        def draw() -> float:
            return float(np.asarray(fill(motion, known, (0, 15), 16, keys).position).mean())

        return draw
    tx, devices = flow_optimizer(motion.config), jax.devices()[:1]
    graphdef, constants, state = init_state(motion, tx, devices)
    step = map_over_devices(graphdef, flow_step(motion.config, tx), devices)
    batch = vectors[None, :, None]

    def turn() -> float:
        nonlocal state
        for _ in range(num_steps):
            state, metrics = step(state, constants, batch, jax.random.key(0))
        return float(metrics["loss"])

    return turn


def torch_flow(case: Case, num_steps: int) -> Callable[[], float]:
    """Return the PyTorch counterpart of `jax_flow`."""
    import jax.numpy as jnp
    import torch

    from benchmarks.torch_flow import FlowTraining, OffsetNetwork
    from converters.weight_map import dump_state
    from vidcomp_jax.motion.known import neighbors

    motion, vectors = flow_motion()
    config, size = motion.config, vectors.shape[-1]
    known = jnp.zeros(vectors.shape[:2], bool).at[:, jnp.array([0, -1])].set(True)
    around = neighbors(jnp.asarray(vectors), known)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    offsets, context = (
        torch.from_numpy(np.array(x)).to(device)
        for x in (motion.to_offsets(jnp.asarray(vectors), around), motion.context(around, known))
    )
    network = OffsetNetwork(
        size + context.shape[-1], size, config.width, config.num_layers, config.num_heads, config.feed_forward
    )
    network.load_state_dict({name: torch.from_numpy(np.array(x)) for name, x in dump_state(motion.network).items()})
    training = FlowTraining(network, config.learning_rate, config.weight_decay, config.average_decay, device)
    times = torch.arange(16, dtype=torch.float32, device=device)[None]

    @torch.no_grad()
    def draw() -> float:
        """Draw as `FlowMotion.sample` does."""
        noisy, count = torch.randn_like(offsets), config.sampler_steps
        for i in range(count):
            level = torch.full((64,), i / count, device=device)
            predicted = network(noisy, level, context, times)
            if i == count - 1:
                return float(predicted.mean())
            velocity = (predicted - noisy) / (1 - i / count)
            ahead = noisy + velocity / count
            velocity_ahead = (network(ahead, level + 1 / count, context, times) - ahead) / (1 - (i + 1) / count)
            noisy = noisy + (velocity + velocity_ahead) / (2 * count)
        return 0.0

    def turn() -> float:
        return [float(training.step(offsets, context)) for _ in range(num_steps)][-1]

    return draw if case == "flow-sampling" else turn


def serve(connection: Connection, framework: str, case: Case, options: Options) -> None:
    """Run one turn of a side for each message received, until that is `None`."""
    if case in ("flow", "flow-sampling"):
        turn = {"jax": jax_flow, "torch": torch_flow}[framework](case, options.flow_steps)
    else:
        turn = {"jax": jax_gan, "torch": torch_gan}[framework](case, options.generator_updates)
    while connection.recv() is not None:
        start = time.perf_counter()
        turn()
        connection.send(time.perf_counter() - start)


def measure(case: Case, options: Options) -> tuple[list[float], list[float]]:
    """Return the seconds of each measured turn, ours and PyTorch's."""
    context = multiprocessing.get_context("spawn")
    sides = []
    for framework in ("jax", "torch"):
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, framework, case, options), daemon=True)
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
    seconds = " s a turn, ours | PyTorch |" if options.times else ""
    print(f"| case |{seconds} ratio | single turns |\n|---|{'---|---|' if options.times else ''}---|---|")
    for case in options.cases:
        ours, torch = measure(case, options)
        ratios = [a / b for a, b in zip(ours, torch, strict=True)]
        medians = statistics.median(ours), statistics.median(torch)
        cells = f" {medians[0]:.3f} | {medians[1]:.3f} |" if options.times else ""
        print(f"| {case} |{cells} {medians[0] / medians[1]:.2f} | {min(ratios):.2f} to {max(ratios):.2f} |", flush=True)


if __name__ == "__main__":
    main()
