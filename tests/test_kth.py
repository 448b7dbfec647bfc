"""KTH as downloaded: clips equal what ffmpeg decodes; errors name wrong folders and videos."""

import dataclasses
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidcomp_jax.data import Clips, DataConfig, KthConfig, open_clips
from vidcomp_jax.data.kth import KthVideos
from vidcomp_jax.errors import InputError
from vidcomp_jax.media.video import read_frames

KTH_LIKE = Path(__file__).parent / "data" / "kth_like"
WALKING = KTH_LIKE / "walking"
AVI = "person01_walking_d1_uncomp.avi"


def config(data_dir, tmp_path, **settings):
    return DataConfig(name="kth", data_dir=data_dir, cache_dir=tmp_path / "cache", **settings)


@pytest.fixture
def tree(tmp_path):
    """A KTH folder with eleven persons' videos, all copies of one small file."""
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
    assert [name[14:16] for name in clips.left_out] == ["19", "25"]  # which have 22 and 20 frames


def test_without_cutting_each_range_is_a_clip(tmp_path):
    whole = open_clips(config(KTH_LIKE, tmp_path, kth=KthConfig(cut=False)), "train")
    cut = open_clips(config(KTH_LIKE, tmp_path), "train")
    assert len(whole.names) == 11 and whole.lengths.sum() == 325 and whole.lengths.max() == 48
    first = whole.names.index("walking/person01_walking_d1_uncomp.avi[0:48]")
    np.testing.assert_array_equal(whole.frames(first, range(16, 32)), cut.frames(1, range(16)))
    with pytest.raises(InputError):
        open_clips(config(KTH_LIKE, tmp_path, kth=KthConfig(cut=False, num_frames=50)), "train")


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
    assert "mpeg4" not in capfd.readouterr().err  # ffmpeg's own message
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
        (None, "kth is not in data/kth; download it with `python -m experiments.download --dataset=kth`, or"),
        (tmp_path / "missing", "missing, which does not exist"),
        (tmp_path / "file", "file, which is a file"),
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


def zipped(archive, videos):
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as stored:
        for video in videos:
            stored.write(video, video.name)
    return archive


def test_archives_give_the_same_clips_as_the_files_in_them(tmp_path):
    data = tmp_path / "kth"
    data.mkdir()
    shutil.copy(KTH_LIKE / "00sequences.txt", data)
    zipped(data / "walking.zip", sorted(WALKING.iterdir()))
    for _ in range(2):  # the second time, an unpacked folder exists too
        for split in ("train", "test"):
            clips, expected = (open_clips(config(folder, tmp_path), split) for folder in (data, KTH_LIKE))
            assert clips.names == expected.names
            for clip in range(len(clips.names)):
                np.testing.assert_array_equal(clips.frames(clip, range(16)), expected.frames(clip, range(16)))
        (data / "walking").mkdir(exist_ok=True)
        shutil.copy(WALKING / AVI, data / "walking")


