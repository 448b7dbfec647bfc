"""Reckons how training scales to many devices, and checks what it assumes on simulated ones.

    python -m benchmarks.scaling --help

Input: seconds of a step and pairs a second of a reader, measured here or given, and a stated interconnect.
Output: a table from 1 to 64 devices, and the all-reduces of the compiled step beside the reckoned ones.

The batch of a device stays the same, so that the ideal step time does, too. A step takes

    max(compute + exposed, data)        data = batch * devices of a host / pairs a second of its readers
    exposed = statistics + max(0, gradients - overlap * compute * 2/3)

An all-reduce of B bytes over n devices takes 2 (n - 1) / n * B / bandwidth in a ring, and 2 log2(n) latencies, as in a
tree. Between hosts, the slower link counts for both. Batch normalization needs its statistics before it goes on, so
these all-reduces wait; the gradients are assumed to wait as well, unless `overlap` says which part of the backward
pass, two thirds of the step, hides them.
"""

import dataclasses
import math
import os
import sys
from typing import Literal, NamedTuple

import tyro

from vidcomp_jax.errors import InputError, require, require_at_least, require_positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Reckon the step time on many devices."""

    config: str = "kth"
    """Training configuration, a value of `--dataset` of experiments.train_fomm."""
    batch: int = 4
    """Pairs a device and step."""
    step_seconds: float = 0.0
    """Seconds of a step of one device, such as that of your own accelerator; 0 measures it here."""
    pairs_per_second: float = 0.0
    """Pairs a second of one reader; 0 measures one reader process here, on noise in the released layout."""
    readers: int = 4
    """Reader processes of a host, `--workers` of the training; no more than `cores` work at a time."""
    cores: int = 16
    """CPU cores of a host."""
    devices_per_host: int = 8
    """Devices of a host."""
    bandwidth_within: float = 200.0
    """Gigabytes a second, in one direction, between two devices of a host."""
    bandwidth_between: float = 25.0
    """Gigabytes a second, in one direction, between two hosts."""
    latency_within: float = 5.0
    """Microseconds of a message within a host."""
    latency_between: float = 20.0
    """Microseconds of a message between hosts."""
    overlap: float = 0.0
    """Part of the backward pass during which gradients are reduced, from 0 to 1."""
    devices: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    """Numbers of devices to print."""
    steps: int = 3
    """Measured steps, after one that compiles."""
    check: bool = True
    """Also compile the step for two simulated devices, run it, and compare it with what is reckoned."""

    def __post_init__(self):
        require_at_least(self, batch=1, readers=1, cores=1, devices_per_host=1, steps=1, step_seconds=0)
        require_at_least(self, pairs_per_second=0, latency_within=0, latency_between=0)
        require_positive(self, "bandwidth_within", "bandwidth_between")
        require(0 <= self.overlap <= 1, self, "overlap", "from 0 to 1")
        require(self.devices and min(self.devices) >= 1, self, "devices", "numbers of at least 1")


class Reduced(NamedTuple):
    """What a step reduces over the devices, in numbers of four bytes.

    Attributes:
        gradients: one for each trained weight.
        statistics: means and variances of batch normalization, forward and backward.
        others: running statistics and metrics, at the end of the step.
        waits: number of all-reduces that the step waits for, one after the other.
    """

    gradients: int
    statistics: int
    others: int
    waits: int

    @property
    def num_bytes(self) -> int:
        """Bytes of all of them."""
        return 4 * (self.gradients + self.statistics + self.others)


Limit = Literal["compute", "network", "data"]
"""What limits a step: the network, if a step waits for it for more than 5 % of the time that it computes."""


class Row(NamedTuple):
    """A line of the table: seconds of a step on so many devices, its parts, and what limits it."""

    devices: int
    compute: float
    exposed: float
    data: float
    step: float
    efficiency: float
    limit: Limit


def all_reduce_seconds(num_bytes: float, devices: int, options: Options, count: int = 1) -> float:
    """Seconds of `count` all-reduces, one after the other, of so many bytes in all."""
    if devices == 1:
        return 0.0
    within = devices <= options.devices_per_host
    bandwidth = 1e9 * (options.bandwidth_within if within else min(options.bandwidth_within, options.bandwidth_between))
    latency = 1e-6 * (options.latency_within if within else max(options.latency_within, options.latency_between))
    return 2 * (devices - 1) / devices * num_bytes / bandwidth + count * 2 * math.ceil(math.log2(devices)) * latency


def row(devices: int, reduced: Reduced, step_seconds: float, pairs_per_second: float, options: Options) -> Row:
    """Reckon the step on so many devices.

    Args:
        devices: their number.
        reduced: what is reduced over them.
        step_seconds: of a step on one device.
        pairs_per_second: of one reader.
        options: batch, hosts, interconnect and overlap.
    """
    waiting = all_reduce_seconds(4 * (reduced.statistics + reduced.others), devices, options, reduced.waits)
    gradients = all_reduce_seconds(4 * reduced.gradients, devices, options)
    exposed = waiting + max(0.0, gradients - options.overlap * step_seconds * 2 / 3)
    on_host = min(devices, options.devices_per_host)
    data = options.batch * on_host / (pairs_per_second * min(options.readers, options.cores))
    step = max(step_seconds + exposed, data)
    alone = max(step_seconds, options.batch / (pairs_per_second * min(options.readers, options.cores)))
    limit: Limit = "data" if data >= step_seconds + exposed else "compute"
    if limit == "compute" and exposed > 0.05 * step_seconds:
        limit = "network"
    return Row(devices, step_seconds, exposed, data, step, alone / step, limit)


def readers_needed(row: Row, pairs_per_second: float, options: Options) -> int:
    """The least number of readers of a host with which data is not the limit of this row."""
    on_host = min(row.devices, options.devices_per_host)
    return math.floor(options.batch * on_host / (pairs_per_second * (row.compute + row.exposed))) + 1


def table(rows: list[Row], options: Options) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| devices | compute (ms) | all-reduces (ms) | data (ms) | step (ms) | pairs/s | efficiency | limit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for x in rows:
        parts = " | ".join(f"{1e3 * value:.2f}" for value in (x.compute, x.exposed, x.data, x.step))
        rate = x.devices * options.batch / x.step
        lines.append(f"| {x.devices} | {parts} | {rate:.0f} | {x.efficiency:.3f} | {x.limit} |")
    return "\n".join(lines)


def summary(rows: list[Row], pairs_per_second: float, options: Options) -> str:
    """One line: from where on data is the limit, and how many readers would do."""
    limited = [x for x in rows if x.limit == "data"]
    if not limited:
        need = max(readers_needed(x, pairs_per_second, options) for x in rows)
        return f"data is nowhere the limit; {need} reader{'s' * (need > 1)} a host would do"
    need = max(readers_needed(x, pairs_per_second, options) for x in limited)
    few = f", more than its {options.cores} cores" if need > options.cores else ""
    return f"data is the limit from {limited[0].devices} devices on; {need} readers a host would do{few}"


def main() -> None:
    """Measure, print the table, and check the compiled step."""
    options = tyro.cli(Options, description=__doc__)
    if options.check:  # before JAX starts; it concerns CPUs alone
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=2".strip()
    from benchmarks.scaling_step import check, measured_pairs, measured_step, reduced_by, training

    job = training(options.config)
    reduced = reduced_by(job)
    seconds = options.step_seconds or measured_step(job, options.batch, options.steps)
    pairs = options.pairs_per_second or measured_pairs(job)
    rows = [row(n, reduced, seconds, pairs, options) for n in options.devices]
    print(
        f"{options.config}, {options.batch} pairs a device: {1e3 * seconds:.1f} ms a step "
        f"({'given' if options.step_seconds else 'measured'}), {pairs:.0f} pairs/s a reader "
        f"({'given' if options.pairs_per_second else 'measured'}), {min(options.readers, options.cores)} readers and "
        f"{options.devices_per_host} devices a host; {4e-6 * reduced.gradients:.1f} MB of gradients and "
        f"{4e-6 * (reduced.statistics + reduced.others):.2f} MB in {reduced.waits} all-reduces that wait; within a "
        f"host {options.bandwidth_within:g} GB/s and {options.latency_within:g} us, between hosts "
        f"{options.bandwidth_between:g} GB/s and {options.latency_between:g} us; {options.overlap:.0%} of the backward "
        "pass overlaps\n"
    )
    print(table(rows, options))
    print(f"\n{summary(rows, pairs, options)}", flush=True)
    if options.check:
        print(check(job, options.batch))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
