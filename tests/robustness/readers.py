"""Every kind of file that is read, with small whole examples of it and the function that reads it.

Add a new reader to `KINDS`; `test_readers.py` and `make fuzz` then damage its files without a change.
"""

import functools
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import yaml
from PIL import Image

from converters.torch_files import read_torch_file
from experiments.configs import CONFIGS, TrainFOMMConfig
from tests.support import golden
from vidcomp_jax.data.bair_files import find_prepared
from vidcomp_jax.data.clip_list import read_clip_list
from vidcomp_jax.data.kth_files import find_videos, read_sequences, unpacked
from vidcomp_jax.data.tfrecord import Features, find_records
from vidcomp_jax.data.video_pairs import read_pairs
from vidcomp_jax.evaluation.records import Records
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.fomm.official import read_official
from vidcomp_jax.media.images import read_image
from vidcomp_jax.media.video import VideoWriter, iterate_frames, probe
from vidcomp_jax.motion.motion_file import MotionClips
from vidcomp_jax.storage.config import load_config, save_config
from vidcomp_jax.storage.folders import MARKER, mark, marker_of
from vidcomp_jax.training.curves import draw_curves, read_scalars

_SHARD = "bair_robot_pushing_small-test.tfrecord-00000-of-00001"
AVI = Path(__file__).parents[1] / "data" / "kth_like" / "walking" / "person19_walking_d1_uncomp.avi"


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        name: path of the file in a folder of its own.
        write: writes a whole file.
        read: reads it; it must succeed or raise an `InputError`.
        share: how often `make fuzz` damages it, relative to the others; less for those that take long to read.
        beside: name of another file that must be beside it, whose content does not matter, a video.
    """

    name: str
    write: Callable[[Path], object]
    read: Callable[[Path], object]
    share: int = 10
    beside: str = ""


def _video(path: Path) -> None:
    with VideoWriter(path, fps=10.0) as video:
        video.write(np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8))


def _read_video(path: Path) -> None:
    probe(path)
    for _ in iterate_frames(path):
        pass


def _image(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)).save(path)


def _motion(path: Path) -> None:
    rng = np.random.default_rng(0)
    keypoints = Keypoints(rng.normal(size=(5, 3, 2)).astype("f"), rng.normal(size=(5, 3, 2, 2)).astype("f"))
    preview = (rng.integers(0, 256, (2, 8, 8, 1), np.uint8),)
    clips = MotionClips(("a", "ä"), np.array([2, 3]), keypoints, 25.0, "0123456789abcdef", "train", preview, (0,))
    clips.save(path)


def _official(path: Path) -> None:
    params = golden.layouts()["tiny-gray"]["model_params"]
    path.write_text(yaml.safe_dump({"model_params": params, "visualizer_params": {"kp_size": 5}}))


def _record(path: Path) -> None:
    from tools.bair_records import trajectories, write_records

    write_records(path, trajectories(1, seed=[0], draw=False))


def _read_record(path: Path) -> None:
    for record in find_records(path):
        features = Features(record, record.read())
        for name in features.names():
            (features.floats if "image" not in name else features.byte_strings)(name)


def _archive(path: Path, compression: int) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.write(AVI, AVI.name)


def _read_archive(path: Path) -> None:
    for source in find_videos(path.parent, range(1, 26)):
        with unpacked(source) as video:
            probe(video)


def _torch(path: Path, zipped: bool) -> None:
    content = {
        "generator": {"a.weight": torch.arange(40.0).reshape(4, 10)},
        "half": torch.ones(3).bfloat16(),
        "epoch": 3,
    }
    torch.save(content, path, _use_new_zipfile_serialization=zipped)


def _prepared(path: Path) -> None:
    path.write_text(json.dumps({"fileFormat": "tfrecord", "splits": [{"name": "test", "shardLengths": [3]}]}))


def _scores(path: Path) -> None:
    Records(path.parent).save(0, {"l1": np.arange(6.0).reshape(2, 3), "names": np.array(["a", "b"])})


def _log(path: Path) -> None:
    lines = [json.dumps({"step": step, "loss": 1 / (step + 1)}) for step in range(4)]
    path.write_text("\n".join(lines) + "\n")


@functools.cache
def _pairs() -> str:
    text = io.StringIO()
    text.write("driving,source\r\n" + "a.mp4,b.mp4\r\n" * 3)
    return text.getvalue()


KINDS: dict[str, Kind] = {
    "mp4": Kind("x.mp4", _video, _read_video, 3),
    "gif": Kind("x.gif", _video, _read_video, 3),
    "avi": Kind("x.avi", lambda path: path.write_bytes(AVI.read_bytes()), _read_video, 3),
    "png": Kind("x.png", _image, read_image),
    "jpeg": Kind("x.jpg", _image, read_image),
    "bmp": Kind("x.bmp", _image, read_image),
    "motion": Kind("motion.npz", _motion, MotionClips.load),
    "scores": Kind("clips/00000.npz", _scores, lambda path: Records(path.parent).load(0)),
    "config": Kind(
        "config.json",
        lambda path: save_config(path, CONFIGS["synthetic"]),
        lambda path: load_config(path, TrainFOMMConfig),
    ),
    "marker": Kind(MARKER, lambda path: mark(path.parent, "model"), lambda path: marker_of(path.parent)),
    "log": Kind("metrics.jsonl", _log, lambda path: draw_curves(read_scalars(path))),
    "yaml": Kind("official.yaml", _official, lambda path: read_official(path).model(), 5),
    "record": Kind("x.tfrecords", _record, _read_record),
    "prepared": Kind(
        "bair_robot_pushing_small/2.0.0/dataset_info.json",
        _prepared,
        lambda path: find_prepared(path.parents[2], "test"),
        beside=_SHARD,
    ),
    "zip": Kind("walking.zip", lambda path: _archive(path, zipfile.ZIP_DEFLATED), _read_archive, 3),
    "lzma": Kind("walking.zip", lambda path: _archive(path, zipfile.ZIP_LZMA), _read_archive, 3),
    "sequences": Kind(
        "00sequences.txt",
        lambda path: path.write_text("person01_walking_d1\tframes\t1-75, 152-225\n" * 3),
        lambda path: read_sequences(path.parent),
    ),
    "list": Kind("list.txt", lambda path: path.write_text("a.avi 0 9\na.avi 10 19\n"), read_clip_list, 3, "a.avi"),
    "pairs": Kind(
        "pairs.csv", lambda path: path.write_text(_pairs()), lambda path: read_pairs(path, ["a.mp4", "b.mp4"], 2)
    ),
    "torch": Kind("x.pth", lambda path: _torch(path, False), read_torch_file),
    "torch-zip": Kind("x.pth", lambda path: _torch(path, True), read_torch_file),
}
