"""Writes synthetic clips as record files in the layout of the BAIR robot pushing download."""

from pathlib import Path

import numpy as np

from vidcomp_jax.data import SyntheticClips, SyntheticConfig, import_tensorflow

LENGTH = 30


def write_download(folder: Path, *, train: list[int], test: list[int], draw: bool = True) -> None:
    """Write `softmotion30_44k/{train,test}` below `folder`.

    Args:
        folder: existing folder without a softmotion30_44k.
        train, test: number of trajectories in each file.
        draw: draw a robot; otherwise the frames are noise, which is a hundred times faster.
    """
    for split, counts in (("train", train), ("test", test)):
        path = folder / "softmotion30_44k" / split
        path.mkdir(parents=True)
        first = 0
        for count in counts:
            name = f"traj_{first}_to_{first + count - 1}.tfrecords"
            write_records(path / name, trajectories(count, seed=[first, split == "test"], draw=draw))
            first += count


def trajectories(count: int, *, seed: list[int], draw: bool) -> list[dict[str, np.ndarray]]:
    """Return `count` trajectories: two cameras' frames, uint8 [30, 64, 64, 3], actions [30, 4], positions [30, 3]."""
    rng = np.random.default_rng(seed)
    config = SyntheticConfig(scene="robot", num_train=count, length=LENGTH, seed=int(rng.integers(2**31)))
    scenes = SyntheticClips(config, "train", size=64, num_channels=3)
    made = []
    for number in range(count):
        frames = (
            scenes.frames(number, range(LENGTH)) if draw else rng.integers(0, 256, (LENGTH, 64, 64, 3), dtype=np.uint8)
        )
        made.append(
            {
                "image_aux1": frames,
                "image_main": frames[:, :, ::-1],
                "action": rng.normal(size=(LENGTH, 4)).astype(np.float32),
                "endeffector_pos": rng.normal(size=(LENGTH, 3)).astype(np.float32),
            }
        )
    return made


def write_records(path: Path, made: list[dict[str, np.ndarray]]) -> None:
    """Write trajectories to one file, as one record each."""
    tf = import_tensorflow()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for trajectory in made:
            features = {}
            for t in range(LENGTH):
                for camera in ("image_aux1", "image_main"):
                    pixels = tf.train.BytesList(value=[trajectory[camera][t].tobytes()])
                    features[f"{t}/{camera}/encoded"] = tf.train.Feature(bytes_list=pixels)
                for name in ("action", "endeffector_pos"):
                    values = tf.train.FloatList(value=trajectory[name][t])
                    features[f"{t}/{name}"] = tf.train.Feature(float_list=values)
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
