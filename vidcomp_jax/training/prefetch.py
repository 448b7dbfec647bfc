"""Prefetching, which reads the next two batches and copies them to the devices during the current step."""

import collections
import concurrent.futures
from collections.abc import Callable, Iterator
from typing import Any

_AHEAD = 2
_END = object()


class Prefetch:
    """Iterator over `place(batch)` for all batches, computed ahead of time in a background thread.

    Exiting it as a context manager ends the thread after the batch being read, and closes an iterator that has a method
    `close`. Exceptions from the iterator are raised
    in place of the batch.
    """

    def __init__(self, batches: Iterator[Any], place: Callable[[Any], Any]):
        self._batches = batches
        self._place = place
        self._pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._ahead = collections.deque(self._pool.submit(self._read) for _ in range(_AHEAD))

    def __enter__(self) -> "Prefetch":
        return self

    def __exit__(self, error_type, error, traceback):
        self._pool.shutdown(cancel_futures=True)
        if hasattr(self._batches, "close"):
            self._batches.close()

    def __iter__(self) -> "Prefetch":
        return self

    def __next__(self) -> Any:
        batch = self._ahead.popleft().result()
        if batch is _END:
            raise StopIteration
        self._ahead.append(self._pool.submit(self._read))
        return batch

    def _read(self) -> Any:
        batch = next(self._batches, _END)
        return _END if batch is _END else self._place(batch)
