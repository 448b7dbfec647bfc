"""BAIR as downloaded: frames equal those of TensorFlow Datasets; damaged files and records are reported by name."""

import dataclasses
import importlib.resources.abc
import importlib.util
import itertools
import shutil
import sys

import numpy as np
import pytest

from tools.bair_records import trajectories, write_download, write_records
from vidcomp_jax.data import BairConfig, Clips, DataConfig, import_tensorflow, open_clips, pairs, windows
from vidcomp_jax.devices import BatchShare
from vidcomp_jax.errors import InputError
from vidcomp_jax.media.images import resize

LENGTH = 30


@pytest.fixture(scope="session")
def download(tmp_path_factory):
    """The layout of the download: two training files of several trajectories and one test file."""
    folder = tmp_path_factory.mktemp("bair")
    write_download(folder, train=[3, 2], test=[1])
    return folder


@pytest.fixture
def copy(download, tmp_path):
    """A copy that a test may damage: the folder, and its two training files."""
    shutil.copytree(download, tmp_path / "bair")
    return tmp_path / "bair", sorted((tmp_path / "bair").glob("*/train/*"))


@pytest.fixture(scope="session")
def examples(download):
    """The frames that TensorFlow Datasets reads from the training files, by name."""
    import_tensorflow()
    from tensorflow_datasets.datasets.bair_robot_pushing_small import bair_robot_pushing_small_dataset_builder as tfds

    return dict(tfds.Builder._generate_examples(None, str(download / "softmotion30_44k" / "train")))


def config(data_dir, tmp_path, **settings):
    return DataConfig(name="bair", data_dir=data_dir, cache_dir=tmp_path / "cache", num_channels=3, **settings)


def stacked(example, name):
    return np.stack([np.asarray(step[name]) for step in example])


