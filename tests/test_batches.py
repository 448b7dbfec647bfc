"""Batches depend only on (seed, step) and cover all clips over processes and epochs; errors name the clip."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from tests.support.troubled_clips import TroubledClips
from vidcomp_jax.data import ArrayClips, Pair, pairs, windows
from vidcomp_jax.devices import BatchShare
from vidcomp_jax.errors import InputError


def numbered_clips(count=10, length=6, size=4, subjects=None):
    """Return clips whose pixels are the number of the clip (first row) and of the frame (second row)."""
    array = np.zeros((count * length, size, size, 1), np.uint8)
    array[:, 0] = np.repeat(np.arange(count), length)[:, None, None]
    array[:, 1] = np.tile(np.arange(length), count)[:, None, None]
    return ArrayClips(array, [length] * count, subjects=subjects)


def which(frames):
    """Return the clip and frame numbers of frames from `numbered_clips`."""
    numbers = np.asarray(frames).astype(int)
    return numbers[..., 0, 0, 0], numbers[..., 1, 0, 0]


def take(iterator, count):
    return list(itertools.islice(iterator, count))


def test_pairs_are_two_different_frames_of_one_clip():
    batches = take(pairs(numbered_clips(), batch_size=8, seed=0), 25)
    source = which(np.concatenate([batch.source for batch in batches]))
    driving = which(np.concatenate([batch.driving for batch in batches]))
    np.testing.assert_array_equal(source[0], driving[0])
    assert (source[1] < driving[1]).all()
    assert len(set(zip(source[1], driving[1], strict=True))) == 15  # every pair of the 6 frames occurs
    assert batches[0].source.dtype == np.uint8
    assert batches[0].source.shape == (8, 4, 4, 1)


def test_frames_drawn_with_replacement_are_equal_as_often_as_chance_has_it():
    batches = take(pairs(numbered_clips(length=4), batch_size=50, seed=0, equal_frames=True), 40)
    source, driving = (which(np.concatenate([getattr(batch, name) for batch in batches]))[1] for name in Pair._fields)
    assert (source <= driving).all()
    counts = np.zeros((4, 4), int)
    np.add.at(counts, (source, driving), 1)
    # Of 2000 pairs, each of the 4 equal ones is drawn 125 times, each of the 6 different ones 250 times.
    assert (abs(counts.diagonal() - 125) < 50).all()
    assert (abs(counts[np.triu_indices(4, 1)] - 250) < 65).all()


def test_half_of_the_windows_are_mirrored():
    ramp = ArrayClips(np.broadcast_to(np.arange(4, dtype=np.uint8)[None, None, :, None], (60, 4, 4, 1)), [6] * 10)
    plain, mirrored = (
        np.concatenate(take(windows(ramp, num_frames=3, batch_size=20, seed=1, mirror=mirror), 10))
        for mirror in (False, True)
    )
    turned = [np.array_equal(a, b[:, :, ::-1]) for a, b in zip(mirrored, plain, strict=True)]
    assert 70 < sum(turned) < 130
    assert all(turn or np.array_equal(a, b) for turn, a, b in zip(turned, mirrored, plain, strict=True))


def test_every_epoch_visits_every_clip_once_in_its_own_order():
    order = np.concatenate([which(b.source)[0] for b in take(pairs(numbered_clips(), batch_size=4, seed=3), 15)])
    epochs = order.reshape(6, 10)
    np.testing.assert_array_equal(np.sort(epochs, 1), np.tile(np.arange(10), (6, 1)))
    assert len({tuple(epoch) for epoch in epochs}) == 6


def test_every_epoch_visits_every_subject_once():
    subjects = [0, 0, 0, 0, 0, 0, 0, 1, 2, 2]
    batches = take(pairs(numbered_clips(subjects=subjects), batch_size=3, seed=0), 60)
    clips = np.stack([which(batch.source)[0] for batch in batches])
    np.testing.assert_array_equal(np.sort(np.array(subjects)[clips], 1), np.tile([0, 1, 2], (60, 1)))
    assert set(clips.ravel()) == set(range(10))


@pytest.mark.parametrize("start", [1, 7])
def test_resuming_continues_the_same_batches(start):
    clips, settings = numbered_clips(), {"batch_size": 6, "seed": 5, "equal_frames": True}
    whole = take(pairs(clips, **settings), start + 3)
    for expected, found in zip(whole[start:], take(pairs(clips, share=BatchShare(start), **settings), 3), strict=True):
        np.testing.assert_array_equal(np.stack(expected), np.stack(found))
    settings["pairs_per_clip"] = 4
    whole = take(pairs(clips, **settings), start + 3)
    for expected, found in zip(whole[start:], take(pairs(clips, share=BatchShare(start), **settings), 3), strict=True):
        np.testing.assert_array_equal(np.stack(expected), np.stack(found))
    long = take(windows(clips, num_frames=3, batch_size=6, seed=5), start + 2)
    again = take(windows(clips, num_frames=3, batch_size=6, seed=5, share=BatchShare(start)), 2)
    np.testing.assert_array_equal(long[start:], again)


def test_the_seed_changes_the_batches():
    first, second = (take(pairs(numbered_clips(), batch_size=8, seed=seed), 1)[0].source for seed in (0, 1))
    assert (first != second).any()


@pytest.mark.parametrize("pairs_per_clip", [1, 4])
def test_shares_of_the_processes_make_up_the_batch(pairs_per_clip):
    clips, settings = numbered_clips(), {"batch_size": 6, "seed": 1}
    settings["pairs_per_clip"] = pairs_per_clip
    whole = take(pairs(clips, **settings), 4)
    shares = [take(pairs(clips, share=BatchShare(0, i, 3), **settings), 4) for i in range(3)]
    for step, batch in enumerate(whole):
        np.testing.assert_array_equal(batch.source, np.concatenate([share[step].source for share in shares]))
        np.testing.assert_array_equal(batch.driving, np.concatenate([share[step].driving for share in shares]))


def test_several_pairs_may_come_of_each_visit_to_a_clip():
    batches = take(pairs(numbered_clips(), batch_size=10, seed=4, pairs_per_clip=4), 8)  # a visit may span two batches
    source, driving = (which(np.concatenate([pair[i] for pair in batches])) for i in range(2))
    np.testing.assert_array_equal(source[0], driving[0])
    visits = source[0].reshape(2, 10, 4)
    np.testing.assert_array_equal(visits, visits[..., :1].repeat(4, -1))
    np.testing.assert_array_equal(np.sort(visits[..., 0], 1), np.tile(np.arange(10), (2, 1)))
    assert (source[1] < driving[1]).all()
    assert len(set(zip(source[1], driving[1], strict=True))) == 15


def test_windows_are_consecutive_and_pass_over_short_clips():
    array = numbered_clips()
    lengths = [2, 4, 6] + [6] * 8
    clips = ArrayClips(np.concatenate([array.frames(i, range(n)) for i, n in enumerate(lengths[:10])]), lengths[:10])
    batches = np.concatenate(take(windows(clips, num_frames=4, batch_size=9, seed=0), 10))
    names, frames = which(batches)
    assert batches.shape == (90, 4, 4, 4, 1)
    np.testing.assert_array_equal(np.diff(frames, axis=1), 1)
    assert set(names.ravel()) == set(range(1, 10))
    assert set(frames[:, 0]) == {0, 1, 2}


def test_a_failure_while_reading_keeps_its_type_and_message():
    with pytest.raises(InputError, match=r"^seven.avi: cannot be decoded$"):
        take(pairs(TroubledClips("unreadable"), batch_size=4, seed=0), 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 6, "seed": 0, "share": BatchShare(0, 0, 4)}, "`batch_size` is 6"),
        ({"batch_size": 0, "seed": 0}, "`batch_size` is 0"),
        ({"batch_size": 4, "seed": -1}, "`seed` is -1"),
        ({"batch_size": 4, "seed": 0, "share": BatchShare(0, 2, 2)}, "`process_index` is 2"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        pairs(numbered_clips(), **settings)


def test_clips_that_are_too_short_are_named():
    with pytest.raises(InputError, match="clip00000: one frame"):
        pairs(numbered_clips(length=1), batch_size=2, seed=0)
    with pytest.raises(InputError, match=r"`num_frames` is 7.*6 frames"):
        windows(numbered_clips(), num_frames=7, batch_size=2, seed=0)


def test_importing_the_data_package_imports_no_tensorflow():
    code = "import sys, vidcomp_jax.data; print('tensorflow' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"


def test_python_ends_quietly_while_batches_are_in_the_making():
    code = """
import itertools, time
import numpy as np
from vidcomp_jax.data import ArrayClips, pairs
class Slow(ArrayClips):
    def frames(self, clip, indices):
        sum(range(300_000))
        return super().frames(clip, indices)
batches = pairs(Slow(np.zeros((40, 4, 4, 1), np.uint8), [10] * 4), batch_size=4, seed=0)
print(next(batches).source.shape)
raise SystemExit(3)
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (shown.returncode, shown.stdout, shown.stderr) == (3, "(4, 4, 4, 1)\n", "")


def test_array_clips_refuse_frames_of_the_next_clip():
    clips = numbered_clips()
    with pytest.raises(IndexError, match="frames 2 to 6 were requested, of a clip of 6"):
        clips.frames(0, [2, 6])
    assert clips.frames(3, [5, 0])[:, 1, 0, 0].tolist() == [5, 0]
