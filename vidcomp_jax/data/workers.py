"""Reads batches ahead of their use, on threads of this process or in processes of their own.

Python runs one thread at a time, so a reader that does more than wait for files is not faster on several threads, and
takes time from the thread that trains. Processes have no such limit. They import neither JAX nor TensorFlow, are
started anew (not forked, which is unsafe beside JAX), and write into memory that they share with this process.
"""

import collections
import json
import math
import mmap
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import UInt8

from vidcomp_jax.data.buffers import Buffers
from vidcomp_jax.data.examples import ExampleReader
from vidcomp_jax.errors import InputError, TrainingError, one_line

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from vidcomp_jax.data.reader_process import main; main(int(sys.argv[2]))"
)
_KEPT = 6
"""Batches that others may use at a time (two wait for a step, one is being copied, ...) before they get copies."""
_AHEAD = 2
"""Batches that each thread or process has been asked for."""
_SECONDS = 5.0
"""Time that a process has to end by itself."""

Batch = UInt8[np.ndarray, "*s"]


def read_on_threads(
    reader: ExampleReader, ranges: Iterator[range], count: int, threads: int = 1
) -> Generator[Batch, None, None]:
    """Yield the batch of each range of example numbers, in order.

    Args:
        reader: reads a batch; may be called on several threads.
        ranges: numbers of the examples, each `count` of them.
        count: size of a batch.
        threads: number of batches that are read at the same time.
    """
    shape = reader.batch_shape(count)
    # Memory that begins with a page, which JAX can use as it is on a CPU.
    buffers = Buffers(lambda: np.ndarray(shape, np.uint8, mmap.mmap(-1, math.prod(shape))), threads + _AHEAD + _KEPT)

    def read(batch: Batch, numbers: range) -> Batch:
        reader.fill(batch, numbers)
        return batch

    def ask(numbers: range) -> Future[Batch]:
        batch = buffers.take()
        return pool.submit(read, np.empty(shape, np.uint8) if batch is None else batch, numbers)

    pool = ThreadPoolExecutor(threads, thread_name_prefix="reader")
    ahead: collections.deque[Future[Batch]] = collections.deque()
    try:
        for numbers in ranges:
            ahead.append(ask(numbers))
            if len(ahead) > threads + _AHEAD:
                yield ahead.popleft().result()[:]
        while ahead:
            yield ahead.popleft().result()[:]
    finally:
        pool.shutdown(cancel_futures=True)


def read_in_processes(
    reader: ExampleReader, ranges: Iterator[range], count: int, workers: int
) -> Generator[Batch, None, None]:
    """Yield the batch of each range of example numbers, in order, read by `workers` processes in turn.

    They end when the iterator is closed or garbage, and when this process does.

    Args:
        reader: reads a batch; it is pickled, and must be importable in another process.
        ranges: numbers of the examples, each `count` of them.
        count: size of a batch.
        workers: number of processes, at least 1.

    Raises:
        InputError: the reader cannot be sent to another process, or what it raised.
        TrainingError: a process has ended.
    """
    shape = reader.batch_shape(count)
    ahead: collections.deque[tuple[_Process, Batch]] = collections.deque()
    with _Processes(reader, shape, workers) as processes:
        for step, numbers in enumerate(ranges):
            batch = processes.buffers.take()
            assert batch is not None, "one is free: see `_handed_out`"
            process = processes.all[step % workers]
            process.ask((processes.offset(batch), numbers.start, numbers.stop))
            ahead.append((process, batch))
            del batch
            if len(ahead) > workers * _AHEAD:
                yield _handed_out(processes.buffers, *ahead.popleft())
        while ahead:
            yield _handed_out(processes.buffers, *ahead.popleft())


def _handed_out(buffers: Buffers, process: "_Process", batch: Batch) -> Batch:
    """The batch once it is read; a copy of it if no other buffer is free for the next one."""
    process.answer()
    return batch[:] if buffers.take() is not None else batch.copy()


class _Processes:
    """Processes with a reader each, and the memory they share with this one; ended on exit."""

    def __init__(self, reader: ExampleReader, shape: tuple[int, ...], count: int):
        try:
            pickled = pickle.dumps(reader)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise InputError(
                f"`workers` is {count}, but these clips cannot be sent to other processes ({one_line(error)}); "
                "`workers` 0 reads them in this one"
            ) from error
        slots = count * _AHEAD + 2 + _KEPT
        self._shape = shape
        self._stride = -(-math.prod(shape) // mmap.PAGESIZE) * mmap.PAGESIZE
        with _anonymous_file() as file:
            os.ftruncate(file.fileno(), slots * self._stride)
            self._memory = mmap.mmap(file.fileno(), slots * self._stride)
            self._start = np.frombuffer(self._memory, np.uint8).ctypes.data
            self._used = 0
            self.buffers = Buffers(self._slot, slots)
            self.all = [_Process(number, count, file.fileno()) for number in range(count)]
        try:
            for process in self.all:
                process.send(pickled)
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> "_Processes":
        return self

    def __exit__(self, *error):
        for process in self.all:
            process.end()
        for process in self.all:
            process.wait()

    def offset(self, batch: Batch) -> int:
        """Where in the memory a batch begins."""
        return batch.ctypes.data - self._start

    def _slot(self) -> Batch:
        offset = self._used * self._stride
        self._used += 1
        return np.ndarray(self._shape, np.uint8, self._memory, offset)


class _Process:
    """A process that reads."""

    def __init__(self, number: int, count: int, memory: int):
        self._name = f"reader process {number + 1} of {count}"
        self._sent_reader = True
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, json.dumps(sys.path), str(memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(memory,),
            start_new_session=True,  # Ctrl-C in a terminal is for this process, which then ends the others
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout

    def ask(self, request: tuple[int, int, int]) -> None:
        """Request examples: where to write them, the first one, and the one after the last."""
        self.send(pickle.dumps(request))

    def send(self, data: bytes) -> None:
        """Send what is pickled."""
        try:
            self._requests.write(data)
            self._requests.flush()
        except BrokenPipeError:
            raise self._lost() from None

    def answer(self) -> None:
        """Wait for the answer to the oldest request; raise the error that occurred."""
        if self._sent_reader:
            self._sent_reader = False
            if (error := self._received()) is not None:
                raise InputError(
                    f"{self._name} cannot open these clips ({one_line(error)}); `workers` 0 reads them in the process "
                    "that trains"
                ) from error
        if (error := self._received()) is not None:
            raise error

    def _received(self) -> Exception | None:
        try:
            answer: Any = pickle.load(self._answers)
        except (EOFError, pickle.UnpicklingError):
            raise self._lost() from None
        return answer

    def _lost(self) -> TrainingError:
        self.end()
        code = self._process.wait()
        reason = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        hint = ", perhaps for lack of memory" if code == -signal.SIGKILL else ""
        return TrainingError(
            f"{self._name} {reason}{hint}; the same command goes on, and `workers` 0 needs no such process"
        )

    def end(self) -> None:
        """Let the process end, without waiting for it."""
        for pipe in (self._requests, self._answers):
            try:
                pipe.close()
            except BrokenPipeError:
                continue

    def wait(self) -> None:
        """Wait for the end, and enforce it if necessary."""
        try:
            self._process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _anonymous_file():
    """A file in memory, without a name, that a process started by this one can map."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("batches"), "w+b")
    return tempfile.TemporaryFile()
