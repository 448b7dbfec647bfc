"""Folders of videos: every form reads the same, splits keep subjects apart, bad files are named."""

import dataclasses
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest

from vidcomp_jax.data import Clips, DataConfig, FolderConfig, open_clips, pairs
from vidcomp_jax.errors import InputError
from vidcomp_jax.media.images import resize, write_image
from vidcomp_jax.media.video import VideoWriter, read_frames

AVI = Path(__file__).parent / "data" / "kth_like" / "walking" / "person19_walking_d1_uncomp.avi"


def config(data_dir, tmp_path, size=32, num_channels=3, **settings):
    return DataConfig(
        name="folder",
        data_dir=data_dir,
        cache_dir=tmp_path / "cache",
        size=size,
        num_channels=num_channels,
        folder=FolderConfig(**settings),
    )


def shaded_frames(count=5, height=32, width=32, seed=0):
    corners = np.random.default_rng(seed).integers(0, 256, (count, 2, 2, 3), np.uint8)
    frames = resize(corners, 64)
    return frames[:, :height, :width]


def write_video(path, frames, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, fps=10.0, **settings) as writer:
        writer.write(frames)


def write_images(folder, frames):
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        write_image(folder / f"frame{number}.png", frame)


@pytest.fixture
def forms(tmp_path):
    """Folders with the same frames in every form as train/, and a video as test/."""
    data, frames = tmp_path / "data", shaded_frames(12)
    write_video(data / "train" / "a.mp4", frames, lossless=True)
    write_images(data / "train" / "b", frames)
    write_image(data / "train" / "c.png", np.concatenate(list(frames), 1))
    write_video(data / "train" / "deep" / "d.MOV.mp4", frames, lossless=True)
    shutil.copy(AVI, data / "train" / "e.avi")
    write_video(data / "train" / "f.gif", frames)
    write_video(data / "test" / "a.mp4", frames)
    (data / "train" / "notes.txt").write_text("not a video")
    (data / "train" / ".hidden.mp4").write_text("not a video")
    return data, frames


@pytest.mark.parametrize("cache", [True, False])
def test_every_form_gives_the_same_frames(forms, tmp_path, cache):
    data, frames = forms
    clips = open_clips(config(data, tmp_path, cache=cache), "train")
    assert isinstance(clips, Clips)
    assert clips.names == ["a.mp4", "b", "c.png", "deep/d.MOV.mp4", "e.avi", "f.gif"]
    assert clips.lengths.tolist() == [12, 12, 12, 12, 22, 12]
    assert (clips.frame_shape, clips.fps) == ((32, 32, 3), 10.0)
    for clip in (0, 1, 2, 3):
        np.testing.assert_array_equal(clips.frames(clip, range(12)), frames)
        np.testing.assert_array_equal(clips.frames(clip, [10, 2, 2]), frames[[10, 2, 2]])
    walking = resize(read_frames(AVI)[:, :, 20:140], 32)
    np.testing.assert_array_equal(clips.frames(4, [21, 0]), walking[[21, 0]])
    assert np.abs(clips.frames(5, range(12)).astype(int) - frames).mean() < 12
    with pytest.raises(IndexError):
        clips.frames(0, [12])
    assert open_clips(config(data, tmp_path, cache=cache), "test").names == ["a.mp4"]


def test_on_demand_clips_feed_training(forms, tmp_path):
    clips = open_clips(config(forms[0], tmp_path, cache=False), "train")
    (batch,) = itertools.islice(pairs(clips, batch_size=2, seed=0), 1)
    assert batch.source.shape == (2, 32, 32, 3)
    shutil.rmtree(forms[0])
    with pytest.raises(InputError, match="no such file"):
        list(itertools.islice(pairs(clips, batch_size=2, seed=1), 20))


@pytest.mark.parametrize(("fit", "columns"), [("crop", slice(12, 52)), ("stretch", slice(0, 64))])
def test_frames_that_are_not_square_are_cropped_or_stretched(tmp_path, fit, columns):
    frames = shaded_frames(3, 40, 64)
    write_images(tmp_path / "data" / "train" / "x", frames)
    clips = open_clips(config(tmp_path / "data", tmp_path, fit=fit), "train")
    np.testing.assert_array_equal(clips.frames(0, range(3)), resize(frames[:, :, columns], 32))


def test_images_are_ordered_as_people_number_them(tmp_path):
    frames = shaded_frames(11)
    write_images(tmp_path / "data" / "train" / "x", frames)  # frame10.png comes after frame9.png
    clips = open_clips(config(tmp_path / "data", tmp_path, image_fps=5.0), "train")
    np.testing.assert_array_equal(clips.frames(0, range(11)), frames)
    assert clips.fps == 5.0


