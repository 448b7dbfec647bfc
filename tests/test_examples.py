"""Readers of training examples: what they read is a function of the numbers, also after a trip to another process."""

import pickle

import numpy as np
import pytest

from vidcomp_jax.data import ArrayClips
from vidcomp_jax.data.examples import Order, PairReader, WindowReader


@pytest.fixture(scope="module")
def clips():
    lengths = np.arange(2, 22)
    return ArrayClips(
        np.arange(lengths.sum(), dtype=np.uint8).reshape(-1, 1, 1, 1), lengths, subjects=np.arange(20) // 2
    )


def readers(clips):
    return [
        PairReader(clips, seed=1),
        PairReader(clips, seed=1, pairs_per_clip=3, equal_frames=True),
        WindowReader(clips, num_frames=5, seed=1, mirror=True),
    ]


def test_examples_depend_on_their_numbers_alone(clips):
    for reader in readers(clips):
        whole = reader(range(12))
        assert whole.shape == (12, *reader.shape) and whole.dtype == np.uint8
        np.testing.assert_array_equal(reader(range(7, 12)), whole[7:])
        np.testing.assert_array_equal(np.concatenate([reader(range(i, i + 1)) for i in range(12)]), whole)


def test_a_pickled_reader_reads_the_same(clips):
    for reader in readers(clips):
        expected = reader(range(95, 105))
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader))(range(95, 105)), expected)


def test_an_order_that_is_asked_at_random_is_that_of_the_first_pass(clips):
    order = Order(clips, np.arange(20), seed=2)
    first = [order.draw(number)[0] for number in range(100)]
    for number in np.random.default_rng(0).permutation(100):
        assert order.draw(int(number))[0] == first[number]


def test_frames_are_copied_to_where_they_belong(clips):
    for indices, to in (
        ([3, 1, 1], np.zeros((3, 1, 1, 1), np.uint8)),
        ([0, 2], np.zeros((2, 5, 1, 1, 1), np.uint8)[:, 4]),
    ):
        clips.copy_frames(4, indices, to)
        np.testing.assert_array_equal(to, clips.frames(4, indices))
    with pytest.raises(IndexError, match="frames 0 to 6 were requested, of a clip of 6"):
        clips.copy_frames(4, [0, 6], to)
