"""Times the First Order Motion Model against the same network in plain PyTorch.

    python -m benchmarks.fomm --help

Output: a Markdown table of time ratios (ours / PyTorch, so below 1 ours is faster) and memory: the most that the
process held in the measured rounds, and its peak, which includes compilation. Both sides use the same weights and
frames in separate processes and run alternately, so that a slow phase of the machine affects both. Run it on an
otherwise idle machine.
"""

import dataclasses
import statistics
from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np

from benchmarks.recipes import layouts
from benchmarks.workers import FORGET, RUN, Case, Report, finish, start


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Time the First Order Motion Model against the same network in plain PyTorch."""

    configs: tuple[str, ...] = ("kth-128", "bair-256")
    """Configurations by name; tiny ones such as `tiny-gray` take seconds."""
    work: tuple[Literal["step", "frame"], ...] = ("step", "frame")
    """step: one training step; frame: rendering, including detection of the driving keypoints."""
    train_batch: int = 4
    """Pairs per training step."""
    perceptual: tuple[bool, ...] = (True, False)
    """Train with the VGG19 perceptual loss (True), the pyramid loss that can replace it (False), or each of them."""
    frame_batches: tuple[int, ...] = (8, 1)
    """Frames that our side renders per call. PyTorch is measured with the same number and, like the official code,
    with one frame per call."""
    rounds: int = 5
    """Measured rounds, after those of `warmup`."""
    warmup: int = 2
    """Rounds before the measured ones; the first includes compilation."""
    one_core: bool = False
    """Pin each side to one core and measure CPU time, which other load on the machine disturbs less (Linux only)."""
    times: bool = False
    """Also print milliseconds, which hold for this machine only. On a GPU they are always printed."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Measurements of one case.

    Attributes:
        seconds: times of our side and of PyTorch, one per round.
        reports: reports of our side and of PyTorch.
        difference: between the results of the two sides in the first round: for rendering, the largest absolute
            difference of the predictions; for training, the relative difference of the reconstruction losses.
    """

    seconds: tuple[list[float], list[float]]
    reports: tuple[Report, Report]
    difference: float

    @property
    def ratio(self) -> float:
        """Our median time divided by PyTorch's."""
        ours, torch = map(statistics.median, self.seconds)
        return ours / torch


def cases(options: Options) -> Iterator[Case]:
    """Yield the case of each table row."""
    for config in options.configs:
        if "step" in options.work:
            for perceptual in options.perceptual:
                yield Case(config, "step", options.train_batch, options.train_batch, perceptual)
        if "frame" in options.work:
            for batch in options.frame_batches:
                for torch_batch in dict.fromkeys((batch, 1)):
                    yield Case(config, "frame", batch, torch_batch)


def measure(case: Case, options: Options) -> Outcome:
    """Run both sides alternately, each in a new process."""
    sides = [start(framework, case, options.one_core) for framework in ("jax", "torch")]
    seconds: tuple[list[float], list[float]] = ([], [])
    first = []
    for turn in range(options.warmup + options.rounds):
        for (connection, _), times in zip(sides, seconds, strict=True):
            if turn == options.warmup:
                connection.send(FORGET)
            connection.send(RUN)
            elapsed, result = connection.recv()
            if turn == 0:
                first.append(result)
            if turn >= options.warmup:
                times.append(elapsed)
    ours, theirs = (finish(*side) for side in sides)
    return Outcome(seconds, (ours, theirs), _difference(case, *first))


def _difference(case: Case, ours: dict[str, np.ndarray], torch: dict[str, np.ndarray]) -> float:
    if case.work == "frame":
        return float(np.abs(ours["prediction"] - torch["prediction"]).max())
    name = "perceptual" if case.perceptual else "pyramid"
    return float(abs(ours[name] / torch["perceptual"] - 1))


def row(case: Case, outcome: Outcome, times: bool) -> str:
    """Format one row of the table."""
    if case.work == "step":
        work = f"step, batch {case.batch}, perceptual {'on' if case.perceptual else 'off'}"
    else:
        work = f"frame, {case.batch} a call (PyTorch {case.torch_batch})"
    reports = outcome.reports
    bytes_used = *(report.work_memory for report in reports), *(report.peak_memory for report in reports)
    memory = " | ".join(f"{count / 2**30:.2f}" for count in bytes_used)
    pairs = [ours / torch for ours, torch in zip(*outcome.seconds, strict=True)]
    cells = [case.config, work, f"{outcome.ratio:.2f}", f"{min(pairs):.2f} to {max(pairs):.2f}", memory]
    cells.append(f"{outcome.difference:.0e}")
    if times:
        frames = case.batch if case.work == "frame" else 1
        cells += [f"{1e3 * statistics.median(seconds) / frames:.1f}" for seconds in outcome.seconds]
    return f"| {' | '.join(cells)} |"


def check(options: Options) -> None:
    """Check the options.

    Raises:
        InputError: a configuration does not exist, or a number is less than 1.
    """
    # Imported here, because PyTorch's process imports this module but must not load JAX.
    from vidcomp_jax.errors import InputError

    check_configs(options.configs)
    for name in ("train_batch", "rounds", "warmup", "frame_batches"):
        smallest = np.min(getattr(options, name), initial=1)
        if smallest < 1:
            raise InputError(f"--{name.replace('_', '-')}: {smallest}; at least 1 is needed")


def check_configs(names: Iterable[str]) -> None:
    """Raise an `InputError` unless there is a configuration of each of these names."""
    from vidcomp_jax.errors import InputError

    known = [name for name, layout in layouts().items() if "model_params" in layout]
    for name in names:
        if name not in known:
            raise InputError(f"--configs: no configuration {name}; there are {', '.join(known)}")


def main(options: Options) -> None:
    """Run the selected measurements, and print each row as soon as it is complete."""
    check(options)
    started = False
    for case in cases(options):
        outcome = measure(case, options)
        times = options.times or outcome.reports[0].is_gpu
        if not started:
            ours, torch = (report.device for report in outcome.reports)
            clock = " in CPU seconds of one core" if options.one_core else ""
            print(f"JAX on {ours}; PyTorch on {torch}; medians of {options.rounds} rounds{clock}\n")
            columns = ["configuration", "work", "ratio", "single rounds", "GiB ours", "GiB PyTorch"]
            columns += ["peak GiB ours", "peak GiB PyTorch", "difference"]
            columns += ["ms ours", "ms PyTorch"] * times
            print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
            started = True
        print(row(case, outcome, times), flush=True)


if __name__ == "__main__":
    from experiments.commands import run

    run(main, Options)