def test_damaged_archives_are_named(tree, tmp_path):
    whole = zipped(tmp_path / "whole.zip", [WALKING / AVI]).read_bytes()
    (tree.parent / "jogging.zip").write_bytes(whole[: len(whole) // 2])
    settings = config(tree.parent, tmp_path)
    with pytest.raises(InputError, match=r"jogging.zip: cut off or damaged, or not a zip archive"):
        open_clips(settings, "train")
    clips = open_clips(dataclasses.replace(settings, skip_unreadable=True), "train")
    assert len(clips.names) == 11
    assert list(clips.left_out) == ["jogging.zip"]


def test_damaged_videos_in_an_archive_are_named(tmp_path):
    damaged = bytearray(zipped(tmp_path / "whole.zip", [WALKING / AVI]).read_bytes())
    damaged[len(damaged) // 2] ^= 255
    with pytest.raises(InputError, match=rf"running.zip/{AVI}: damaged in its archive"):
        open_clips(config(_folder_with(tmp_path / "bad", "running.zip", damaged), tmp_path), "train")
    half = tmp_path / AVI
    half.write_bytes((WALKING / AVI).read_bytes()[:9000])
    inside = zipped(tmp_path / "half.zip", [half]).read_bytes()
    with pytest.raises(InputError, match=rf"running.zip/{AVI}: .*header announces 48 frames"):
        open_clips(config(_folder_with(tmp_path / "half", "running.zip", inside), tmp_path), "train")
    with pytest.raises(InputError, match="no AVI files here"):
        open_clips(config(_folder_with(tmp_path / "none", "a.zip", b"PK\x05\x06" + bytes(18)), tmp_path), "train")


def test_videos_behind_a_password_are_named(tmp_path):
    locked = bytearray(zipped(tmp_path / "whole.zip", [WALKING / AVI]).read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.index(header) + flags] |= 1
    with pytest.raises(InputError, match=rf"running.zip/{AVI}: cannot be unpacked \(.*encrypted"):
        open_clips(config(_folder_with(tmp_path / "locked", "running.zip", locked), tmp_path), "train")


def _folder_with(folder, name, content):
    folder.mkdir()
    (folder / name).write_bytes(content)
    return folder


def test_ranges_bound_the_clips(tmp_path):
    data = tmp_path / "kth"
    shutil.copytree(KTH_LIKE, data)
    (data / "00sequences.txt").write_text(
        "The sequences of KTH; person01 is the first of 25.\n\n"
        "person01_walking_d1\t\tframes\t2-20, 25-41\n"
        "person02_walking_d1\t*missing*\n"
        "person01_running_d1\tframes\t1-90\n"
        "person03_walking_d1\tframes\t1-15, 1-27\n"
    )
    clips = open_clips(config(data, tmp_path), "train")
    first, third = f"walking/{AVI}", "walking/person03_walking_d1_uncomp.avi"
    assert clips.names[:4] == [
        f"{first}[1:17]",
        f"{first}[24:40]",
        f"{third}[0:16]",
        "walking/person05_walking_d1_uncomp.avi[0:16]",
    ]
    video = read_frames(WALKING / AVI, num_channels=1)[..., 0]
    expected = np.asarray(Image.fromarray(video[39, :, 20:140]).resize((64, 64), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(clips.frames(1, [15])[0, ..., 0], expected)
    assert list(clips.left_out) == [f"{third}[0:15]"]
    assert "line 6: frames 1-15 of" in clips.left_out[f"{third}[0:15]"]


def test_ranges_that_do_not_fit_the_videos_are_named(tmp_path, caplog):
    data = tmp_path / "kth"
    shutil.copytree(KTH_LIKE, data)
    listed = data / "00sequences.txt"
    listed.write_text("person01_walking_d1 frames 20-60\n")
    clips = open_clips(config(data, tmp_path), "train")
    assert clips.names[0] == f"walking/{AVI}[19:35]"
    reason = f"{listed} line 1: frames 20-60 of walking/{AVI}, which has 48; those past its end are left out"
    assert clips.left_out == {f"walking/{AVI}[19:60]": reason}
    listed.write_text("person01_walking_d1 frames 20-60\nperson01_walking_d4 frames 1-90\n")
    with pytest.raises(InputError, match=r"more than a tenth of 12.*line 2: lists walking/person01_walking_d4_uncomp"):
        open_clips(config(data, tmp_path), "train")
    clips = open_clips(config(data, tmp_path, skip_unreadable=True), "train")
    assert len(clips.left_out) == 2 and "2 of 12 videos left out" in caplog.text
    for line in ("frames 30-20", "frames 0-20", "frames 1-20,", "1-20", "frames", "frames one"):
        listed.write_text(f"\nperson01_walking_d1 {line}\n")
        with pytest.raises(InputError, match=r"00sequences.txt line 2: expected frames FIRST-LAST"):
            open_clips(config(data, tmp_path), "train")


@pytest.mark.parametrize(
    ("split", "test"),
    [
        ("official", [2, 3, 5, 6, 7, 8, 9, 10, 22]),
        ("seed", [25]),
        ("mcvd", [*range(21, 26)]),
        ("literature", [*range(17, 26)]),
    ],
)
def test_every_split_keeps_persons_apart(tmp_path, split, test):
    for person in range(1, 26):
        shutil.copy(WALKING / AVI, tmp_path / f"person{person:02d}_walking_d1_uncomp.avi")
    kth = KthConfig(split=split)
    found = [
        [int(source.path.name[6:8]) for source in KthVideos(tmp_path, part, kth).sources] for part in ("train", "test")
    ]
    assert found[1] == test
    assert found[0] == [p for p in range(1, 26 if split != "seed" else 24) if p not in test]


def test_a_video_without_an_index_is_read_whole(tree, tmp_path):
    """Some KTH videos lack the index at the end, but have all frames."""
    video = tree / "person01_walking_d1_uncomp.avi"
    data = video.read_bytes()
    video.write_bytes(data[: data.rindex(b"idx1")])
    clips = open_clips(config(tree.parent, tmp_path), "train")
    np.testing.assert_array_equal(clips.frames(0, range(16)), clips.frames(1, range(16)))
    assert not clips.left_out


def test_wrong_settings_are_named():
    with pytest.raises(InputError, match="`num_frames` is 1"):
        KthConfig(num_frames=1)


def test_the_default_cache_is_the_users(monkeypatch, tmp_path):
    settings = dataclasses.replace(config(KTH_LIKE, tmp_path), cache_dir=None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert settings.cache_folder == tmp_path / "xdg" / "vidcomp_jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert settings.cache_folder == tmp_path / ".cache" / "vidcomp_jax"