def flip_byte(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("camera", ["aux1", "main"])
def test_frames_actions_and_positions_equal_those_of_tfds(download, examples, tmp_path, camera):
    clips = open_clips(config(download, tmp_path, bair=BairConfig(camera=camera)), "train")
    assert isinstance(clips, Clips)
    assert clips.names == list(examples)
    assert (clips.frame_shape, set(clips.lengths)) == ((64, 64, 3), {LENGTH})
    for clip, example in enumerate(examples.values()):
        frames = stacked(example, f"image_{camera}")
        np.testing.assert_array_equal(clips.frames(clip, range(LENGTH)), frames)
        np.testing.assert_array_equal(clips.frames(clip, [29, 4]), frames[[29, 4]])
        np.testing.assert_array_equal(clips.actions(clip), stacked(example, "action").astype(np.float32))
        np.testing.assert_array_equal(clips.positions(clip), stacked(example, "endeffector_pos").astype(np.float32))
    assert len(open_clips(config(download / "softmotion30_44k", tmp_path), "test").names) == 1
    with pytest.raises(IndexError):
        clips.frames(5, [0])
    with pytest.raises(IndexError):
        clips.frames(0, [30])


@pytest.fixture(scope="session")
def prepared(download, tmp_path_factory):
    """The folder in which TFDS prepared its data set from the same files."""
    import_tensorflow()
    import tensorflow_datasets as tfds

    folder = tmp_path_factory.mktemp("tfds")
    builder = tfds.builder("bair_robot_pushing_small", data_dir=folder)
    with pytest.MonkeyPatch.context() as patch:
        if importlib.util.find_spec("importlib_resources") is None:  # needed by TFDS 4.9.10, which does not declare it
            patch.setitem(sys.modules, "importlib_resources", importlib.resources)
        patch.setattr(tfds.download.DownloadManager, "download_and_extract", lambda self, url: str(download))
        builder.download_and_prepare(file_format="tfrecord")
    return folder


def test_what_tfds_prepared_gives_the_same_clips(download, prepared, tmp_path):
    """TFDS shuffles the trajectories, so they are matched by their actions."""
    native = open_clips(config(download, tmp_path, bair=BairConfig(camera="main")), "train")
    clips = open_clips(config(prepared, tmp_path, bair=BairConfig(camera="main", tfds=True)), "train")
    assert len(clips.names) == len(native.names)
    by_action = {native.actions(clip).tobytes(): clip for clip in range(5)}
    partners = [by_action[clips.actions(clip).tobytes()] for clip in range(5)]
    assert sorted(partners) == [0, 1, 2, 3, 4]
    for clip, partner in enumerate(partners):
        np.testing.assert_array_equal(clips.frames(clip, [0, 29, 7]), native.frames(partner, [0, 29, 7]))
        np.testing.assert_array_equal(clips.positions(clip), native.positions(partner))


def test_a_prepared_data_set_that_is_not_whole_is_named(prepared, tmp_path):
    tfds = BairConfig(tfds=True)
    with pytest.raises(InputError, match="prepare bair_robot_pushing_small with TFDS"):
        open_clips(config(tmp_path, tmp_path, bair=tfds), "train")
    shutil.copytree(prepared, tmp_path / "tfds")
    (info,) = (tmp_path / "tfds").glob("*/*/dataset_info.json")
    next(info.parent.glob("*-test.tfrecord*")).unlink()
    with pytest.raises(InputError, match=r"test.tfrecord-00000-of-00001: no such file"):
        open_clips(config(tmp_path / "tfds", tmp_path, bair=tfds), "test")
    info.write_text(info.read_text().replace("tfrecord", "array_record"))
    with pytest.raises(InputError, match="prepared as array_record; prepare it with file_format=tfrecord"):
        open_clips(config(tmp_path / "tfds", tmp_path, bair=tfds), "train")
    info.write_text("{}")
    with pytest.raises(InputError, match=r"not a dataset_info.json"):
        open_clips(config(tmp_path / "tfds", tmp_path, bair=tfds), "train")


def test_sizes_and_channels_are_made_like_everywhere(download, tmp_path):
    stored = open_clips(config(download, tmp_path), "train").frames(1, [3, 8])
    for size in (32, 128):
        settings = dataclasses.replace(config(download, tmp_path), size=size, num_channels=1)
        clips = open_clips(settings, "train")
        assert clips.frame_shape == (size, size, 1)
        luma = resize(stored, size) @ np.array([0.299, 0.587, 0.114])
        np.testing.assert_allclose(clips.frames(1, [3, 8])[..., 0], luma, atol=0.6)


def test_sequence_examples_and_other_orders_are_read_too(tmp_path):
    """Protocol buffers guarantee no order of features; TFDS reads the files as `SequenceExample`."""
    tf = import_tensorflow()
    made = trajectories(2, seed=[1], draw=False)
    folder = tmp_path / "bair" / "train"
    folder.mkdir(parents=True)
    write_records(folder / "a.tfrecords", made)
    (first, second) = tf.compat.v1.io.tf_record_iterator(str(folder / "a.tfrecords"))
    example = tf.train.Example.FromString(second)
    entries = [
        tf.train.Features(feature={name: example.features.feature[name]}).SerializeToString()
        for name in sorted(example.features.feature, reverse=True)
    ]
    context = b"".join(entries)
    with tf.io.TFRecordWriter(str(folder / "a.tfrecords")) as writer:
        writer.write(first)
        writer.write(tf.train.SequenceExample(context=tf.train.Features.FromString(context)).SerializeToString())
        writer.write(b"\x0a" + _varint(len(context)) + context)
    clips = open_clips(config(tmp_path / "bair", tmp_path), "train")
    for clip, expected in enumerate([made[0], made[1], made[1]]):
        np.testing.assert_array_equal(clips.frames(clip, [2, 17]), expected["image_aux1"][[2, 17]])
        np.testing.assert_array_equal(clips.actions(clip), expected["action"])


def _varint(number):
    parts = []
    while number:
        parts.append(number & 0x7F | (0x80 if number >> 7 else 0))
        number >>= 7
    return bytes(parts)


def test_batches_resume_and_divide_over_processes(download, tmp_path):
    clips = open_clips(config(download, tmp_path), "train")
    for per_clip in (1, 3):
        settings = {"batch_size": 4, "seed": 2, "pairs_per_clip": per_clip}
        whole = list(itertools.islice(pairs(clips, **settings), 4))
        for batch, again in zip(whole[2:], pairs(clips, share=BatchShare(2), **settings), strict=False):
            np.testing.assert_array_equal(np.stack(batch), np.stack(again))
        shares = [pairs(clips, share=BatchShare(0, i, 2), **settings) for i in range(2)]
        for batch, *parts in zip(whole, *shares, strict=False):
            np.testing.assert_array_equal(batch.driving, np.concatenate([part.driving for part in parts]))
    assert next(windows(clips, num_frames=16, batch_size=2, seed=0)).shape == (2, 16, 64, 64, 3)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (9, r"traj_0_to_2.tfrecords: not a TFRecord file"),
        (-500_000, r"traj_0_to_2.tfrecords record 2: damaged, its checksum does not match"),
        (-1, r"traj_0_to_2.tfrecords record 2: damaged, its checksum does not match"),
    ],
)
def test_a_flipped_byte_is_named_and_never_used(copy, tmp_path, place, message):
    folder, (first, _) = copy
    flip_byte(first, place)
    with pytest.raises(InputError, match=message):
        clips = open_clips(config(folder, tmp_path), "train")
        next(pairs(clips, batch_size=5, seed=0))


