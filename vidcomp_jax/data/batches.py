"""Makes training batches from clips with tf.data: pairs of frames, and windows of consecutive frames.

The batch of step i depends only on (seed, i); `examples.py` draws what is in it. A run resumed at step i therefore
continues directly there, without replaying earlier steps, and reading in parallel does not change the batches. Each
process of a multi-host run makes its own rows of the batch.
"""

import atexit
import contextlib
import math
import os
import weakref
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from vidcomp_jax.data.clips import Clips
from vidcomp_jax.data.examples import PairReader, WindowReader
from vidcomp_jax.data.lazy_tensorflow import import_tensorflow
from vidcomp_jax.devices import BatchShare
from vidcomp_jax.storage.untrusted import check_memory

_WHOLE = BatchShare()
_BATCHES = 4
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
) -> Iterator[Pair]:
    """Endless training pairs.

    Args:
        clips: where the frames come from.
        batch_size: size of the whole batch, over all processes.
        seed: of the order of the clips and the choice of frames.
        equal_frames: draw the two frames of a pair independently, so that they can be the same one.
        pairs_per_clip: number of consecutive examples from one clip, which is read once for all of them.
        share: the first step, and the rows of every batch to make; by default, all rows from the first step on.

    Raises:
        InputError: a clip has a single frame, the batch size is not a multiple of the number of processes, or a file
            that is read on demand is unreadable.
    """
    reader = PairReader(clips, seed=seed, equal_frames=equal_frames, pairs_per_clip=pairs_per_clip)
    rows = share.rows(batch_size)
    shape = (len(rows), *reader.shape)
    _check_size(shape)
    batches = _stream(reader, batch_size, rows, share.start_step, shape)
    return (Pair(batch[:, 0], batch[:, 1]) for batch in batches)


def windows(
    clips: Clips,
    *,
    num_frames: int,
    batch_size: int,
    seed: int,
    mirror: bool = False,
    share: BatchShare = _WHOLE,
) -> Iterator[UInt8[np.ndarray, "b t h w c"]]:
    """Endless batches of `num_frames` consecutive frames, each starting at a random frame of a clip.

    Clips shorter than `num_frames` are skipped. With `mirror`, half of the windows, at random, are mirrored left to
    right. The other arguments and the errors are those of `pairs`; an InputError is also raised if no clip is long
    enough.
    """
    reader = WindowReader(clips, num_frames=num_frames, seed=seed, mirror=mirror)
    rows = share.rows(batch_size)
    shape = (len(rows), *reader.shape)
    _check_size(shape)
    return _stream(reader, batch_size, rows, share.start_step, shape)


def _check_size(shape: tuple[int, ...]) -> None:
    """Raise an `InputError` if the batches that are read ahead take more memory than there is."""
    check_memory(_BATCHES * math.prod(shape), f"`batch_size` is {shape[0]}: {_BATCHES} batches of shape {shape}")


def _stream(
    examples: Callable[[range], np.ndarray],
    batch_size: int,
    rows: range,
    start_step: int,
    shape: tuple[int, ...],
) -> Iterator[np.ndarray]:
    """Batches of the examples step * batch_size + row, in order, prefetched on a few threads."""
    tf = import_tensorflow()
    failures: list[Exception] = []

    def batch(step: np.integer) -> np.ndarray:
        try:
            first = int(step) * batch_size
            return examples(range(first + rows.start, first + rows.stop))
        except Exception as error:  # TensorFlow would hand on its text only
            failures.append(error)
            raise

    def load(step):
        return tf.ensure_shape(tf.numpy_function(batch, [step], tf.uint8, stateful=False), shape)

    threads = min(os.cpu_count() or 1, 8)
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    options.threading.private_threadpool_size = threads
    dataset = tf.data.Dataset.range(start_step, np.iinfo(np.int64).max)
    dataset = dataset.map(load, num_parallel_calls=threads).prefetch(2).with_options(options)

    def iterate():
        try:
            yield from dataset.as_numpy_iterator()
        except tf.errors.OpError:
            if failures:
                raise failures[0] from None
            raise

    stream = iterate()
    _streams.add(stream)
    return stream


@atexit.register
def _close_streams():
    """Stop prefetching before Python shuts down, which would deadlock with a batch that is still being read."""
    for stream in list(_streams):
        with contextlib.suppress(ValueError):  # in use by another thread
            stream.close()
