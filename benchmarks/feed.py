"""Measures how fast training pairs reach the device, for each kind of data and number of reader processes.

Every kind has its released settings: batch size, draw of the frames, and frames as they are stored. Frames of KTH and
VoxCeleb are noise in a cache as `open_clips` writes it, BAIR's are read from its records, synthetic ones are drawn
once. All stay in memory or in the system's file cache.
"""

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import jax
import numpy as np

from experiments.configs import CONFIGS
from vidcomp_jax.data import BairClips, Clips, import_tensorflow, open_clips, pairs
from vidcomp_jax.data.cache import cached_clips
from vidcomp_jax.data.sources import Clip, Source
from vidcomp_jax.devices import shard
from vidcomp_jax.training.prefetch import Prefetch

WORKERS = (0, 1, 2)
_KINDS = {"kth-128": "kth", "bair-256": "bair", "vox-256": "vox", "synthetic-64": "synthetic"}
_NOISE = {"kth": 400, "vox": 64}
"""Clips of 16 frames: some hundred MB, more than processors cache."""
_EPOCHS = 4
_AHEAD = 12
"""Batches that may have been read while others took their turn."""


def print_feed(bair: BairClips, references: Mapping[str, Callable[[], int]], rounds: int, seconds: float) -> None:
    """Print pairs per second by kind and workers, beside other readers of the records of BAIR, and memory growth.

    Args:
        bair: clips at their stored size.
        references: functions that read all records once and return how many there are.
        rounds: measured rounds, after one of warm-up.
        seconds: to measure in each turn.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        streams = {
            (kind, workers): stack.enter_context(_stream(name, _clips(name, bair, folder), workers))
            for kind, name in _KINDS.items()
            for workers in WORKERS
        }
        sizes = {kind: CONFIGS[name].train.batch_size for kind, name in _KINDS.items()}
        rates: dict[tuple[str, int], list[float]] = {key: [] for key in streams}
        others: dict[str, list[float]] = {name: [] for name in references}
        memory = []
        for turn in range(rounds + 1):
            for (kind, workers), stream in streams.items():
                if not turn and kind.startswith("synthetic"):  # every process draws the clips when it needs them
                    _rate(stream, sizes[kind], 0, examples=_EPOCHS * CONFIGS["synthetic"].data.synthetic.num_train)
                rate = _rate(stream, sizes[kind], seconds)
                if turn:
                    rates[kind, workers].append(rate)
            for name, read in references.items():
                start = time.perf_counter()
                count = read()
                if turn:
                    others[name].append(count / (time.perf_counter() - start))
            memory.append(own_memory())
    medians = {key: statistics.median(values) for key, values in rates.items()}
    print("| pairs/s up to the device | batch | " + " | ".join(f"{x} worker{'s' * (x != 1)}" for x in WORKERS) + " |")
    print("|---|---|" + "---|" * len(WORKERS))
    for kind, size in sizes.items():
        found = " | ".join(f"{medians[kind, workers]:.0f}" for workers in WORKERS)
        print(f"| {kind} | {size} | {found} |")
    print("\n| the records of bair-256, read by | records/s | bair-256 with 0 workers, relative to it |\n|---|---|---|")
    for name, values in others.items():
        ratio = statistics.median(a / b for a, b in zip(rates["bair-256", 0], values, strict=True))
        print(f"| {name} | {statistics.median(values):.0f} | {ratio:.2f} |")
    count = 1 + sum(WORKERS) * len(_KINDS)
    print(
        f"\nmemory of all {count} processes after one round: {memory[0]:.0f} MiB; after {rounds} more: "
        f"{memory[-1] - memory[0]:+.0f} MiB"
    )


def parsed_by_tensorflow(files: list[str], camera: str, batch_size: int) -> int:
    """Read two frames of every trajectory with TensorFlow's reader and parser; return the number of trajectories."""
    tf = import_tensorflow()
    names = [f"{frame}/image_{camera}/encoded" for frame in (3, 17)]

    def parse(record):
        features = tf.io.parse_single_example(record, {name: tf.io.FixedLenFeature([], tf.string) for name in names})
        return tf.stack([tf.reshape(tf.io.decode_raw(features[name], tf.uint8), (64, 64, 3)) for name in names])

    dataset = tf.data.TFRecordDataset(files).map(parse, num_parallel_calls=os.cpu_count()).batch(batch_size).prefetch(2)
    return sum(len(batch) for batch in dataset.as_numpy_iterator())


def first_pass(clips: BairClips, batch_size: int) -> int:
    """Read pairs of records none of which was read before, in whole batches; return the number of pairs."""
    unread = BairClips(clips.records, clips._reader)
    batch_size = min(batch_size, len(unread.records))
    batches = pairs(unread, batch_size=batch_size, seed=0)
    with contextlib.closing(batches):
        return sum(len(next(batches).source) for _ in range(len(unread.records) // batch_size))


def own_memory() -> float:
    """Memory of this process and of those it has started that no file backs, in MiB."""
    found = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):  # it has ended
            status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line)
            if os.getpid() in (int(status["Pid"]), int(status["PPid"])):
                found += sum(int(status[name].split()[0]) for name in ("RssAnon", "RssShmem"))
    return found / 1024


def _rate(stream: Iterator, batch_size: int, seconds: float, examples: int = 0) -> float:
    """Pairs per second of a stream, from which at least so many examples are read."""
    for _ in range(_AHEAD):
        jax.block_until_ready(next(stream))
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds or count < examples:
        jax.block_until_ready(next(stream))
        count += batch_size
    return count / (time.perf_counter() - start)


def _stream(name: str, clips: Clips, workers: int) -> Prefetch:
    config, devices = CONFIGS[name], jax.devices()[:1]
    size = config.train.batch_size
    equal_frames = config.augmentation.equal_frames
    batches = pairs(clips, batch_size=size, seed=0, equal_frames=equal_frames, workers=workers)
    return Prefetch(batches, lambda batch: shard(batch, size, devices))


def _clips(name: str, bair: BairClips, folder: Path) -> Clips:
    config = CONFIGS[name].data
    if name == "bair":
        return bair
    if name not in _NOISE:
        return open_clips(config, "train")
    shape = (config.size, config.size, config.num_channels)
    rng = np.random.default_rng(0)

    def noise(source: Source) -> list[Clip]:
        return [Clip(source.name, source.name, rng.integers(0, 256, (16, *shape), np.uint8), 25.0)]

    sources = [Source(f"{name}{number}", folder, ()) for number in range(_NOISE[name])]
    return cached_clips(sources, noise, settings={}, frame_shape=shape, cache_dir=folder, label=name)
