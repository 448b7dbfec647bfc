"""Times the options of the training step of the First Order Motion Model that save memory, against the plain step.

    python -m benchmarks.step_options --help

Output: a Markdown table of time ratios (with the option / without) and of the memory that the process held in the
measured rounds. All steps run alternately, each in a process of its own, with the same weights and frames.
"""

import dataclasses
import statistics

from benchmarks.fomm import check_configs
from benchmarks.workers import FORGET, RUN, Case, Report, finish, start
from vidcomp_jax.errors import InputError

OPTIONS: dict[str, dict] = {
    "plain": {},
    "remat": {"remat": True},
    "accumulate": {"accumulate": 2},
    "bfloat16": {"precision": "bfloat16"},
}
"""Arguments of `Case` by name: a plain step, and one with --remat, --accumulate=2 or --precision=bfloat16."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Time the options of the training step that save memory."""

    configs: tuple[str, ...] = ("kth-128", "bair-256")
    """Configurations by name; tiny ones such as `tiny-gray` take seconds."""
    options: tuple[str, ...] = tuple(OPTIONS)
    """Steps to time: plain, remat, accumulate (of 2) and bfloat16, after the options of `experiments.train_fomm`; the
    others are compared with the first."""
    batch: int = 4
    """Pairs per training step; even."""
    perceptual: bool = True
    """Train with the VGG19 perceptual loss."""
    rounds: int = 3
    """Measured rounds, after one that compiles."""


def measure(cases: list[Case], rounds: int) -> tuple[list[list[float]], list[Report]]:
    """Return the seconds of every round and a report for each case; they run alternately, each in a new process."""
    sides = [start("jax", case) for case in cases]
    seconds: list[list[float]] = [[] for _ in cases]
    for turn in range(rounds + 1):
        for (connection, _), times in zip(sides, seconds, strict=True):
            if turn == 1:
                connection.send(FORGET)
            connection.send(RUN)
            elapsed, _ = connection.recv()
            if turn:
                times.append(elapsed)
    return seconds, [finish(*side) for side in sides]


def main(options: Options) -> None:
    """Print the rows of each configuration as soon as they are measured."""
    check_configs(options.configs)
    if options.batch < 2 or options.batch % 2 or options.rounds < 1:
        raise InputError(
            f"--batch is {options.batch} and --rounds {options.rounds}; an even batch and at least 1 round are needed"
        )
    if unknown := sorted(set(options.options) - set(OPTIONS)):
        raise InputError(f"--options: {unknown[0]} is unknown; choose from {', '.join(OPTIONS)}")
    print("| configuration | option | ratio | single rounds | GiB |\n|---|---|---|---|---|")
    for config in options.configs:
        cases = [
            Case(config, "step", options.batch, options.batch, options.perceptual, **OPTIONS[name])
            for name in options.options
        ]
        seconds, reports = measure(cases, options.rounds)
        for name, times, report in zip(options.options, seconds, reports, strict=True):
            pairs = [mine / plain for mine, plain in zip(times, seconds[0], strict=True)]
            ratio = statistics.median(times) / statistics.median(seconds[0])
            cells = [f"{ratio:.2f}", f"{min(pairs):.2f} to {max(pairs):.2f}", f"{report.work_memory / 2**30:.2f}"]
            print(f"| {config} | `{name}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    from experiments.commands import run

    run(main, Options)
