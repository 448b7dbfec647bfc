"""KTH as downloaded: clips equal what ffmpeg decodes, and wrong folders or videos are named."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidcomp_jax.data import Clips, DataConfig, KthConfig, open_clips
from vidcomp_jax.errors import InputError
from vidcomp_jax.video_io import read_frames

KTH_LIKE = Path(__file__).parent / "data" / "kth_like"
WALKING = KTH_LIKE / "walking"
AVI = "person01_walking_d1_uncomp.avi"


def config(data_dir, tmp_path, **settings):
    return DataConfig(name="kth", data_dir=data_dir, cache_dir=tmp_path / "cache", **settings)


@pytest.fixture
def tree(tmp_path):
    """A KTH folder with eleven persons' videos, all small: the same one again and again."""
    folder = tmp_path / "kth" / "walking"
    folder.mkdir(parents=True)
    for person in range(1, 12):
        shutil.copy(WALKING / "person15_walking_d1_uncomp.avi", folder / f"person{person:02d}_walking_d1_uncomp.avi")
    return folder


def test_clips_are_the_cropped_resized_video(tmp_path):
    clips = open_clips(config(KTH_LIKE, tmp_path), "train")
    assert isinstance(clips, Clips)
    assert clips.names[:4] == [f"walking/{AVI}[{i}:{i + 16}]" for i in (0, 16, 32)] + [
        "walking/person03_walking_d1_uncomp.avi[0:16]"
    ]
    assert (clips.fps, clips.frame_shape) == (25.0, (64, 64, 1))
    video = read_frames(WALKING / AVI, num_channels=1)[..., 0]
    expected = [np.asarray(Image.fromarray(f[:, 20:140]).resize((64, 64), Image.Resampling.BILINEAR)) for f in video]
    np.testing.assert_array_equal(clips.frames(0, range(16))[..., 0], expected[:16])
    np.testing.assert_array_equal(clips.frames(2, [15, 3])[..., 0], [expected[47], expected[35]])


def test_the_split_is_by_persons(tmp_path):
    train, test = (open_clips(config(KTH_LIKE, tmp_path), split) for split in ("train", "test"))
    persons = [sorted({int(name[14:16]) for name in clips.names}) for clips in (train, test)]
    assert persons == [[1, 3, 5, 7, 9, 11, 13, 15], [17, 19, 21, 23, 25]]
    assert set(train.lengths) == set(test.lengths) == {16}
    assert len(train.names) == 3 + 1 + 1 + 2 + 2 + 1 + 1 + 1 + 2 + 1 + 1
    assert train.subjects.tolist() == list(range(16))


def test_settings_shape_the_clips(tmp_path):
    clips = open_clips(config(KTH_LIKE, tmp_path, size=128, num_channels=3, kth=KthConfig(num_frames=24)), "test")
    assert clips.frame_shape == (128, 128, 3)
    assert set(clips.lengths) == {24}
    assert [name[14:16] for name in clips.left_out] == ["19", "25"]  # of 22 and 20 frames


def test_short_videos_are_left_out_and_named(tmp_path, caplog):
    clips = open_clips(config(KTH_LIKE, tmp_path, kth=KthConfig(num_frames=40)), "train")
    assert len(clips.names) == 2
    assert len(clips.left_out) == 9
    assert "9 of 11 videos left out" in caplog.text
    assert "person03_walking_d1_uncomp.avi: 27 frames, a clip has 40" in caplog.text
    with pytest.raises(InputError, match=r"none of 11 videos can be used; for instance .*person01.*48 frames"):
        open_clips(config(KTH_LIKE, tmp_path, kth=KthConfig(num_frames=50)), "train")


def test_one_unreadable_video_is_named_and_left_out(tree, tmp_path, caplog, capfd):
    broken = tree / "person04_walking_d1_uncomp.avi"
    broken.write_bytes(broken.read_bytes()[:20000])
    clips = open_clips(config(tree.parent, tmp_path), "train")
    assert len(clips.names) == 10
    assert list(clips.left_out) == ["walking/person04_walking_d1_uncomp.avi"]
    assert "1 of 11 videos left out" in caplog.text
    assert "header announces 20 frames" in caplog.text
    assert "mpeg4" not in capfd.readouterr().err  # ffmpeg's own words
    caplog.clear()
    open_clips(config(tree.parent, tmp_path), "train")
    assert "1 of 11 videos left out" in caplog.text  # also when the cache is used


def test_more_than_a_tenth_unreadable_stops(tree, tmp_path):
    for person in (4, 9):
        (tree / f"person{person:02d}_walking_d1_uncomp.avi").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"more than a tenth of 11 videos.*2 so far.*person09_walking_d1_uncomp.avi"):
        open_clips(config(tree.parent, tmp_path), "train")
    assert not list((tmp_path / "cache").iterdir())


def test_wrong_folders_are_named(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "file").touch()
    for data_dir, message in [
        (None, "kth needs data_dir"),
        (tmp_path / "missing", "missing does not exist"),
        (tmp_path / "file", "file is a file"),
        (empty, "empty: no AVI files here"),
    ]:
        with pytest.raises(InputError, match=message):
            open_clips(config(data_dir, tmp_path), "train")
    shutil.copy(WALKING / AVI, empty / "holiday.avi")
    with pytest.raises(InputError, match=r"1 AVI files, none with a name of KTH.*found holiday.avi"):
        open_clips(config(empty, tmp_path), "train")
    shutil.copy(WALKING / AVI, empty)
    with pytest.raises(InputError, match="none of 1 videos shows persons 17 to 25"):
        open_clips(config(empty, tmp_path), "test")


def test_wrong_settings_are_named():
    with pytest.raises(InputError, match="num_frames is 1"):
        KthConfig(num_frames=1)


def test_the_default_cache_is_the_users(monkeypatch, tmp_path):
    settings = dataclasses.replace(config(KTH_LIKE, tmp_path), cache_dir=None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert settings.cache_folder == tmp_path / "xdg" / "vidcomp_jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert settings.cache_folder == tmp_path / ".cache" / "vidcomp_jax"
