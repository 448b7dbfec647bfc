"""Records of BAIR parsed in a TensorFlow graph have the bytes that our own reader gives."""

import subprocess
import sys

import numpy as np
import pytest

from tools.bair_records import write_download
from vidcomp_jax.data import (
    BairConfig,
    DataConfig,
    bair_record_files,
    import_tensorflow,
    iterate_numpy,
    open_clips,
    parse_bair,
    trajectory_dataset,
)
from vidcomp_jax.errors import InputError


@pytest.fixture(scope="module")
def tf():
    return import_tensorflow()


@pytest.fixture(scope="module")
def download(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bair")
    write_download(folder, train=[3, 2], test=[1])
    return folder


@pytest.fixture(scope="module")
def parsed(tf, download):
    return tf.data.TFRecordDataset(bair_record_files(download, "train")).map(parse_bair)


def test_the_element_spec_is_that_documented(tf, parsed):
    frames = tf.TensorSpec((30, 64, 64, 3), tf.uint8)
    floats = {
        "actions": tf.TensorSpec((30, 4), tf.float32),
        "positions": tf.TensorSpec((30, 3), tf.float32),
    }
    assert parsed.element_spec == {"image_aux1": frames, "image_main": frames, **floats}
    one = tf.data.Dataset.from_tensors("").map(lambda record: parse_bair(record, cameras=("main",)))
    assert one.element_spec == {"image_main": frames, **floats}


@pytest.mark.parametrize("camera", ["aux1", "main"])
def test_both_readers_give_the_same_bytes(download, parsed, camera):
    config = DataConfig(name="bair", data_dir=download, num_channels=3, bair=BairConfig(camera=camera))
    clips = open_clips(config, "train")
    ours, theirs = (list(iterate_numpy(dataset)) for dataset in (trajectory_dataset(clips), parsed))
    assert len(ours) == len(theirs) == 5
    for mine, other in zip(ours, theirs, strict=True):
        assert mine["frames"].tobytes() == other[f"image_{camera}"].tobytes()
        for name in ("actions", "positions"):
            assert mine[name].tobytes() == other[name].tobytes()
    assert len({mine["frames"].tobytes() for mine in ours}) == 5


def test_a_record_can_be_parsed_outside_of_a_graph(tf, download, parsed):
    (record,) = tf.data.TFRecordDataset(bair_record_files(download / "softmotion30_44k", "test"))
    found = parse_bair(record, cameras=["aux1"])
    assert sorted(found) == ["actions", "image_aux1", "positions"]
    assert found["image_aux1"].shape == (30, 64, 64, 3) and np.ptp(found["image_aux1"].numpy()) > 0


def test_what_is_wrong_is_named(tf, tmp_path):
    with pytest.raises(InputError, match=r"`cameras` has left; BAIR has aux1 and main"):
        parse_bair("", cameras=("left",))
    with pytest.raises(InputError, match=r"no softmotion30_44k/train here"):
        bair_record_files(tmp_path, "train")
    other = tf.train.Example(
        features=tf.train.Features(feature={"0/action": tf.train.Feature(float_list=tf.train.FloatList(value=[0] * 4))})
    )
    dataset = tf.data.Dataset.from_tensors(other.SerializeToString()).map(parse_bair)
    with pytest.raises(tf.errors.InvalidArgumentError, match="is required but could not be found"):
        list(dataset)


SCRIPT = """
import sys
import tensorflow as tf
from vidcomp_jax.data import bair_record_files, parse_bair
files = bair_record_files(sys.argv[1], "train")
dataset = tf.data.TFRecordDataset(files).shuffle(100, seed=0).map(parse_bair).batch(2)
print(next(iter(dataset))["image_main"].shape)
"""


def test_mapping_it_says_nothing(download):
    """AutoGraph would warn, with all of the environment in its message, of functions that it cannot rewrite."""
    command = [sys.executable, "-c", SCRIPT, str(download)]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert shown.stdout == "(2, 30, 64, 64, 3)\n" and "AutoGraph" not in shown.stderr
