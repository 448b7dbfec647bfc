"""Times the ways to convolve on CPUs against XLA's own, for shapes of our networks.

    python -m benchmarks.convolutions --help

Output: a Markdown table of time ratios (ours / XLA's, so below 1 ours is faster) of the convolution, of the gradient of
its input and of that of its weights; 1 where the tables in `vidcomp_jax/nn/convolution.py` leave the shape to XLA. Both
run alternately. Convolutions of video have three-dimensional kernels; the other side is one convolution of XLA over
images, with the frames of the kernel as input channels. Run it on an otherwise idle machine.
"""

import dataclasses
import functools
import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from vidcomp_jax.errors import require_at_least


class Case(NamedTuple):
    """A convolution.

    Attributes:
        size: height and width of the kernel.
        images: number of images, or of the frames of one clip.
        pixels: height and width of the input.
        inputs, outputs: numbers of channels.
        stride: step along height and width.
        padding: zeros on all sides; None for those that keep the size, or divide it by the stride.
        frames: number of frames of the kernel of a convolution of video; 0 for images.
    """

    size: int
    images: int
    pixels: int
    inputs: int
    outputs: int
    stride: int = 1
    padding: int | None = None
    frames: int = 0

    def __str__(self) -> str:
        kernel = "x".join(str(n) for n in (self.frames, self.size, self.size) if n)
        stride = f", stride {self.stride}" * (self.stride > 1)
        bare = ", no padding" * (self.padding == 0)
        return f"{kernel}{stride}{bare} | {self.images} | {self.pixels} | {self.inputs} to {self.outputs}"

    @property
    def sides(self) -> tuple[int, int]:
        """Zeros before and after, along height and width."""
        if self.padding is not None:
            return self.padding, self.padding
        return _sides(self.size - self.stride)


CASES = (
    *(Case(3, 4, 2, 1024, 1024), Case(3, 4, 4, 1024, 512), Case(3, 1, 8, 2048, 512), Case(3, 4, 8, 2048, 512)),
    *(Case(3, 4, 8, 512, 1024), Case(3, 4, 8, 256, 512), Case(3, 4, 16, 1024, 256), Case(3, 4, 32, 128, 256)),
    *(Case(3, 14, 32, 64, 64), Case(3, 4, 64, 22, 128), Case(3, 4, 64, 128, 256), Case(3, 4, 128, 64, 128)),
    *(Case(2, 4, 32, 256, 128), Case(2, 4, 64, 128, 64), Case(2, 32, 16, 128, 192)),
    *(Case(4, 8, 128, 64, 128, padding=0), Case(4, 8, 61, 128, 256, padding=0), Case(4, 8, 29, 256, 512, padding=0)),
    *(Case(7, 12, 64, 33, 40, padding=0), Case(7, 12, 64, 33, 10, padding=0), Case(7, 4, 64, 86, 11)),
    *(Case(7, 4, 128, 64, 1), Case(7, 4, 256, 64, 3)),
    *(Case(4, 16, 64, 1, 64, 2, frames=4), Case(4, 16, 32, 64, 128, 2, frames=4)),
    *(Case(4, 16, 16, 128, 256, 2, frames=4), Case(4, 16, 8, 256, 512, 2, frames=4)),
    *(Case(3, 16, 8, 64, 64, frames=3), Case(3, 16, 8, 256, 256, frames=3), Case(3, 16, 16, 128, 128, frames=3)),
    *(Case(3, 16, 32, 64, 64, frames=3), Case(2, 16, 16, 128, 64, frames=3)),
)
"""Shapes of hourglasses, generators and discriminators, and of in-betweening."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Time the ways to convolve on CPUs against XLA's own."""

    rounds: int = 7
    """Measured rounds, after one that compiles."""
    times: bool = False
    """Also print milliseconds, which hold for this machine only."""

    def __post_init__(self):
        require_at_least(self, rounds=1)


def _sides(total: int) -> tuple[int, int]:
    return total // 2, total - total // 2


def ways(case: Case) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the convolution as XLA computes it, and as the tables have it; both of an input and a kernel."""
    from vidcomp_jax.nn.conv3d import fold_inputs, fold_time
    from vidcomp_jax.nn.convolution import convolve
    from vidcomp_jax.nn.convolution_ways import LAYOUT, by_xla

    padding = case.sides, case.sides
    plain = functools.partial(by_xla, padding=padding, stride=case.stride)
    if not case.frames:
        strides = case.stride, case.stride
        return plain, lambda x, kernel: convolve(x, kernel, strides, padding, dimension_numbers=LAYOUT)
    time_sides = _sides(case.frames - 1)
    folded = functools.partial(fold_inputs, plain, time_sides[0], case.images)
    return folded, functools.partial(fold_time, stride=case.stride, padding=(time_sides, *padding))


def programs(way: Callable[..., Any]) -> tuple[Callable[..., Any], ...]:
    """Compile a convolution and its two gradients; all take the input, the kernel and a gradient of the output."""
    import jax

    return (
        jax.jit(lambda x, kernel, g: way(x, kernel)),
        jax.jit(lambda x, kernel, g: jax.vjp(lambda x: way(x, kernel), x)[1](g)[0]),
        jax.jit(lambda x, kernel, g: jax.vjp(lambda kernel: way(x, kernel), kernel)[1](g)[0]),
    )


def measure(case: Case, rounds: int) -> tuple[list[tuple[float, float]], float]:
    """Return the milliseconds of XLA and of ours for each of the three works, and their largest relative difference."""
    import jax

    keys = jax.random.split(jax.random.key(0), 3)
    frames = (case.frames,) if case.frames else ()
    shape = ((1,) if case.frames else ()) + (case.images, case.pixels, case.pixels, case.inputs)
    x = jax.random.normal(keys[0], shape)
    kernel = jax.random.normal(keys[1], (*frames, case.size, case.size, case.inputs, case.outputs))
    sides = [programs(way) for way in ways(case)]
    g = jax.random.normal(keys[2], jax.eval_shape(sides[0][0], x, kernel, None).shape)
    medians, worst = [], 0.0
    for works in zip(*sides, strict=True):
        results = [jax.block_until_ready(work(x, kernel, g)) for work in works]
        worst = max(worst, float(abs(results[0] - results[1]).max() / abs(results[0]).max()))
        del results
        seconds: tuple[list[float], list[float]] = ([], [])
        for _, (times, work) in itertools.product(range(rounds), list(zip(seconds, works, strict=True))):
            start = time.perf_counter()
            jax.block_until_ready(work(x, kernel, g))
            times.append(time.perf_counter() - start)
        xla, ours = (1e3 * statistics.median(times) for times in seconds)
        medians.append((xla, ours))
    return medians, worst


def row(case: Case, medians: list[tuple[float, float]], worst: float, times: bool) -> str:
    """Format one row of the table."""
    cells = [f"{ours / xla:.2f}" for xla, ours in medians]
    if times:
        cells = [f"{cell} ({ours:.1f} / {xla:.1f} ms)" for cell, (xla, ours) in zip(cells, medians, strict=True)]
    return f"| {case} | {' | '.join(cells)} | {worst:.0e} |"


def main(options: Options) -> None:
    """Measure all cases, and print each row as soon as it is complete."""
    print("| kernel | images | pixels | channels | forward | input's gradient | weights' gradient | difference |")
    print("|---|---|---|---|---|---|---|---|")
    for case in CASES:
        print(row(case, *measure(case, options.rounds), options.times), flush=True)


if __name__ == "__main__":
    from experiments.commands import run

    run(main, Options)
