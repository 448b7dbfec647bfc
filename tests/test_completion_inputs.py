"""Inputs of completion: videos, images and folders of them, with their sizes, frame rates and names."""

from pathlib import Path

import numpy as np
import pytest

from vidcomp_jax.completion.inputs import ends_of_files
from vidcomp_jax.completion.outputs import check_rates
from vidcomp_jax.errors import InputError
from vidcomp_jax.media.images import write_image
from vidcomp_jax.media.video import VideoWriter


def test_rates_are_checked_before_the_work(tmp_path):
    with VideoWriter(tmp_path / "in.gif", fps=50.0) as video:
        video.write(np.zeros((3, 8, 8, 1), np.uint8))
    clips = ends_of_files([tmp_path / "in.gif"], 3, num_channels=1)
    check_rates(clips, "gif")
    faster = [clip._replace(fps=60.0) for clip in clips]
    check_rates(faster, "mp4")
    with pytest.raises(InputError, match=r"60\.0 frames per second; a GIF allows up to 50.*give `fps`=25"):
        check_rates(faster, "gif")


def test_resize_makes_images_of_different_sizes_a_pair(tmp_path):
    for name, shape in (("a.png", (8, 16, 1)), ("b.png", (32, 32, 1))):
        write_image(tmp_path / name, np.zeros(shape, np.uint8))
    (clip,) = ends_of_files([tmp_path / "a.png", tmp_path / "b.png"], 5, num_channels=1, size=8)
    assert clip.first.shape == clip.last.shape == (8, 8, 1)
    with VideoWriter(tmp_path / "v.gif", fps=5.0) as video:
        video.write(np.zeros((3, 8, 8, 1), np.uint8))
    (tmp_path / "folder").mkdir()
    for name in ("0.png", "1.png"):
        write_image(tmp_path / "folder" / name, np.zeros((16, 16, 1), np.uint8))
    paths = [tmp_path / "v.gif", tmp_path / "folder"]
    with pytest.raises(InputError, match="v with 8x8 and folder with 16x16 pixels; give `resize`=N"):
        ends_of_files(paths, 5, num_channels=1)
    assert len(ends_of_files(paths, 5, num_channels=1, size=8)) == 2


def test_names_are_unique_and_never_empty(tmp_path, monkeypatch):
    for folder in ("a", "sub/a", "a-2", "sub/index.html", "sub/scores.json"):
        (tmp_path / folder).mkdir(parents=True)
        for name in ("0.png", "1.png"):
            write_image(tmp_path / folder / name, np.zeros((8, 8, 1), np.uint8))
    sub = tmp_path / "sub"
    paths = [tmp_path / "a", sub / "a", tmp_path / "a-2", sub / "index.html", sub / "scores.json"]
    names = [clip.name for clip in ends_of_files(paths, 5, num_channels=1)]
    assert names == ["a", "a-2", "a-2-2", "index.html-2", "scores.json-2"]
    monkeypatch.chdir(tmp_path / "a")
    assert [clip.name for clip in ends_of_files([Path(".")], 5, num_channels=1)] == ["a"]
