"""Lists of video files as data sets."""

import dataclasses

import numpy as np
import pytest

from experiments.train_inbetween import synthetic
from vidcomp_jax.data import DataConfig, clip_list, open_clips
from vidcomp_jax.data.clip_list import ClipListConfig, entries_of_split, open_clip_list, read_clip_list
from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.loading import check_trained_data
from vidcomp_jax.media import video
from vidcomp_jax.media.video import VideoWriter, probe
from vidcomp_jax.storage.config import claim_workdir, save_config


def write(path, num_frames, size=(32, 48)):
    """Write a gray video in which frame t has brightness 10 t."""
    with VideoWriter(path, fps=10.0) as video:
        video.write(np.stack([np.full((*size, 1), 10 * t, np.uint8) for t in range(num_frames)]))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "videos").mkdir()
    write(tmp_path / "videos" / "long walk.mp4", 20)
    write(tmp_path / "videos" / "run.mp4", 8)
    return tmp_path


def write_list(folder, text):
    path = folder / "list.txt"
    path.write_text(text)
    return path


def opened(path, split, cache):
    config = ClipListConfig(test_fraction=0.5)
    return open_clip_list(path, split, size=16, num_channels=1, cache_dir=cache, config=config)


def test_lists_name_videos_and_ranges(folder):
    path = write_list(
        folder, "# my videos\nvideos/long walk.mp4 3 7\n\nvideos/run.mp4  # all of it\nvideos/long walk.mp4 10 19\n"
    )
    entries = read_clip_list(path)
    assert [(e.path.name, e.first, e.last) for e in entries] == [
        ("long walk.mp4", 3, 7),
        ("run.mp4", 0, 7),
        ("long walk.mp4", 10, 19),
    ]
    splits = [opened(path, split, folder / "cache") for split in ("train", "test")]
    lengths = sorted(sorted(map(int, clips.lengths)) for clips in splits)
    assert lengths == [[5, 10], [8]]  # no video is in both splits
    clips = max(splits, key=lambda clips: len(clips.names))
    assert clips.frame_shape == (16, 16, 1) and clips.fps == 10
    frames = clips.frames(int(np.argmin(clips.lengths)), [0, 4])
    np.testing.assert_allclose(frames.mean((1, 2, 3)), [30, 70], atol=3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("videos/run.mp4\nvideos/none.mp4\n", r"list\.txt line 2: .*none\.mp4"),
        ("videos/run.mp4 0 8\n", r"line 1: frames 0 to 8 of .*run\.mp4, which has 8; the last is number 7"),
        ("\nvideos/run.mp4 5 5\n", r"line 2: frames 5 to 5 of .*; a clip needs at least two"),
        ("videos/run.mp4\nlist.txt\n", r"line 2: .*list\.txt"),
        ("videos/run.mp4\nvideos/run.mp4 0 7\n", r"line 2: the same frames of .* as in .* line 1"),
        ("# nothing\n", "names no video"),
    ],
)
def test_bad_lines_are_named(folder, text, message):
    with pytest.raises(InputError, match=message):
        read_clip_list(write_list(folder, text))


def test_mixed_sizes_are_refused(folder):
    write(folder / "wide.mp4", 4, size=(32, 64))
    path = write_list(folder, "videos/run.mp4\nwide.mp4\n")
    with pytest.raises(InputError, match=r"line 2: .*wide\.mp4 has 64x32 pixels, the video of the first line 48x32"):
        read_clip_list(path)


def test_lists_that_cannot_be_used_are_refused(folder):
    with pytest.raises(InputError, match="no such file; a text file with one video per line was expected"):
        read_clip_list(folder / "none.txt")
    with pytest.raises(InputError, match="is a folder; a file was expected; a text file"):
        read_clip_list(folder)
    with pytest.raises(InputError, match="names one video only"):
        opened(write_list(folder, "videos/run.mp4\n"), "train", folder / "cache")
    with pytest.raises(InputError, match="`test_fraction` is 1"):
        ClipListConfig(test_fraction=1.0)


def test_a_list_is_read_in_place_of_a_data_set_and_a_model_keeps_to_its_split(folder, tmp_path):
    path = write_list(folder, "videos/run.mp4\nvideos/long walk.mp4 0 3\n")
    data = DataConfig(name="kth", clips=path, size=32, cache_dir=tmp_path / "cache")
    assert sorted(len(open_clips(data, split).names) for split in ("train", "test")) == [1, 1]
    save_config(tmp_path / "config.json", dataclasses.replace(synthetic(), data=data))
    check_trained_data(tmp_path, DataConfig(name="kth", size=32))  # allowed, as it is another data set
    with pytest.raises(InputError, match=r"`clip_list\.seed` is 1, the model was trained with 0"):
        check_trained_data(tmp_path, dataclasses.replace(data, name="bair", clip_list=ClipListConfig(seed=1)))


def test_what_cannot_be_decoded_is_left_out_on_request_only(folder, tmp_path, monkeypatch):
    write(folder / "jump.mp4", 4)
    path = write_list(folder, "videos/run.mp4\nvideos/long walk.mp4\njump.mp4\n")
    damaged, kept = entries_of_split(path, "train", ClipListConfig())
    decode = clip_list._frames

    def frames(entry, *settings):
        if entry.path == damaged.path:
            raise InputError(f"{entry.path}: damaged")
        return decode(entry, *settings)

    monkeypatch.setattr(clip_list, "_frames", frames)
    data = DataConfig(clips=path, size=16, cache_dir=tmp_path / "cache")
    with pytest.raises(InputError, match="damaged"):
        open_clips(data, "train")
    assert list(open_clips(dataclasses.replace(data, skip_unreadable=True), "train").names) == [kept.name]


def test_every_video_is_probed_once_until_it_changes(folder, monkeypatch):
    path = write_list(folder, "videos/long walk.mp4 0 9\nvideos/long walk.mp4 10 19\nvideos/run.mp4\n")
    asked = []
    monkeypatch.setattr(video, "probe", lambda video: asked.append(video.name) or probe(video))
    for split in ("train", "test"):
        opened(path, split, folder / "cache")
    assert sorted(asked) == ["long walk.mp4", "run.mp4"]
    write(folder / "videos" / "run.mp4", 12)
    assert read_clip_list(path)[-1].last == 11
    assert sorted(asked) == ["long walk.mp4", "run.mp4", "run.mp4"]


def test_a_run_goes_on_with_a_list_that_was_moved(tmp_path):
    def claim(**settings):
        data = dataclasses.replace(synthetic().data, **{"clips": tmp_path / "list.txt"} | settings)
        claim_workdir(tmp_path / "run", dataclasses.replace(synthetic(), data=data))

    claim()
    claim(clips=tmp_path / "moved" / "list.txt")
    with pytest.raises(InputError, match=r"data.clip_list.seed is 0 there, 1 now"):
        claim(clip_list=ClipListConfig(seed=1))
    with pytest.raises(InputError, match=r"data.clips is '.*list.txt' there, None now"):
        claim(clips=None)
