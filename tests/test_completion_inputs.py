"""Inputs of completion: videos, images and folders of them, with their sizes, frame rates and names."""

from pathlib import Path

import numpy as np
import pytest

from vidcomp_jax.completion.inputs import clips_of_files
from vidcomp_jax.completion.outputs import check_rates
from vidcomp_jax.errors import InputError
from vidcomp_jax.media.images import write_image
from vidcomp_jax.media.video import VideoWriter


def test_rates_are_checked_before_the_work(tmp_path):
    with VideoWriter(tmp_path / "in.gif", fps=50.0) as video:
        video.write(np.zeros((3, 8, 8, 1), np.uint8))
    clips = clips_of_files([tmp_path / "in.gif"], 3, num_channels=1)
    check_rates(clips, "gif")
    faster = [clip._replace(fps=60.0) for clip in clips]
    check_rates(faster, "mp4")
    with pytest.raises(InputError, match=r"60\.0 frames per second; a GIF allows up to 50.*give `fps`=25"):
        check_rates(faster, "gif")


def test_resize_makes_images_of_different_sizes_a_pair(tmp_path):
    for name, shape in (("a.png", (8, 16, 1)), ("b.png", (32, 32, 1))):
        write_image(tmp_path / name, np.zeros(shape, np.uint8))
    (clip,) = clips_of_files([tmp_path / "a.png", tmp_path / "b.png"], 5, num_channels=1, size=8)
    assert clip.known.shape == (2, 8, 8, 1)
    with VideoWriter(tmp_path / "v.gif", fps=5.0) as video:
        video.write(np.zeros((3, 8, 8, 1), np.uint8))
    (tmp_path / "folder").mkdir()
    for name in ("0.png", "1.png"):
        write_image(tmp_path / "folder" / name, np.zeros((16, 16, 1), np.uint8))
    paths = [tmp_path / "v.gif", tmp_path / "folder"]
    with pytest.raises(InputError, match="v with 8x8 and folder with 16x16 pixels; give `resize`=N"):
        clips_of_files(paths, 5, num_channels=1)
    assert len(clips_of_files(paths, 5, num_channels=1, size=8)) == 2


def test_names_are_unique_and_never_empty(tmp_path, monkeypatch):
    for folder in ("a", "sub/a", "a-2", "sub/index.html", "sub/scores.json"):
        (tmp_path / folder).mkdir(parents=True)
        for name in ("0.png", "1.png"):
            write_image(tmp_path / folder / name, np.zeros((8, 8, 1), np.uint8))
    sub = tmp_path / "sub"
    paths = [tmp_path / "a", sub / "a", tmp_path / "a-2", sub / "index.html", sub / "scores.json"]
    names = [clip.name for clip in clips_of_files(paths, 5, num_channels=1)]
    assert names == ["a", "a-2", "a-2-2", "index.html-2", "scores.json-2"]
    monkeypatch.chdir(tmp_path / "a")
    assert [clip.name for clip in clips_of_files([Path(".")], 5, num_channels=1)] == ["a"]


def test_known_frames_of_videos_and_of_images_by_number(tmp_path):
    frames = np.arange(0, 250, 10, dtype=np.uint8)[:, None, None, None] * np.ones((8, 8, 1), np.uint8)
    with VideoWriter(tmp_path / "v.mp4", fps=25.0, lossless=True) as video:
        video.write(frames)
    (clip,) = clips_of_files([tmp_path / "v.mp4"], 25, (0, 7, 20), num_channels=1)
    assert np.abs(clip.known[:, 4, 4, 0] * 255 - [0, 70, 200]).max() < 3
    np.testing.assert_array_equal(clip.known, clip.truth[[0, 7, 20]])
    images = [tmp_path / f"{name}.png" for name in "abc"]
    for path, value in zip(images, (5, 100, 200), strict=True):
        write_image(path, np.full((8, 8, 1), value, np.uint8))
    (clip,) = clips_of_files(images, 9, (1, 4, 8), num_channels=1)
    assert clip.truth is None and clip.name == "a-c"
    np.testing.assert_allclose(clip.known[:, 0, 0, 0] * 255, [5, 100, 200], atol=1e-4)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for path in images:
        path.rename(folder / path.name)
    (clip,) = clips_of_files([folder], 9, (1, 4, 8), num_channels=1)
    np.testing.assert_allclose(clip.known[:, 0, 0, 0] * 255, [5, 100, 200], atol=1e-4)
    (clip,) = clips_of_files([folder], 9, num_channels=1)
    np.testing.assert_allclose(clip.known[:, 0, 0, 0] * 255, [5, 200], atol=1e-4)


def test_too_few_frames_for_the_known_ones_are_named(tmp_path):
    with VideoWriter(tmp_path / "v.gif", fps=5.0) as video:
        video.write(np.zeros((3, 8, 8, 1), np.uint8))
    folder = tmp_path / "two"
    folder.mkdir()
    for name in "ab":
        write_image(folder / f"{name}.png", np.zeros((8, 8, 1), np.uint8))
    for paths, says in (
        ([tmp_path / "v.gif"], r"v.gif: 3 frames; a video needs at least 9 to give the frames 0, 4, 8 of a clip of 9"),
        ([folder], r"two: 2 images; 3 frames are given, 0, 4, 8, so 3 images are needed"),
        ([folder / "a.png", folder / "b.png"], "2 image files among 2 paths; give one for each of the 3 given frames"),
    ):
        with pytest.raises(InputError, match=says) as error:
            clips_of_files(paths, 9, (0, 4, 8), num_channels=1)
        assert "\n" not in str(error.value)
    for times in ((0, 9), (3, 3), (4,)):
        with pytest.raises(InputError, match="`times` is"):
            clips_of_files([folder], 9, times, num_channels=1)
