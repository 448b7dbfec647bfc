"""Clips of long videos: cut, sampled at a rate, taken from a box, without the whole video in memory."""

import dataclasses
import errno
import itertools
import os
import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

from vidcomp_jax.data import DataConfig, FolderConfig, open_clips, pairs
from vidcomp_jax.data.collected import CollectedFrames
from vidcomp_jax.data.datasets import differences
from vidcomp_jax.data.folder import clips as folder_clips
from vidcomp_jax.data.folder import decoding
from vidcomp_jax.data.folder.sampling import Sampling
from vidcomp_jax.data.folder.scenes import SceneScores
from vidcomp_jax.data.sources import Progress
from vidcomp_jax.errors import InputError
from vidcomp_jax.media.ffmpeg import executable
from vidcomp_jax.media.images import center_square, resize, write_image
from vidcomp_jax.media.video import VideoWriter, read_frames

AVI = Path(__file__).parent / "data" / "kth_like" / "walking" / "person19_walking_d1_uncomp.avi"


def scene(number, count, height=40, width=60):
    """A dark or light picture that drifts by one pixel a frame."""
    rng = np.random.default_rng(number)
    picture = resize(rng.integers(0, 100, (1, 4, 4, 3), np.uint8), 128)[0] + np.uint8(100 * (number % 2))
    return np.stack([picture[i % 60 : i % 60 + height, i % 60 : i % 60 + width] for i in range(count)])


def write(path, frames, fps=10.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, fps=fps, lossless=True) as writer:
        writer.write(frames)


@pytest.fixture
def videos(tmp_path):
    """Two videos of one subject and one of another, with scenes of 20, 3 and 30, of 8, and of 25 frames."""
    film = np.concatenate([scene(1, 20), scene(2, 3), scene(3, 30)])
    write(tmp_path / "videos" / "train" / "ann#film.mp4", film)
    write(tmp_path / "videos" / "train" / "ann#short.mp4", scene(1, 8))
    write(tmp_path / "videos" / "train" / "bob.mp4", scene(4, 25))
    write(tmp_path / "videos" / "test" / "eve.mp4", scene(5, 25))
    return tmp_path / "videos"


def config(videos, **settings):
    folder = FolderConfig(**settings)
    cache = videos.parent / "cache"
    return DataConfig(name="folder", data_dir=videos, cache_dir=cache, size=16, num_channels=3, folder=folder)


def expected(name, videos, box=None):
    frames = read_frames(videos / "train" / name)
    if box:
        frames = frames[:, box[1] : box[1] + box[3], box[0] : box[0] + box[2]]
    return resize(center_square(frames), 16)


@pytest.mark.parametrize("cache", [True, False])
def test_clips_of_one_length_are_named_after_their_videos(videos, caplog, cache):
    settings = config(videos, cut="fixed", num_frames=10, cache=cache)
    clips = open_clips(settings, "train")
    film = [f"ann#film.mp4#{start}-{start + 9}" for start in range(0, 50, 10)]
    assert clips.names == [*film, "bob.mp4#0-9", "bob.mp4#10-19"]
    assert clips.lengths.tolist() == [10] * 7 and clips.subjects.tolist() == list(range(7))
    np.testing.assert_array_equal(clips.frames(4, range(10)), expected("ann#film.mp4", videos)[40:50])
    np.testing.assert_array_equal(clips.frames(6, [9, 0]), expected("bob.mp4", videos)[[19, 10]])
    assert clips.left_out == {"ann#short.mp4": "ann#short.mp4: 8 frames, a clip has 10 (`folder.num_frames`)"}
    assert "cut into 7 clips; 16 of 86 frames (18.6%) are in no clip" in caplog.text
    by_subject = open_clips(config(videos, cut="fixed", num_frames=10, cache=cache, id_sampling=True), "train")
    assert by_subject.subjects.tolist() == [0] * 5 + [1] * 2
    (batch,) = itertools.islice(pairs(clips, batch_size=2, seed=0), 1)
    assert batch.source.shape == (2, 16, 16, 3)


@pytest.mark.parametrize("cache", [True, False])
def test_a_clip_begins_where_the_scene_changes(videos, cache):
    clips = open_clips(config(videos, cut="scenes", min_frames=4, cache=cache), "train")
    assert clips.names == ["ann#film.mp4#0-19", "ann#film.mp4#23-52", "ann#short.mp4#0-7", "bob.mp4#0-24"]
    np.testing.assert_array_equal(clips.frames(1, range(30)), expected("ann#film.mp4", videos)[23:])
    cut, changes = clips.remarks
    assert cut == "cut into 4 scenes; 3 of 86 frames (3.5%) are in no clip"
    found = re.fullmatch(
        r"the weakest change of scene scores (\S+), and the strongest change within a scene (\S+); "
        r"`folder.scene_threshold` is 10",
        changes,
    )
    assert found is not None and float(found[1]) > 20 > 5 > float(found[2])
    whole = open_clips(config(videos, cut="scenes", scene_threshold=90.0, min_frames=4, cache=cache), "train")
    assert whole.names[0] == "ann#film.mp4#0-52"
    assert len(list((videos.parent / "cache").iterdir())) == 1  # nothing was decoded again
    clips = open_clips(config(videos, cut="scenes", min_frames=9, cache=cache), "train")
    assert clips.left_out == {
        "ann#short.mp4": "ann#short.mp4: its only scene has fewer than 9 frames (`folder.min_frames`)"
    }


