"""Times the first training step of the First Order Motion Model, without and with a filled compilation cache.

    python -m benchmarks.first_step --help

Output: a Markdown table of seconds. `first step` is that from the networks to the losses, which traces, compiles and
runs; `another` is a later one. Each row is a process of its own, and both rows of a configuration share a cache folder,
which is empty at first.
"""

import dataclasses
import os
import tempfile

from benchmarks.fomm import check_configs
from benchmarks.workers import RUN, Case, finish, start


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Time the first training step, without and with a filled compilation cache."""

    configs: tuple[str, ...] = ("kth-128", "bair-256")
    """Configurations by name; tiny ones such as `tiny-gray` take seconds."""
    perceptual: tuple[bool, ...] = (True, False)
    """Train with the VGG19 perceptual loss (True), the pyramid loss that can replace it (False), or each of them."""
    batch: int = 4
    """Pairs per training step."""


def first_steps(case: Case, cache: str) -> tuple[float, float]:
    """Return the seconds of the first and of the second step, with a folder for the compilation cache."""
    # The process inherits them; this one compiles nothing.
    os.environ |= {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    connection, process = start("jax", case)
    seconds = []
    for _ in range(2):
        connection.send(RUN)
        seconds.append(connection.recv()[0])
    finish(connection, process)
    return seconds[0], seconds[1]


def main(options: Options) -> None:
    """Print each row as soon as it is measured."""
    check_configs(options.configs)
    print("| configuration | perceptual | cache | first step, s | another, s |\n|---|---|---|---|---|")
    for config in options.configs:
        for perceptual in options.perceptual:
            case = Case(config, "step", options.batch, options.batch, perceptual)
            with tempfile.TemporaryDirectory() as cache:
                for state in ("empty", "filled"):
                    first, later = first_steps(case, cache)
                    words = f"{'on' if perceptual else 'off'} | {state}"
                    print(f"| {config} | {words} | {first:.1f} | {later:.2f} |", flush=True)


if __name__ == "__main__":
    from experiments.commands import run

    run(main, Options)
