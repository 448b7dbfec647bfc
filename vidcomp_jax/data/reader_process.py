"""A process that reads examples for another one, into memory that both share; `workers` starts it.

It gets the reader, and then numbers of examples with the place in memory to write them to, on standard input, and
answers each on standard output: None, or the error. It ends when its input does, so no process is left behind whatever
becomes of the one that started it.
"""

import mmap
import os
import pickle
import signal
import sys
import traceback
from typing import BinaryIO

import numpy as np

from vidcomp_jax.data.examples import ExampleReader
from vidcomp_jax.errors import InputError


def main(memory: int) -> None:
    """Serve until standard input ends; `memory` is the descriptor of the file that is shared.

    Signals that stop a training run, which may go to all of its processes, do not stop this one: the run reads on until
    its last checkpoint.
    """
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.SIG_IGN)
    requests = sys.stdin.buffer
    # Whatever a library prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        serve(requests, answers, mmap.mmap(memory, 0))
    except (EOFError, BrokenPipeError):  # the other process has ended, or wants no more
        os._exit(0)


def serve(requests: BinaryIO, answers: BinaryIO, memory: mmap.mmap) -> None:
    """Answer requests until EOFError."""
    try:
        reader: ExampleReader = pickle.load(requests)
    except Exception as error:
        _answer(answers, _portable(error))
        while requests.read(1 << 20):  # the rest of a reader that cannot be opened, for which the other process waits
            pass
        raise EOFError from error
    _answer(answers, None)
    while True:
        offset, first, stop = pickle.load(requests)
        problem: Exception | None = None
        try:
            shape = reader.batch_shape(stop - first)
            reader.fill(np.ndarray(shape, np.uint8, memory, offset), range(first, stop))
        except Exception as error:  # handed on to the other process
            problem = _portable(error)
        _answer(answers, problem)


def _answer(answers: BinaryIO, answer: Exception | None) -> None:
    pickle.dump(answer, answers)
    answers.flush()


def _portable(error: Exception) -> Exception:
    """The error, with the traceback of a bug as a note; a RuntimeError in place of one that cannot be sent."""
    if not isinstance(error, InputError):
        error.add_note(traceback.format_exc())
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its class does when it is pickled
        return RuntimeError(traceback.format_exc())
    return error