def test_scores_are_those_of_ffmpeg():
    """The filter `scdet` scores at full size; frames of the size of KTH are scored at full size here, too."""
    video = np.concatenate([read_frames(AVI, num_channels=1)[:12], 255 - read_frames(AVI, num_channels=1)[12:]])
    command = [executable(), "-v", "info", "-f", "rawvideo", "-pix_fmt", "gray", "-s", "120x120", "-i", "pipe:0"]
    filters = ["-vf", "scdet=threshold=0,metadata=print:key=lavfi.scd.score", "-f", "null", "-"]
    frames = np.ascontiguousarray(video[:, :, 20:140])
    done = subprocess.run([*command, *filters], input=frames.tobytes(), capture_output=True, check=True)
    official = [float(x) for x in re.findall(rb"lavfi\.scd\.score=([\d.]+)", done.stderr)]
    scores = SceneScores()
    scores.add(frames[:5])
    scores.add(frames[5:])
    ours = scores.of_frames(np.arange(22))
    assert len(official) == 22 and max(official) == official[12] > 20
    np.testing.assert_allclose(ours, official, atol=0.02)


def test_a_sampled_frame_has_the_highest_score_since_the_one_before():
    scores = SceneScores()
    scores.add(np.concatenate([scene(1, 5), scene(2, 5)]))
    every = scores.of_frames(np.arange(10))
    assert np.argmax(every) == 5
    assert scores.of_frames(np.array([0, 3, 6, 9])) == [0.0, max(every[1:4]), every[5], max(every[7:])]
    assert scores.of_frames(np.array([0, 0, 4, 4, 5])) == [0.0, 0.0, max(every[1:5]), 0.0, every[5]]


@pytest.mark.parametrize(
    ("stored", "wanted"), [(25.0, 10.0), (30000 / 1001, 25.0), (24.0, 25.0), (10.0, 35.0), (30.0, 30.0), (12.0, None)]
)
def test_the_nearest_frame_is_sampled(stored, wanted):
    sampling = Sampling(stored, wanted)
    for length in (1, 2, 7, 100):
        taken = sampling.within(0, length)
        if wanted is not None:
            times = np.arange(len(taken)) / wanted
            distances = np.abs(times[:, None] - np.arange(length) / stored)
            np.testing.assert_allclose(distances[np.arange(len(taken)), taken], distances.min(1), atol=1e-9)
            assert abs(len(taken) - length * wanted / stored) <= max(wanted / stored, 1)
        else:
            assert taken.tolist() == list(range(length))
        assert sampling.count(length) == len(taken) and taken.max() < length
        pieces = [sampling.within(start, min(start + 3, length)) for start in range(0, length, 3)]
        np.testing.assert_array_equal(np.concatenate(pieces), taken)


@pytest.mark.parametrize("cache", [True, False])
def test_videos_of_different_rates_are_read_at_one(tmp_path, cache):
    videos = tmp_path / "videos"
    frames = scene(1, 30)
    for name, fps in (("a", 10.0), ("b", 15.0), ("c", 30.0)):
        write(videos / "train" / f"{name}.mp4", frames, fps)
    clips = open_clips(config(videos, fps=15.0, cache=cache), "train")
    assert clips.fps == 15.0 and clips.lengths.tolist() == [45, 30, 15]
    stored = [np.floor(np.arange(n) * rate + 0.5).astype(int) for n, rate in ((45, 10 / 15), (30, 1), (15, 2))]
    for clip, (name, numbers) in enumerate(zip("abc", stored, strict=True)):
        shown = expected(f"{name}.mp4", videos)[numbers]
        np.testing.assert_array_equal(clips.frames(clip, range(len(numbers))), shown)
        np.testing.assert_array_equal(clips.frames(clip, [13, 2]), shown[[13, 2]])
    scenes = open_clips(config(videos, fps=15.0, cut="scenes", min_frames=4, cache=cache), "train")
    assert scenes.names == ["a.mp4#0-44", "b.mp4#0-29", "c.mp4#0-14"]


@pytest.mark.parametrize("cache", [True, False])
def test_a_box_is_cut_out_of_every_frame(videos, cache):
    box = (30, 5, 24, 16)
    clips = open_clips(config(videos, box=box, cache=cache), "train")
    np.testing.assert_array_equal(clips.frames(2, range(25)), expected("bob.mp4", videos, box))
    wrong = config(videos, box=(30, 5, 24, 36), cache=cache)
    says = r"`folder.box` is 30 5 24 36, up to column 54 and row 41; .*ann#film.mp4 has 60x40 pixels"
    with pytest.raises(InputError, match=says):
        open_clips(dataclasses.replace(wrong, skip_unreadable=True), "train")


