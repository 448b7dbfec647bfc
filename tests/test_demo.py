"""The demo's claims after a shorter training: it beats model-free baselines, and keypoints follow the figure."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from vidcomp_jax.media.images import read_image
from vidcomp_jax.media.video import probe

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The output of the command, and its folder; it runs with XLA's default flags, as for users."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    command = [sys.executable, "-m", "experiments.demo", "--num-steps=150", f"--output={folder}"]
    environment = os.environ | {"XLA_FLAGS": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, folder


def test_better_than_what_needs_no_model(demo):
    text, _ = demo
    model, joints = map(float, re.findall(r"this model +([\d.]+)", text))
    source, mean, fixed = (
        float(re.search(rf"{name} +([\d.]+)", text)[1])
        for name in ("repeating the frame", "the mean image", "a fixed point")
    )
    assert model < 0.85 * source < mean
    assert joints < 0.6 * fixed


def test_results_are_videos_and_a_picture(demo):
    text, folder = demo
    video, gif, picture = (folder / name for name in ("reconstruction.mp4", "reconstruction.gif", "panel.png"))
    assert all(str(path) in text for path in (video, gif, picture))
    assert (probe(video).num_frames, probe(gif).num_frames) == (16, 16)
    assert probe(video).fps == 8
    assert read_image(picture).shape[1] > 7 * 64
