"""The demo, which trains a small model on synthetic clips and shows its results: `make demo`.

Trains a small First Order Motion Model, reconstructs held-out clips from their first frame, writes them as MP4, GIF
and an image panel, and prints their errors. A second run finds the trained model and only reconstructs.
"""

import dataclasses
from pathlib import Path
from typing import cast

import jax
import numpy as np

from experiments import train_fomm
from experiments.commands import run
from experiments.configs import synthetic
from vidcomp_jax.data import SyntheticClips, open_clips
from vidcomp_jax.data.clips import spread
from vidcomp_jax.data.synthetic.walker import left_first
from vidcomp_jax.fomm.loading import load_fomm
from vidcomp_jax.fomm.model import FirstOrderMotionModel
from vidcomp_jax.fomm.reconstruction import reconstruct, reconstruction_panel, reconstructions
from vidcomp_jax.media.images import to_float, write_image
from vidcomp_jax.media.panels import panel
from vidcomp_jax.media.video import VideoWriter
from vidcomp_jax.metrics import JointError, joint_error, score


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Train a small model on synthetic clips and show its results."""

    output: Path = Path("demo")
    """Folder of the results."""
    num_steps: int = 1200
    """Number of training steps; the default takes a few minutes on two CPU cores."""


@dataclasses.dataclass(frozen=True)
class Score:
    """What the demo measures on held-out clips.

    Attributes:
        model: L1 of the reconstructed frames, in [0, 1].
        source: L1 of repeating the first frame.
        mean: L1 of the constant mean image of the training clips.
        joints: mean distances of the figure's joints, in pixels, with left and right limbs ordered by position.
    """

    model: float
    source: float
    mean: float
    joints: JointError


def main(config: DemoConfig) -> int:
    """Train, reconstruct, print the errors, and return the exit code."""
    training = dataclasses.replace(synthetic(config.num_steps), workdir=config.output / "run")
    devices = jax.device_count()
    batch_size = -(-training.train.batch_size // devices) * devices
    training = dataclasses.replace(training, train=dataclasses.replace(training.train, batch_size=batch_size))
    stopped = train_fomm.train(training)
    if stopped:
        return stopped
    model = load_fomm(training.workdir)
    train, test = (cast(SyntheticClips, open_clips(training.data, split)) for split in ("train", "test"))
    files = write_results(config.output, model, test)
    measured = measure(model, train, test)
    print(f"\nHeld-out clips, reconstructed from their first frame (L1, {len(test.names)} clips):")
    print(f"  this model              {measured.model:.4f}")
    print(f"  repeating the frame     {measured.source:.4f}")
    print(f"  the mean image          {measured.mean:.4f}")
    print("Joints of the figure, by a linear fit to the unsupervised keypoints (error in pixels of 64):")
    print(f"  this model              {measured.joints.fitted:.2f}")
    print(f"  a fixed point           {measured.joints.fixed:.2f}")
    print("Look at:")
    for file in files:
        print(f"  {file}")
    return 0


def measure(model: FirstOrderMotionModel, train: SyntheticClips, test: SyntheticClips, num_fit: int = 100) -> Score:
    """Reconstruct all clips of `test`; fit the joints to the keypoints of the first `num_fit` clips of `train`."""
    mean = np.mean([train.frames(i, range(train.lengths[i])).mean(0) for i in range(num_fit)], axis=0) / 255
    errors, keypoints, joints = [], [], []
    for clip, found in enumerate(reconstructions(model, test)):
        truth = found.truth
        errors.append([score(frames, truth).l1.mean() for frames in (found.rendered.prediction, truth[:1], mean)])
        keypoints.append(found.keypoints.position)
        joints.append(left_first(test.joints(clip)))
    fit_keypoints, fit_joints = [], []
    for clip in range(num_fit):
        frames = to_float(train.frames(clip, range(train.lengths[clip])))
        fit_keypoints.append(model.detect(frames).position)
        fit_joints.append(left_first(train.joints(clip)))
    distances = joint_error(*[np.concatenate(parts) for parts in (fit_keypoints, fit_joints, keypoints, joints)])
    pixels = (test.frame_shape[1] - 1) / 2
    of_model, of_source, of_mean = map(float, np.mean(errors, axis=0))
    return Score(of_model, of_source, of_mean, JointError(*(d * pixels for d in distances)))


def write_results(folder: Path, model: FirstOrderMotionModel, clips: SyntheticClips, num_clips: int = 6) -> list[Path]:
    """Write a video, a GIF and a panel of evenly spaced clips; return their paths."""
    columns = []
    for clip in spread(len(clips.names), num_clips):
        found = reconstruct(model, to_float(clips.frames(clip, range(clips.lengths[clip]))))
        columns.append(list(map(np.asarray, (found.truth, found.rendered.deformed_source, found.rendered.prediction))))
    # One picture per time step: truth, warped source and prediction in rows, and one column per clip.
    pictures = [panel([[clip[row][t] for clip in columns] for row in range(3)]) for t in range(len(columns[0][0]))]
    pictures = [np.kron(picture, np.ones((2, 2, 1), np.uint8)) for picture in pictures]
    files = [folder / "reconstruction.mp4", folder / "reconstruction.gif", folder / "panel.png"]
    for file in files[:2]:
        with VideoWriter(file, fps=8) as video:
            for picture in pictures:
                video.write(picture[None])
    write_image(files[2], reconstruction_panel(model, clips))
    return files


if __name__ == "__main__":
    run(main, DemoConfig)