def test_an_image_of_another_size_is_named_wherever_it_is(tmp_path):
    folder = tmp_path / "videos" / "train" / "images"
    folder.mkdir(parents=True)
    for number, frame in enumerate(scene(1, 34)):
        write_image(folder / f"{number}.png", frame[: 40 - (number == 33)])
    for cut in ("none", "scenes"):
        with pytest.raises(InputError, match=r"33.png: 60x39 pixels, but 0.png beside it has 60x40"):
            open_clips(config(tmp_path / "videos", cut=cut), "train")


def test_long_videos_are_on_disk_while_they_are_decoded(videos, monkeypatch):
    used = []

    class Small(CollectedFrames):
        def __init__(self, shape, folder):
            super().__init__(shape, folder, memory=5000)

        def array(self):
            used.append(super().array())
            return used[-1]

    monkeypatch.setattr(decoding, "CollectedFrames", Small)
    clips = open_clips(config(videos), "train")
    np.testing.assert_array_equal(clips.frames(0, range(53)), expected("ann#film.mp4", videos))
    assert len(used) == 3 and all(isinstance(array, np.memmap) for array in used)
    (folder,) = (videos.parent / "cache").iterdir()
    assert {"frames.bin", "index.json"} <= set(os.listdir(folder))


def test_a_disk_that_is_full_while_a_long_video_is_decoded_is_named(videos, monkeypatch):
    def full(**_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    monkeypatch.setattr(decoding, "CollectedFrames", lambda shape, folder: CollectedFrames(shape, folder, memory=0))
    with pytest.raises(InputError, match="cache: the disk is full; free some space or choose another `cache_dir`"):
        open_clips(config(videos), "train")
    assert not list((videos.parent / "cache").iterdir())


def test_videos_that_earlier_versions_decoded_are_used():
    choices = ({}, {"cut": "fixed"}, {"cut": "scenes"}, {"fps": 5.0, "box": (0, 0, 8, 8)})
    keys = [folder_clips._cached_settings(16, 3, FolderConfig(**settings)) for settings in choices]
    as_before = {"size": 16, "num_channels": 3, "fit": "crop", "image_fps": 25.0}
    assert keys[:2] == [as_before, as_before]
    assert keys[2:] == [as_before | {"scores": True}, as_before | {"box": [0, 0, 8, 8], "fps": 5.0}]


def test_a_model_keeps_to_its_box_and_rate(videos):
    stored = {"name": "folder", "size": 16, "num_channels": 3, "folder": {"box": [0, 0, 8, 8], "fps": None}}
    assert differences(config(videos, box=(0, 0, 8, 8)), stored) == []
    assert differences(config(videos, fps=5.0), stored) == [
        ("folder.box", (), (0, 0, 8, 8)),
        ("folder.fps", 5.0, None),
    ]
    earlier = {**stored, "folder": {"fit": "crop"}}
    assert differences(config(videos, cut="fixed"), earlier) == []
    assert differences(config(videos, fps=5.0), earlier) == [("folder.fps", 5.0, None)]


def test_no_clip_at_all_is_an_error(videos):
    says = r"folder-videos-16-train: none of 3 videos gives a clip; for instance ann#film.mp4: 53 frames, a clip has 64"
    with pytest.raises(InputError, match=says):
        open_clips(config(videos, cut="fixed"), "train")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"cut": "fixed", "num_frames": 1}, "`num_frames` is 1; it must be at least 2"),
        ({"cut": "scenes", "min_frames": 1}, "`min_frames` is 1; it must be at least 2"),
        ({"cut": "scenes", "scene_threshold": 0.0}, "`scene_threshold` is 0.0; it must be above 0 and at most 100"),
        ({"fps": 0.0}, "`fps` is 0.0; it must be above 0"),
        ({"box": (1, 2, 3)}, r"`box` is \(1, 2, 3\); it must be the left edge, top edge, width and height in pixels"),
        ({"box": (0, 0, 0, 8)}, "`box` is"),
        ({"box": (-1, 0, 8, 8)}, "`box` is"),
        ({"num_frames": 8}, "`num_frames` is 8, which has no effect: `cut` is none, not fixed"),
        ({"cut": "fixed", "min_frames": 8}, "`min_frames` is 8, which has no effect: `cut` is fixed, not scenes"),
    ],
)
def test_wrong_settings_are_named(settings, says):
    with pytest.raises(InputError, match=says):
        FolderConfig(**settings)


def test_progress_is_counted_in_bytes_and_ends_at_all_of_them(capsys):
    with Progress("decoding", ["a", "b"], [30, 10]) as progress:
        progress.advance("a", 0.5)
        assert progress.done == 15
        progress.advance("b", 1.0)
        progress.finish("a")
        progress.finish("b")
        assert progress.done == 40
    assert "40.0/40.0" in capsys.readouterr().err
    with pytest.raises(InputError, match="decoding: stopped"):  # what still runs in another thread ends
        progress.advance("a", 0.5)
