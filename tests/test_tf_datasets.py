"""Public tf.data datasets: the elements of training, each once an epoch over all shards; failures name the file."""

import itertools

import numpy as np
import pytest

from tests.support.troubled_clips import TroubledClips
from tools.bair_records import write_download
from vidcomp_jax.data import (
    ArrayClips,
    DataConfig,
    SyntheticClips,
    SyntheticConfig,
    import_tensorflow,
    iterate_numpy,
    open_clips,
    pair_dataset,
    pairs,
    trajectory_dataset,
    window_dataset,
    windows,
)
from vidcomp_jax.errors import InputError

LENGTHS = [6, 9, 7, 12, 6, 8, 10]


@pytest.fixture(scope="module")
def tf():
    return import_tensorflow()


@pytest.fixture(scope="module")
def clips():
    """Clips of several lengths, each frame of another value."""
    return ArrayClips(np.arange(sum(LENGTHS), dtype=np.uint8).repeat(12).reshape(-1, 2, 2, 3), LENGTHS)


@pytest.fixture(scope="module")
def recordings():
    """The same as recordings of which training draws windows of 4 frames."""
    array = np.arange(sum(LENGTHS), dtype=np.uint8).repeat(12).reshape(-1, 2, 2, 3)
    return ArrayClips(array, LENGTHS, window=4)


