"""Parses records of BAIR in TensorFlow graphs, for pipelines that begin with `tf.data.TFRecordDataset`.

Input: the record files of the download. Output: whole trajectories, with the same bytes as `open_clips` reads.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidcomp_jax.data.bair import LENGTH
from vidcomp_jax.data.bair_files import find_files
from vidcomp_jax.data.clips import Split
from vidcomp_jax.data.lazy_tensorflow import import_tensorflow
from vidcomp_jax.errors import InputError

CAMERAS = ("aux1", "main")
"""The two cameras of every trajectory."""
_tensorflow = functools.cache(import_tensorflow)
"""AutoGraph, which `map` uses, does not try to rewrite the import as a graph if its result is cached."""
_FLOATS = {"actions": ("action", 4), "positions": ("endeffector_pos", 3)}


def bair_record_files(data_dir: Path | str, split: Split) -> list[str]:
    """The record files of one split, ordered by name, as `tf.data.TFRecordDataset` takes them.

    Args:
        data_dir: the folder that the download was unpacked to (`softmotion30_44k`), or its parent.
        split: "train" or "test".

    Raises:
        InputError: there are no such files.
    """
    return [str(path) for path in find_files(Path(data_dir), split)]


def parse_bair(record: Any, cameras: Sequence[str] = CAMERAS) -> dict[str, Any]:
    """Parse one record, in a graph or eagerly: `tf.data.TFRecordDataset(files).map(parse_bair)`.

    Args:
        record: a string tensor [], the serialized `tf.train.Example` of a trajectory.
        cameras: those whose frames are returned; frames of others are not copied.

    Returns:
        Tensors by name: `image_aux1` and `image_main` (those of `cameras`), the frames, uint8 [30, 64, 64, 3];
        `actions`, the action of the robot at every frame, float32 [30, 4]; `positions`, the position of its end
        effector, float32 [30, 3].

    Raises:
        InputError: there is no such camera.
        tf.errors.InvalidArgumentError: when it runs, the record lacks a feature, or one has another size.
    """
    for camera in cameras:
        if camera not in CAMERAS:
            raise InputError(f"`cameras` has {camera}; BAIR has {' and '.join(CAMERAS)}")
    tf = _tensorflow()
    images = {f"image_{camera}": [f"{i}/image_{camera}/encoded" for i in range(LENGTH)] for camera in cameras}
    floats = {key: [f"{i}/{name}" for i in range(LENGTH)] for key, (name, _) in _FLOATS.items()}
    features = {name: tf.io.FixedLenFeature([], tf.string) for names in images.values() for name in names}
    for key, names in floats.items():
        features |= {name: tf.io.FixedLenFeature([_FLOATS[key][1]], tf.float32) for name in names}
    parsed = tf.io.parse_single_example(record, features)
    trajectory = {}
    for key, names in images.items():
        pixels = tf.io.decode_raw(tf.stack([parsed[name] for name in names]), tf.uint8)
        trajectory[key] = tf.reshape(pixels, [LENGTH, 64, 64, 3])
    for key, names in floats.items():
        trajectory[key] = tf.stack([parsed[name] for name in names])
    return trajectory
