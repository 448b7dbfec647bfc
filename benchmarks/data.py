"""Measures how fast data is read: all kinds up to the device, BAIR against TensorFlow's readers, waits in training.

    python -m benchmarks.data --help

Input: BAIR as downloaded, or noise generated in the same layout, and the KTH-like test videos.
Output: Markdown tables. In each round all readers of a table read the same files, which stay in the system's file
cache; ratios are medians over the rounds. Run it on an otherwise idle machine.
"""

import dataclasses
import importlib
import importlib.util
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import tyro

from benchmarks.feed import first_pass, parsed_by_tensorflow, print_feed
from tools.bair_records import write_download
from vidcomp_jax.data import (
    BairClips,
    DataConfig,
    import_tensorflow,
    open_clips,
    pair_dataset,
    pairs,
    parse_bair,
    trajectory_dataset,
    windows,
)
from vidcomp_jax.errors import InputError, require_at_least, require_positive

BARE, GENERATOR = "TFRecordDataset, nothing parsed", "TFDS's example generator"
KTH = Path(__file__).parents[1] / "tests" / "data" / "kth_like"


Work = Literal["feed", "records", "pairs", "cache", "wait"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    work: tuple[Work, ...] = get_args(Work)
    """feed: training pairs per second up to the device, for all kinds of data and several reader processes; records:
    trajectories per second; pairs: training pairs per second; cache: KTH clips per second; wait: the share of a
    training step spent waiting for data."""
    data_dir: Path | None = None
    """Folder softmotion30_44k or its parent; by default, noise in its layout is written to a temporary folder."""
    files: int = 4
    """Number of record files to generate without `data_dir`."""
    trajectories: int = 64
    """Trajectories per generated file, 0.74 MB each."""
    rounds: int = 5
    """Measured rounds, after one round of warm-up."""
    pairs_per_record: int = 8
    """Training pairs drawn from each record, compared with a single one."""
    batch: int = 40
    """Batch size, in pairs or clips."""
    steps: int = 6
    """Training steps whose waiting time is measured, after equally many steps of warm-up."""
    train_batch: int = 4
    """Pairs per training step."""
    seconds: float = 2.0
    """Time of each measurement of `feed`."""

    def __post_init__(self):
        require_positive(self, "seconds")
        require_at_least(self, files=1, trajectories=1, rounds=1, pairs_per_record=1, batch=1, steps=1, train_batch=1)


def take_turns(readers: Mapping[str, Callable[[], int]], rounds: int) -> dict[str, list[float]]:
    """Run all readers in each round, after one of warm-up; return items per second of each reader and round.

    A reader returns the number of items that it has read.
    """
    rates: dict[str, list[float]] = {name: [] for name in readers}
    for turn in range(rounds + 1):
        for name, read in readers.items():
            start = time.perf_counter()
            count = read()
            if turn:
                rates[name].append(count / (time.perf_counter() - start))
    return rates


def ratio(ours: list[float], other: list[float]) -> float:
    """Return the median over the rounds of our rate divided by the other one."""
    return statistics.median(a / b for a, b in zip(ours, other, strict=True))


def record_readers(clips: BairClips) -> dict[str, Callable[[], int]]:
    """Return functions that read all trajectories once, each as fast as its library can."""
    tf = import_tensorflow()
    from tensorflow_datasets.datasets.bair_robot_pushing_small import bair_robot_pushing_small_dataset_builder as tfds

    files = [str(path) for path in dict.fromkeys(record.path for record in clips.records)]
    threads = min(os.cpu_count() or 1, 8)
    order = np.random.default_rng(0).permutation(len(clips.names))

    def bare(parallel: int | None) -> int:
        return sum(1 for _ in tf.data.TFRecordDataset(files, num_parallel_reads=parallel))

    def parsed() -> int:
        records = tf.data.TFRecordDataset(files)
        return sum(1 for _ in records.map(parse_bair, num_parallel_calls=threads, deterministic=True).prefetch(2))

    def dataset(of: Callable[..., Any]) -> int:
        return sum(1 for _ in of(clips, seed=0).prefetch(2))

    def generator() -> int:
        return sum(1 for _ in tfds.Builder._generate_examples(None, os.path.dirname(files[0])))

    def ours(numbers: np.ndarray, indices: Callable[[int], np.ndarray]) -> int:
        def read(share: np.ndarray) -> int:
            return sum(len(clips.frames(number, indices(number))) > 0 for number in share)

        with ThreadPoolExecutor(threads) as pool:
            return sum(pool.map(read, np.array_split(numbers, threads)))

    return {
        BARE: lambda: bare(None),
        f"{BARE}, {threads} files at once": lambda: bare(threads),
        GENERATOR: generator,
        "ours: one camera's 30 frames, in order": lambda: ours(np.sort(order), lambda number: np.arange(30)),
        "ours: a training pair's two frames, shuffled": lambda: ours(
            order, lambda number: np.array([number % 20, 29 - number % 7])
        ),
        "`parse_bair`: 30 frames of both cameras, in order": parsed,
        "`trajectory_dataset`: one camera's 30 frames, shuffled": lambda: dataset(trajectory_dataset),
        "`pair_dataset`: a training pair's two frames, shuffled": lambda: dataset(pair_dataset),
    }


def feed_readers(clips: BairClips) -> dict[str, Callable[[], int]]:
    """Return the readers of BAIR's records that `feed` compares with: each reads all once and returns their number."""
    files = [str(path) for path in dict.fromkeys(record.path for record in clips.records)]
    readers = {name: read for name, read in record_readers(clips).items() if name in (BARE, GENERATOR)}
    readers["TFRecordDataset, two frames parsed"] = lambda: parsed_by_tensorflow(files, "aux1", 36)
    readers["ours, 0 workers, first pass: whole records, checksums verified"] = lambda: first_pass(clips, 36)
    if importlib.util.find_spec("grain") is None:
        print("Grain is not installed, and left out; `pip install grain` adds it to the table\n")
        return readers
    grain = importlib.import_module("grain")

    def records() -> int:
        return sum(1 for file in files for _ in grain.experimental.TFRecordIterDataset(file))

    return readers | {"Grain's TFRecordIterDataset, no checksum, nothing parsed": records}


def print_records(clips: BairClips, options: Options) -> None:
    """Print trajectories per second, also relative to the faster bare reader and to TFDS's generator."""
    rates = take_turns(record_readers(clips), options.rounds)
    plain, parallel, generator = list(rates.values())[:3]
    bare = list(map(max, plain, parallel))
    print("| reader | trajectories/s | of the bare reader (>= 0.8) | of TFDS's generator (>= 1.3) |\n|---|---|---|---|")
    for name, values in rates.items():
        print(
            f"| {name} | {statistics.median(values):.0f} | {ratio(values, bare):.2f} | {ratio(values, generator):.2f} |"
        )


def print_pairs(clips: BairClips, options: Options) -> None:
    """Print training pairs per second by the number drawn from each record, and memory growth over many passes."""

    def reader(per_record: int) -> Callable[[], int]:
        def read() -> int:
            batches = pairs(clips, batch_size=options.batch, seed=0, pairs_per_clip=per_record)
            count = max(len(clips.names) * per_record // options.batch, 25 * per_record)
            return sum(len(batch.source) for batch in itertools.islice(batches, count))

        return read

    counts = dict.fromkeys((1, options.pairs_per_record))
    rates = take_turns({str(count): reader(count) for count in counts}, options.rounds)
    before = resident()
    take_turns({"1": reader(1)}, 2 * options.rounds)
    print("| pairs a record | pairs/s | of one pair a record |\n|---|---|---|")
    for count, values in rates.items():
        print(f"| {count} | {statistics.median(values):.0f} | {ratio(values, rates['1']):.2f} |")
    print(f"\nresident memory after {2 * options.rounds + 1} more passes: {resident() - before:+.0f} MiB")


def print_cache(options: Options) -> None:
    """Print KTH clips per second, 16 frames of 64x64 pixels each, read from an existing cache."""
    with tempfile.TemporaryDirectory() as folder:
        clips = open_clips(DataConfig(name="kth", data_dir=KTH, cache_dir=Path(folder)), "train")
        batches = windows(clips, num_frames=16, batch_size=options.batch, seed=0)
        rates = take_turns({"": lambda: sum(map(len, itertools.islice(batches, 20)))}, options.rounds)[""]
    print(f"KTH from the cache: {statistics.median(rates):.0f} clips/s of 16 frames, 64x64, gray")


def print_wait(name: str, data: list[str], options: Options) -> None:
    """Train with the default configuration and print the share of time spent waiting for data, as the run logs it."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "workdir": folder,
            "cache-dir": f"{folder}/cache",
            "batch-size": options.train_batch,
            "num-steps": 2 * options.steps,
            "log-every": options.steps,
            "panel-every": 0,
            "evaluate-every": 0,
            "checkpoint-every": 0,
        }
        command = [sys.executable, "-m", "experiments.train_fomm", *data, *(f"--{k}={v}" for k, v in settings.items())]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise InputError(f"{' '.join(command)}: {done.stderr.strip().splitlines()[-1]}")
        lines = [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]
    last = next(line for line in reversed(lines) if "data_wait" in line)
    print(
        f"{name}, batch {options.train_batch}: waits {last['data_wait']:.2%} of {1 / last['steps_per_second']:.2f} s a "
        "step for data (< 2 %)",
        flush=True,
    )


def resident() -> float:
    """Return the resident memory of this process in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Run the selected measurements."""
    options = tyro.cli(Options, description=__doc__)
    with tempfile.TemporaryDirectory() as folder:
        data_dir = options.data_dir
        if data_dir is None:
            data_dir = Path(folder)
            write_download(data_dir, train=[options.trajectories] * options.files, test=[2], draw=False)
        bair = DataConfig(name="bair", data_dir=data_dir, size=64, num_channels=3)
        clips = cast(BairClips, open_clips(bair, "train"))
        print(f"BAIR: {len(clips.names)} trajectories, {sum(r.length for r in clips.records) / 2**20:.0f} MiB\n")
        if "feed" in options.work:
            print_feed(clips, feed_readers(clips), options.rounds, options.seconds)
            print()
        if "records" in options.work:
            print_records(clips, options)
            print()
        if "pairs" in options.work:
            print_pairs(clips, options)
            print()
        if "cache" in options.work:
            print_cache(options)
        if "wait" in options.work:
            print_wait("kth-128", ["--dataset=kth", f"--data-dir={KTH}"], options)
            print_wait("bair-64", ["--dataset=bair", f"--data-dir={data_dir}", "--size=64"], options)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