@pytest.fixture
def subjects(tmp_path):
    """Ten subjects with one to three clips each, in one folder."""
    for number in range(10):
        for part in range(number % 3 + 1):
            strip = np.concatenate(list(shaded_frames(2, 8, 8, seed=number)), 1)
            path = tmp_path / "data" / f"id{number}#part{part}.png"
            path.parent.mkdir(exist_ok=True)
            write_image(path, strip)
    return tmp_path / "data"


def ids(clips):
    return {name.partition("#")[0] for name in clips.names}


def test_a_random_split_keeps_subjects_apart_and_is_reproducible(subjects, tmp_path):
    settings = config(subjects, tmp_path, size=8, test_fraction=0.3, seed=1)
    train, test = open_clips(settings, "train"), open_clips(settings, "test")
    assert len(ids(test)) == 3 and len(ids(train)) == 7
    assert not ids(train) & ids(test)
    assert len(train.names) + len(test.names) == 19
    assert open_clips(settings, "test").names == test.names
    tests = {
        tuple(open_clips(config(subjects, tmp_path, size=8, test_fraction=0.3, seed=seed), "test").names)
        for seed in range(4)
    }
    assert len(tests) > 1


@pytest.mark.parametrize("cache", [True, False])
def test_id_sampling_visits_every_subject_once_an_epoch(subjects, tmp_path, cache):
    by_clip = open_clips(config(subjects, tmp_path, size=8, cache=cache), "train")
    by_id = open_clips(config(subjects, tmp_path, size=8, cache=cache, id_sampling=True), "train")
    assert by_clip.subjects.tolist() == list(range(len(by_clip.names)))
    assert len(by_id.names) == len(by_clip.names)
    assert by_id.subjects.max() + 1 == len(ids(by_id)) == 8
    for name, number in zip(by_id.names, by_id.subjects, strict=True):
        first = next(i for i, other in enumerate(by_id.names) if other.partition("#")[0] == name.partition("#")[0])
        assert by_id.subjects[first] == number


@pytest.mark.parametrize("cache", [True, False])
def test_short_and_unreadable_clips_are_named_and_left_out(tmp_path, caplog, cache):
    train = tmp_path / "data" / "train"
    for number in range(20):
        write_images(train / f"clip{number}", shaded_frames(2, 8, 8))
    write_image(train / "single.png", shaded_frames(1, 8, 8)[0])
    write_images(train / "lonely", shaded_frames(1, 8, 8))
    (train / "bad.mp4").write_bytes(b"nonsense")
    clips = open_clips(config(tmp_path / "data", tmp_path, size=8, cache=cache), "train")
    assert len(clips.names) == 20
    assert clips.left_out.keys() == {"single.png", "lonely", "bad.mp4"}
    assert "3 of 23 videos left out" in caplog.text
    assert "single.png: one frame" in caplog.text and "bad.mp4: not a video" in caplog.text


@pytest.mark.parametrize("cache", [True, False])
def test_more_than_a_tenth_unreadable_stops(tmp_path, cache):
    train = tmp_path / "data" / "train"
    for number in range(8):
        write_images(train / f"clip{number}", shaded_frames(2, 8, 8))
    (train / "bad.mp4").write_bytes(b"nonsense")
    settings = config(tmp_path / "data", tmp_path, size=8, cache=cache)
    with pytest.raises(InputError, match=r"more than a tenth of 9 videos.*bad.mp4"):
        open_clips(settings, "train")
    assert len(open_clips(dataclasses.replace(settings, skip_unreadable=True), "train").names) == 8


def test_images_that_do_not_fit_are_named(tmp_path):
    write_images(tmp_path / "data" / "train" / "x", shaded_frames(3, 8, 8))
    write_image(tmp_path / "data" / "train" / "x" / "frame3.png", shaded_frames(1, 8, 9)[0])
    with pytest.raises(InputError, match=r"frame3.png: 9x8 pixels, but frame0.png beside it has 8x8"):
        open_clips(config(tmp_path / "data", tmp_path), "train")
    (tmp_path / "data" / "test").mkdir()
    write_image(tmp_path / "data" / "test" / "strip.png", shaded_frames(1, 8, 20)[0])
    with pytest.raises(InputError, match=r"strip.png: 20x8 pixels; the width of a strip"):
        open_clips(config(tmp_path / "data", tmp_path), "test")


def test_folders_without_videos_are_named(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    with pytest.raises(InputError, match="data: no videos here"):
        open_clips(config(data, tmp_path), "train")
    write_images(data / "only", shaded_frames(2, 8, 8))
    with pytest.raises(InputError, match=r"a single subject \(only\)"):
        open_clips(config(data, tmp_path), "train")
    (data / "train").mkdir()
    with pytest.raises(InputError, match="has train/ but no test/"):
        open_clips(config(data, tmp_path), "test")
    with pytest.raises(InputError, match="train: no videos here"):
        open_clips(config(data, tmp_path), "train")


@pytest.mark.parametrize("settings", [{"test_fraction": 1.0}, {"seed": -1}, {"image_fps": 0.0}])
def test_wrong_settings_are_named(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        FolderConfig(**settings)
