"""Times L1, PSNR and SSIM of frames against scikit-image on the same frames.

    python -m benchmarks.metrics

Both sides compute all three scores of every frame, in turn, so that a slow phase of the machine affects both, and the
largest difference between their scores is printed. Output: a Markdown table; the speed-up is scikit-image's time
divided by ours. Run it on an otherwise idle machine.
"""

import dataclasses
import os
import statistics
import time
from typing import NamedTuple

import numpy as np
import tyro
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from vidcomp_jax.errors import require_at_least
from vidcomp_jax.metrics import FrameScores, score


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    sizes: tuple[int, ...] = (64, 128, 256)
    """Heights and widths of the frames in pixels."""
    channels: tuple[int, ...] = (1, 3)
    """Numbers of channels."""
    frames: int = 256
    """Number of frames per turn, as in 16 clips of 16 frames."""
    rounds: int = 5
    """Measured turns of each side, after one that includes compilation."""
    one_core: bool = False
    """Measure CPU time on one core instead of wall time, for a machine that other programs use as well."""

    def __post_init__(self):
        require_at_least(self, frames=1, rounds=1)


class Result(NamedTuple):
    """Seconds of each measured turn of both sides, and the largest difference of a score."""

    ours: list[float]
    theirs: list[float]
    difference: float


def frames_of(size: int, channels: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return true frames and slightly changed ones, [n, h, w, c] in [0, 1]."""
    rng = np.random.default_rng(0)
    truth = rng.random((count, size, size, channels), np.float32)
    changed = np.clip(truth + 0.1 * rng.standard_normal(truth.shape, np.float32), 0, 1)
    return changed, truth


def by_scikit_image(frames: np.ndarray, truth: np.ndarray) -> FrameScores:
    """Return the same scores, frame by frame."""
    l1, psnr, ssim = [], [], []
    for frame, true in zip(frames, truth, strict=True):
        l1.append(np.abs(frame - true).mean())
        psnr.append(peak_signal_noise_ratio(true, frame, data_range=1))
        ssim.append(
            structural_similarity(
                frame,
                true,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                data_range=1,
                channel_axis=-1,
            )
        )
    return FrameScores(*map(np.asarray, (l1, psnr, ssim)))


def measure(size: int, channels: int, options: Options) -> Result:
    """Return the times and the difference for frames of one size."""
    data = frames_of(size, channels, options.frames)
    times: tuple[list[float], list[float]] = ([], [])
    clock = time.process_time if options.one_core else time.perf_counter
    found: list[FrameScores] = []
    for turn in range(1 + options.rounds):
        found = []
        for side, seconds in zip((score, by_scikit_image), times, strict=True):
            start = clock()
            found.append(side(*data))
            if turn:
                seconds.append(clock() - start)
    difference = max(float(np.abs(a - b).max()) for a, b in zip(*found, strict=True))
    return Result(*times, difference)


def main() -> None:
    """Measure both sides and print the table."""
    options = tyro.cli(Options, description=__doc__)
    if options.one_core:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print("| frames | channels | speed-up | single rounds | difference |")
    print("|---|---|---|---|---|")
    for size in options.sizes:
        for channels in options.channels:
            ours, theirs, difference = measure(size, channels, options)
            ratio = statistics.median(theirs) / statistics.median(ours)
            single = [b / a for a, b in zip(ours, theirs, strict=True)]
            print(
                f"| {size} x {size} | {channels} | {ratio:.1f} | {min(single):.1f} to {max(single):.1f} "
                f"| {difference:.0e} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
