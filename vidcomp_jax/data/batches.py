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
from jaxtyping import Float32, Shaped

from vidcomp_jax.data.augment import AugmentationConfig, augment
from vidcomp_jax.data.clips import Clips
from vidcomp_jax.data.examples import PairReader, WindowReader
from vidcomp_jax.data.lazy_tensorflow import import_tensorflow
from vidcomp_jax.devices import BatchShare
from vidcomp_jax.media.images import to_float
from vidcomp_jax.storage.untrusted import check_memory

_WHOLE = BatchShare()
_BATCHES = 4
_streams: weakref.WeakSet[Generator[Any, None, None]] = weakref.WeakSet()


class Pair(NamedTuple):
    """A training pair: two frames of one clip, which differ unless the augmentation has `equal_frames`.

    Attributes:
        source: float32 in [0, 1]; the earlier frame, unless augmentation swapped the two.
        driving: float32 in [0, 1], of the same shape.
    """

    source: Float32[np.ndarray, "b h w c"]
    driving: Float32[np.ndarray, "b h w c"]


def pairs(
    clips: Clips,
    *,
    batch_size: int,
    seed: int,
    augmentation: AugmentationConfig | None = None,
    pairs_per_clip: int = 1,
    share: BatchShare = _WHOLE,
) -> Iterator[Pair]:
    """Endless training pairs.

    Args:
        clips: where the frames come from.
        batch_size: size of the whole batch, over all processes.
        seed: of the order of the clips, the choice of frames and the augmentation.
        augmentation: None leaves the frames unchanged.
        pairs_per_clip: number of consecutive examples from one clip, which is read once for all of them.
        share: the first step, and the rows of every batch to make; by default, all rows from the first step on.

    Raises:
        InputError: a clip has a single frame, the batch size is not a multiple of the number of processes, or a file
            that is read on demand is unreadable.
    """
    repeat = augmentation is not None and augmentation.equal_frames
    reader = PairReader(clips, seed=seed, equal_frames=repeat, pairs_per_clip=pairs_per_clip)

    def examples(numbers: range) -> Shaped[np.ndarray, "b 2 h w c"]:
        batch = reader(numbers)
        if augmentation is None:
            return batch
        rngs = [rng for _, _, own in reader.draw(numbers) for rng in own]
        return np.stack([augment(to_float(pair), augmentation, rng) for pair, rng in zip(batch, rngs, strict=True)])

    rows = share.rows(batch_size)
    _, height, width, channels = reader.shape
    if augmentation is not None and augmentation.crop:
        height = width = augmentation.crop
    shape = (len(rows), 2, height, width, channels)
    _check_size(shape)
    dtype = np.uint8 if augmentation is None else np.float32
    batches = _stream(examples, batch_size, rows, share.start_step, shape, dtype)
    return (Pair(batch[:, 0], batch[:, 1]) for batch in batches)


def windows(
    clips: Clips,
    *,
    num_frames: int,
    batch_size: int,
    seed: int,
    mirror: bool = False,
    share: BatchShare = _WHOLE,
) -> Iterator[Float32[np.ndarray, "b t h w c"]]:
    """Endless batches of `num_frames` consecutive frames in [0, 1], each starting at a random frame of a clip.

    Clips shorter than `num_frames` are skipped. With `mirror`, half of the windows, at random, are mirrored left to
    right. The other arguments and the errors are those of `pairs`; an InputError is also raised if no clip is long
    enough.
    """
    reader = WindowReader(clips, num_frames=num_frames, seed=seed, mirror=mirror)
    rows = share.rows(batch_size)
    shape = (len(rows), *reader.shape)
    _check_size(shape)
    return _stream(reader, batch_size, rows, share.start_step, shape, np.uint8)


def _check_size(shape: tuple[int, ...]) -> None:
    """Raise an `InputError` if the batches that are read ahead, as floats, take more memory than there is."""
    check_memory(4 * _BATCHES * math.prod(shape), f"`batch_size` is {shape[0]}: {_BATCHES} batches of shape {shape}")


def _stream(
    examples: Callable[[range], np.ndarray],
    batch_size: int,
    rows: range,
    start_step: int,
    shape: tuple[int, ...],
    dtype: type[np.uint8] | type[np.float32],
) -> Iterator[np.ndarray]:
    """Batches of the examples step * batch_size + row, in order, prefetched on a few threads.

    Frames that `examples` returns as uint8 are converted to float32 last, so that less memory is moved.
    """
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
        return tf.ensure_shape(tf.numpy_function(batch, [step], tf.as_dtype(dtype), stateful=False), shape)

    threads = min(os.cpu_count() or 1, 8)
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    options.threading.private_threadpool_size = threads
    dataset = tf.data.Dataset.range(start_step, np.iinfo(np.int64).max)
    dataset = dataset.map(load, num_parallel_calls=threads).prefetch(2).with_options(options)

    def iterate():
        try:
            for frames in dataset.as_numpy_iterator():
                yield to_float(frames) if dtype is np.uint8 else frames
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