@pytest.fixture(scope="module")
def download(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bair")
    write_download(folder, train=[3, 2], test=[1])
    return folder


def opened(download):
    return open_clips(DataConfig(name="bair", data_dir=download, num_channels=3), "train")


def test_the_element_specs_are_those_documented(tf, clips, download):
    frame, number = tf.TensorSpec((2, 2, 3), tf.uint8), tf.TensorSpec((), tf.int64)
    assert trajectory_dataset(clips).element_spec == {
        "frames": tf.TensorSpec((None, 2, 2, 3), tf.uint8),
        "clip": number,
    }
    assert pair_dataset(clips, seed=0).element_spec == {
        "source": frame,
        "driving": frame,
        "clip": number,
        "times": tf.TensorSpec((2,), tf.int64),
    }
    assert window_dataset(clips, num_frames=5, seed=0).element_spec == {
        "frames": tf.TensorSpec((5, 2, 2, 3), tf.uint8),
        "clip": number,
        "start": number,
    }
    assert trajectory_dataset(opened(download)).element_spec == {
        "frames": tf.TensorSpec((30, 64, 64, 3), tf.uint8),
        "clip": number,
        "actions": tf.TensorSpec((30, 4), tf.float32),
        "positions": tf.TensorSpec((30, 3), tf.float32),
    }


def test_batches_are_those_of_training_from_any_step_on(clips, recordings):
    for source in (clips, recordings):
        expected = itertools.islice(pairs(source, batch_size=4, seed=5), 3, 20)
        found = iterate_numpy(pair_dataset(source, seed=5, epochs=None, start=3 * 4).batch(4))
        for batch, pair in zip(expected, found, strict=False):
            np.testing.assert_array_equal(pair["source"], batch.source)
            np.testing.assert_array_equal(pair["driving"], batch.driving)
        expected = itertools.islice(windows(source, num_frames=6, batch_size=4, seed=5), 3, 20)
        found = iterate_numpy(window_dataset(source, num_frames=6, seed=5, epochs=None, start=3 * 4).batch(4))
        for batch, window in zip(expected, found, strict=False):
            np.testing.assert_array_equal(window["frames"], batch)


def test_numbers_say_which_frames_an_element_shows(clips):
    for pair in iterate_numpy(pair_dataset(clips, seed=1, epochs=3)):
        shown = clips.frames(pair["clip"], pair["times"])
        np.testing.assert_array_equal(np.stack([pair["source"], pair["driving"]]), shown)
    for window in iterate_numpy(window_dataset(clips, num_frames=5, seed=1, epochs=3)):
        shown = clips.frames(window["clip"], np.arange(window["start"], window["start"] + 5))
        np.testing.assert_array_equal(window["frames"], shown)
    for clip, whole in enumerate(iterate_numpy(trajectory_dataset(clips))):
        assert whole["clip"] == clip
        np.testing.assert_array_equal(whole["frames"], clips.frames(clip, np.arange(LENGTHS[clip])))


MAKERS = {
    "trajectories": lambda clips, **settings: trajectory_dataset(clips, seed=2, **settings),
    "pairs": lambda clips, **settings: pair_dataset(clips, seed=2, **settings),
    "windows": lambda clips, **settings: window_dataset(clips, num_frames=6, seed=2, **settings),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_two_shards_have_every_clip_once_an_epoch_in_an_order_of_its_own(clips, kind):
    shards = [list(iterate_numpy(MAKERS[kind](clips, epochs=4, num_shards=2, index=i))) for i in range(2)]
    assert [len(shard) for shard in shards] == [14, 14]
    order = [int(shards[number % 2][number // 2]["clip"]) for number in range(28)]
    assert order == [int(element["clip"]) for element in iterate_numpy(MAKERS[kind](clips, epochs=4))]
    epochs = np.reshape(order, (4, 7))
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(7), (4, 1)))
    assert len(set(map(tuple, epochs))) == 4


@pytest.mark.parametrize("kind", ["pairs", "windows"])
def test_an_epoch_of_recordings_has_as_many_elements_as_windows_fit_in(recordings, kind):
    dataset = MAKERS[kind](recordings, num_shards=3, index=1)
    counts = [n // 4 for n in LENGTHS]
    assert len(MAKERS[kind](recordings)) == sum(counts) == 12 and len(dataset) == 4
    drawn = [int(element["clip"]) for element in iterate_numpy(MAKERS[kind](recordings))]
    assert np.bincount(drawn).tolist() == counts
    whole = [int(element["clip"]) for element in iterate_numpy(trajectory_dataset(recordings, seed=0))]
    assert sorted(whole) == [*range(7)]


@pytest.mark.parametrize("kind", MAKERS)
def test_shards_that_go_on_at_a_step_have_what_was_left(clips, kind):
    everything = [int(element["clip"]) for element in iterate_numpy(MAKERS[kind](clips, epochs=3))]
    for i in range(2):
        left = MAKERS[kind](clips, epochs=3, start=5 * 2, num_shards=2, index=i)
        assert [int(element["clip"]) for element in iterate_numpy(left)] == everything[10 + i :: 2]
    assert list(iterate_numpy(MAKERS[kind](clips, epochs=3, start=1000))) == []


def test_datasets_of_several_epochs_know_their_length(tf, clips):
    assert len(pair_dataset(clips, seed=0)) == 7
    assert len(pair_dataset(clips, seed=0, epochs=3, num_shards=2, index=0)) == 11
    assert len(pair_dataset(clips, seed=0, epochs=3, num_shards=2, index=1)) == 10
    assert pair_dataset(clips, seed=0, epochs=None).cardinality() == tf.data.INFINITE_CARDINALITY
    in_order = trajectory_dataset(clips, epochs=2)
    assert [int(element["clip"]) for element in iterate_numpy(in_order)] == [*range(7)] * 2


def test_a_dataset_can_be_left_early_and_iterated_over_again(clips):
    dataset = window_dataset(clips, num_frames=5, seed=0, epochs=None).batch(3).prefetch(2)
    first = [next(iter(dataset))["start"].numpy().tolist() for _ in range(3)]
    assert first[0] == first[1] == first[2]
    for found in iterate_numpy(dataset):
        assert found["start"].tolist() == first[0]
        break
    stream = iterate_numpy(dataset)
    assert next(stream)["start"].tolist() == first[0]
    stream.close()
    assert list(stream) == []


def test_other_data_sets_are_given_as_well():
    data = SyntheticConfig(num_train=3, num_test=3, length=6)
    drawn = SyntheticClips(data, "train", size=16, num_channels=1)
    found = list(iterate_numpy(trajectory_dataset(drawn)))
    for clip, element in enumerate(found):
        np.testing.assert_array_equal(element["frames"], drawn.frames(clip, range(6)))
    assert len(found) == 3


@pytest.mark.parametrize("kind", ["pairs", "trajectories"])
def test_what_cannot_be_read_is_named(tf, kind):
    dataset = MAKERS[kind](TroubledClips("unreadable"), epochs=2).map(lambda element: element["clip"] + 1).batch(4)
    with pytest.raises(InputError, match=r"^seven.avi: cannot be decoded$"):
        list(iterate_numpy(dataset))
    with pytest.raises(tf.errors.OpError, match=r"InputError: seven.avi: cannot be decoded"):
        list(dataset)


def test_an_error_of_the_users_own_map_is_theirs(tf, clips):
    dataset = pair_dataset(clips, seed=0).map(
        lambda pair: tf.debugging.check_numerics(1 / (tf.cast(pair["clip"], tf.float32) - 3), "not finite")
    )
    with pytest.raises(tf.errors.InvalidArgumentError):
        list(iterate_numpy(dataset))


def test_a_damaged_record_is_named(tmp_path):
    write_download(tmp_path, train=[3], test=[1])
    (path,) = tmp_path.glob("*/train/*")
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"^{path} record 2: damaged, its checksum does not match"):
        list(iterate_numpy(trajectory_dataset(opened(tmp_path))))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "`epochs` is 0; it must be at least 1"),
        ({"num_shards": 0}, "`num_shards` is 0"),
        ({"start": -1}, "`start` is -1"),
        ({"num_shards": 2, "index": 2}, "`index` is 2; it must be at least 0 and below the number of shards, 2"),
        ({"seed": -3}, "`seed` is -3"),
    ],
)
def test_wrong_settings_are_named(clips, settings, message):
    for make in (pair_dataset, trajectory_dataset):
        with pytest.raises(InputError, match=message):
            make(clips, **{"seed": 0} | settings)
    with pytest.raises(InputError, match=r"`num_frames` is 13.*12 frames"):
        window_dataset(clips, num_frames=13, seed=0)
