"""Makes training batches from clips: pairs of frames, and windows of consecutive frames.

The batch of step i depends only on (seed, i); `examples.py` draws what is in it. A run resumed at step i therefore
continues directly there, without replaying earlier steps, and reading in parallel does not change the batches. Each
process of a multi-host run makes its own rows of the batch.
"""

import atexit
import contextlib
import itertools
import math
import os
import weakref
from collections.abc import Generator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from vidcomp_jax.data.clips import Clips
from vidcomp_jax.data.examples import ExampleReader, PairReader, WindowReader
from vidcomp_jax.data.workers import read_in_processes, read_on_threads
from vidcomp_jax.devices import BatchShare
from vidcomp_jax.errors import InputError
from vidcomp_jax.storage.untrusted import check_memory

_WHOLE = BatchShare()
_BATCHES = 8
_THREADS = 4
"""Frames that are in memory are read as fast on one thread; several wait for a disk or a decoder at the same time."""
_streams: weakref.WeakSet[Generator[Any, None, None]] = weakref.WeakSet()


class Pair(NamedTuple):
    """Training pairs as they are stored: two frames of one clip, which differ unless `equal_frames` is given.

    `vidcomp_jax.data.prepare.prepare_pairs` makes augmented frames in [0, 1] of them.

    Attributes:
        source: uint8; the earlier frame.
        driving: uint8, of the same shape.
    """

    source: UInt8[np.ndarray, "b h w c"]
    driving: UInt8[np.ndarray, "b h w c"]


def pairs(
    clips: Clips,
    *,
    batch_size: int,
    seed: int,
    equal_frames: bool = False,
    pairs_per_clip: int = 1,
    share: BatchShare = _WHOLE,
    workers: int = 0,
) -> Generator[Pair, None, None]:
    """Endless training pairs.

    Args:
        clips: where the frames come from.
        batch_size: size of the whole batch, over all processes.
        seed: of the order of the clips and the choice of frames.
        equal_frames: draw the two frames of a pair independently, so that they can be the same one.
        pairs_per_clip: number of consecutive examples from one clip, which is read once for all of them.
        share: the first step, and the rows of every batch to make; by default, all rows from the first step on.
        workers: number of processes that read; 0 reads on threads of this process. The batches are the same.

    Raises:
        InputError: a clip has a single frame, the batch size is not a multiple of the number of processes, a file
            that is read on demand is unreadable, or clips cannot be read in another process.
        TrainingError: a process that reads has ended.
    """
    reader = PairReader(clips, seed=seed, equal_frames=equal_frames, pairs_per_clip=pairs_per_clip)
    return _as_pairs(_stream(reader, batch_size, share, workers))


def _as_pairs(batches: Generator[UInt8[np.ndarray, "2 b h w c"], None, None]) -> Generator[Pair, None, None]:
    with contextlib.closing(batches):
        for batch in batches:
            yield Pair(*batch)


def windows(
    clips: Clips,
    *,
    num_frames: int,
    batch_size: int,
    seed: int,
    mirror: bool = False,
    share: BatchShare = _WHOLE,
    workers: int = 0,
) -> Generator[UInt8[np.ndarray, "b t h w c"], None, None]:
    """Endless batches of `num_frames` consecutive frames, each starting at a random frame of a clip.

    Clips shorter than `num_frames` are skipped. With `mirror`, half of the windows, at random, are mirrored left to
    right. The other arguments and the errors are those of `pairs`; an InputError is also raised if no clip is long
    enough.
    """
    reader = WindowReader(clips, num_frames=num_frames, seed=seed, mirror=mirror)
    return _stream(reader, batch_size, share, workers)


def _stream(
    reader: ExampleReader, batch_size: int, share: BatchShare, workers: int
) -> Generator[UInt8[np.ndarray, "*s"], None, None]:
    """Batches of the examples step * batch_size + row, in order, read ahead."""
    rows = share.rows(batch_size)
    if workers < 0:
        raise InputError(f"`workers` is {workers}; it must be at least 0")
    shape = reader.batch_shape(len(rows))
    count = _BATCHES + 2 * workers
    check_memory(count * math.prod(shape), f"`batch_size` is {len(rows)}: {count} batches of shape {shape}")
    firsts = itertools.count(share.start_step * batch_size, batch_size)
    ranges = (range(first + rows.start, first + rows.stop) for first in firsts)
    if workers:
        stream = read_in_processes(reader, ranges, len(rows), workers)
    else:
        stream = read_on_threads(reader, ranges, len(rows), min(os.cpu_count() or 1, _THREADS))
    _streams.add(stream)
    return stream


@atexit.register
def _close_streams():
    """Stop prefetching before Python shuts down, which would deadlock with a batch that is still being read."""
    for stream in list(_streams):
        with contextlib.suppress(ValueError):  # in use by another thread
            stream.close()