def test_a_length_that_is_damaged_hides_what_follows_and_is_named(copy, tmp_path):
    folder, (first, _) = copy
    flip_byte(first, first.stat().st_size // 3)  # the length field of record 1
    with pytest.raises(InputError, match=r"record 1: damaged, the checksum of its length .* what follows cannot be"):
        open_clips(config(folder, tmp_path), "train")


def test_files_that_end_too_early_are_named(copy, tmp_path):
    folder, (first, second) = copy
    whole = second.read_bytes()
    for end in (len(whole) - 1, len(whole) // 2 + 5, 1000):
        second.write_bytes(whole[:end])
        with pytest.raises(InputError, match=rf"{second.name} record {int(end > 1000)}: the file is cut off"):
            open_clips(config(folder, tmp_path), "train")
    second.write_bytes(b"")
    with pytest.raises(InputError, match=rf"{second.name}: an empty file"):
        open_clips(config(folder, tmp_path), "train")
    second.write_bytes(b"RIFF, a film of something")
    with pytest.raises(InputError, match=rf"{second.name}: not a TFRecord file"):
        open_clips(config(folder, tmp_path), "train")
    second.write_bytes(whole)
    clips = open_clips(config(folder, tmp_path), "train")
    first.write_bytes(first.read_bytes()[:5000])  # while `clips` uses the file
    with pytest.raises(InputError, match="record 2: the file is cut off"):
        clips.frames(2, [0])


def test_skip_unreadable_leaves_out_damaged_records_and_counts_them(copy, tmp_path, caplog):
    folder, (first, second) = copy
    flip_byte(first, 400_000)
    second.write_bytes(second.read_bytes()[:-10])
    settings = config(folder, tmp_path, skip_unreadable=True)
    clips = open_clips(settings, "train")
    assert clips.names == ["traj_0_to_2.tfrecords_1", "traj_0_to_2.tfrecords_2", "traj_3_to_4.tfrecords_0"]
    assert list(clips.left_out) == ["traj_3_to_4.tfrecords", "traj_0_to_2.tfrecords_0"]
    assert "2 of 5 videos left out" in caplog.text and "record 0: damaged" in caplog.text
    assert open_clips(settings, "train").names == clips.names  # from the stored result
    known = next(path for path in settings.cache_dir.rglob("*.json") if "record 0: damaged" in path.read_text())
    for damaged in ("", "{", "[]", '{"a": 1}'):
        known.write_text(damaged)
        assert open_clips(settings, "train").names == clips.names
        assert "record 0: damaged" in known.read_text()
    assert len(next(pairs(clips, batch_size=6, seed=0)).source) == 6
    flip_byte(first, 400_000 + first.stat().st_size // 3)
    assert len(open_clips(settings, "train").names) == 2  # the file changed, so it is checked again


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": b"cat"}, "record 0: no feature 0/image_aux1/encoded; is it of another data set?"),
        ({"0/image_aux1/encoded": b"x" * 100}, r"0/image_aux1/encoded holds 100 bytes, 12288 were expected"),
        ({"5/action": [1.0, 2.0]}, r"5/action holds 2 numbers, 4 were expected"),
        ({"5/action": b"text"}, r"feature 5/action is not of floats"),
        (b"\x08\x01", r"record 0: not a tf.train.Example"),
        (b"\x0a\xff\xff\x7fxy", r"record 0: not a tf.train.Example"),
        (b"", r"record 0: no feature 0/image_aux1/encoded"),
    ],
)
def test_records_of_another_data_set_are_named(tmp_path, change, message):
    tf = import_tensorflow()
    folder = tmp_path / "bair" / "train"
    folder.mkdir(parents=True)
    path = str(folder / "a.tfrecords")
    write_records(folder / "a.tfrecords", trajectories(1, seed=[0], draw=False))
    (record,) = tf.compat.v1.io.tf_record_iterator(path)
    if isinstance(change, dict):
        example = tf.train.Example.FromString(record if "label" not in change else b"")
        for name, value in change.items():
            feature = example.features.feature[name]
            feature.Clear()
            if isinstance(value, bytes):
                feature.bytes_list.value.append(value)
            else:
                feature.float_list.value.extend(value)
        change = example.SerializeToString()
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(change)
    with pytest.raises(InputError, match=message):
        open_clips(config(tmp_path / "bair", tmp_path), "train")


def test_wrong_folders_and_settings_are_named(tmp_path):
    with pytest.raises(InputError, match=r"no softmotion30_44k/train here; BAIR unpacks to"):
        open_clips(config(tmp_path, tmp_path), "train")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "readme.txt").touch()
    with pytest.raises(InputError, match=r"train: no .tfrecords files here"):
        open_clips(config(tmp_path, tmp_path), "train")

    with pytest.raises(InputError, match="`pairs_per_record` is 0"):
        DataConfig(pairs_per_record=0)
