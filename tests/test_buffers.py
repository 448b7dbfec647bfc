"""Memory is used again as soon as nobody refers to it, and never before."""

import jax
import numpy as np
import pytest

from vidcomp_jax.data.buffers import Buffers


@pytest.fixture
def buffers():
    return Buffers(lambda: np.empty((4, 64), np.uint8), 2)


def test_memory_is_used_again_when_it_is_free(buffers):
    first = buffers.take()
    place = first.ctypes.data
    second = buffers.take()
    assert second.ctypes.data != place and buffers.take() is None
    del first
    assert buffers.take().ctypes.data == place
    assert buffers.take().ctypes.data == place  # the one before was not kept


@pytest.mark.parametrize(
    "keep",
    [
        lambda array: array[1],
        lambda array: array[1:3].reshape(-1)[::2],
        lambda array: memoryview(array),
        lambda array: array.view(np.int8).T,
        lambda array: jax.device_put(array[:]),
        lambda array: [array],
    ],
)
def test_whatever_shares_the_memory_keeps_it(buffers, keep):
    array = buffers.take()
    array[:] = 7
    kept = keep(array)
    del array
    for _ in range(6):
        other = buffers.take()
        if other is not None:
            other[:] = 1
    assert (np.asarray(kept) == 7).all()
    del kept, other
    assert buffers.take() is not None


def test_arrays_over_one_file_in_memory_are_kept_apart():
    import mmap

    memory, used = mmap.mmap(-1, 2 * mmap.PAGESIZE), iter((0, mmap.PAGESIZE))
    buffers = Buffers(lambda: np.ndarray((2, 8), np.uint8, memory, next(used)), 2)
    first, second = buffers.take(), buffers.take()
    assert buffers.take() is None
    part = first[0]
    del first
    assert buffers.take() is None
    del part
    assert buffers.take() is not None
    assert second.shape == (2, 8)
