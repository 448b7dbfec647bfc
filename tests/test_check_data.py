"""The command that checks a data set: counts, reported problems and exit code."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from experiments import check_data
from experiments.check_data import CheckDataConfig
from tools.bair_records import write_download
from vidcomp_jax.data import BairConfig, DataConfig, KthConfig, SyntheticConfig
from vidcomp_jax.errors import InputError
from vidcomp_jax.media.images import read_image
from vidcomp_jax.media.video import VideoWriter

KTH_LIKE = Path(__file__).parent / "data" / "kth_like"


@pytest.fixture
def check(tmp_path, capsys):
    """Run the command on a data set; return the exit code, the output and the contact sheet."""

    def run(name, data_dir, **settings):
        data = DataConfig(name=name, data_dir=data_dir, cache_dir=tmp_path / "cache", **settings)
        sheet = tmp_path / "sheet.png"
        card = tmp_path / "card.md"
        code = check_data.main(CheckDataConfig(data=data, contact_sheet=sheet, data_card=card, rows=2))
        return code, capsys.readouterr().out, sheet

    return run


def write_video(path, seed=0, num_frames=4, size=(32, 48)):
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.random.default_rng(seed).integers(0, 256, (num_frames, *size, 3), np.uint8)
    with VideoWriter(path, fps=10.0, lossless=True) as writer:
        writer.write(frames)


def test_kth_is_described(check):
    code, out, sheet = check("kth", KTH_LIKE)
    assert code == 0 and out.endswith("training can start\n")
    assert "train: 11 videos, 16 clips of 16 to 16 frames, 256 frames, read as 64x64, gray, 25 fps" in out
    assert "sizes: 160x120 (11)" in out and "rates: 25 fps (5)" in out and "channels: gray (5)" in out
    assert "subjects: 5: person17, person19, person21, person23, person25" in out
    assert "subjects in both splits: none" in out
    assert read_image(sheet).shape == (4 * (96 + 14), 8 * 96, 3)


def test_training_windows_of_kth_are_counted_and_clips_are_compared_as_before(check, tmp_path):
    data = tmp_path / "kth"
    shutil.copytree(KTH_LIKE, data)
    walking = data / "walking"
    shutil.copy(walking / "person01_walking_d1_uncomp.avi", walking / "person17_walking_d1_uncomp.avi")
    code, out, _ = check("kth", data, kth=KthConfig(train_windows="every"))
    assert code == 0
    assert "train: 11 videos, 16 clips of 16 to 16 frames" in out and "test: 5 videos, 5 clips" in out
    assert out.count("  training: 160 windows of 16 frames start at every frame; an epoch draws 16\n") == 1
    copied = "walking/person01_walking_d1_uncomp.avi[0:16] = walking/person17_walking_d1_uncomp.avi[0:16]"
    assert f"test clips whose frames are also in train: 1\n    {copied}\n" in out
    assert "an epoch draws" not in check("kth", data)[1]


def test_a_list_of_videos_is_described(check, tmp_path):
    for name, length in (("a.mp4", 6), ("b.mp4", 4)):
        write_video(tmp_path / name, seed=length, num_frames=length)
    path = tmp_path / "list.txt"
    path.write_text("a.mp4 0 2\na.mp4 3 5\nb.mp4\n")
    code, out, _ = check("kth", None, clips=path)
    assert code == 0 and out.startswith(f"list: {path}\n")
    assert "train: 1 videos" in out and "test: 1 videos" in out and "subjects in both splits: none" in out
    assert "2 clips of 3 to 3 frames, 6 frames" in out and "1 clips of 4 to 4 frames, 4 frames" in out
    path.write_text("a.mp4 0 2\nb.mp4 0 9\n")
    code, out, _ = check("kth", None, clips=path)
    assert code == 1 and "training cannot start; train: " in out and "line 2: frames 0 to 9 of" in out


def test_what_is_wrong_with_kth_is_named(check, tmp_path):
    data = tmp_path / "kth"
    shutil.copytree(KTH_LIKE, data)
    (data / "00sequences.txt").write_text("person21_walking_d1 frames 1-99\nperson19_walking_d2 frames 1-9\n")
    videos = data / "walking"
    shutil.copy(videos / "person01_walking_d1_uncomp.avi", videos / "person17_walking_d1_uncomp.avi")
    (videos / "person03_walking_d1_uncomp.avi").write_bytes(b"nonsense")
    code, out, _ = check("kth", data, kth=KthConfig(num_frames=23))
    assert code == 1
    assert "test clips whose frames are also in train: 2\n" in out
    assert "walking/person01_walking_d1_uncomp.avi[0:23] = walking/person17_walking_d1_uncomp.avi[0:23]" in out
    assert "unreadable: 1\n" in out and "unreadable: 2\n" in out
    assert "person03_walking_d1_uncomp.avi: not a video" in out
    assert "line 1: frames 1-99 of walking/person21" in out and "line 2: lists walking/person19_walking_d2" in out
    assert "too short: 2" in out and "person25_walking_d1_uncomp.avi: 20 frames, a clip has 23" in out
    assert "training cannot start; test: kth-64-test: more than a tenth of 6 videos cannot be read" in out
    assert "train: kth" not in out
    code, out, _ = check("kth", data, kth=KthConfig(num_frames=23), skip_unreadable=True)
    assert code == 0 and "person03_walking_d1_uncomp.avi: not a video" in out


@pytest.mark.parametrize("skip", [False, True])
def test_bair_is_described_and_its_damage_found(check, tmp_path, skip):
    write_download(tmp_path / "bair", train=[2, 2], test=[1])
    code, out, _ = check("bair", tmp_path / "bair", size=128, num_channels=3)
    assert code == 0 and "train: 2 record files, 4 clips of 30 to 30 frames, 120 frames, read as 128x128, RGB" in out
    file = next(tmp_path.glob("bair/*/train/traj_2*"))
    data = bytearray(file.read_bytes())
    data[-1000] ^= 1
    file.write_bytes(data)
    code, out, _ = check("bair", tmp_path / "bair", skip_unreadable=skip)
    assert code == (0 if skip else 1)
    assert "unreadable: 1\n" in out and "traj_2_to_3.tfrecords record 1: damaged" in out
    changed = file.stat()
    data[1000] ^= 1
    file.write_bytes(data)  # a failing disk does not change the modification time
    os.utime(file, ns=(changed.st_atime_ns, changed.st_mtime_ns))
    code, out, _ = check("bair", tmp_path / "bair", skip_unreadable=skip)
    assert code == 1 and "unreadable: 2\n" in out and "traj_2_to_3.tfrecords record 0: damaged" in out
    code, out, _ = check("bair", tmp_path / "bair", bair=BairConfig(tfds=True))
    assert code == 1 and "train: nothing" in out and "prepare bair_robot_pushing_small with TFDS" in out


def test_folders_are_described(check, tmp_path):
    for number in range(4):
        write_video(tmp_path / "data" / "train" / f"id{number % 2}#{number}.mp4", seed=number)
    write_video(tmp_path / "data" / "test" / "id1#9.mp4", seed=3)
    write_video(tmp_path / "data" / "test" / "id7#1.mp4", seed=9, size=(20, 20), num_frames=6)
    write_video(tmp_path / "data" / "test" / "id7#2.mp4", seed=9, size=(20, 20), num_frames=6)
    write_video(tmp_path / "data" / "test" / "id8.mp4", num_frames=1)
    code, out, _ = check("folder", tmp_path / "data", size=32, num_channels=3)
    assert code == 0
    assert "test: 4 videos, 3 clips of 4 to 6 frames, 16 frames, read as 32x32, RGB, 10 fps" in out
    assert "sizes: 20x20 (2), 48x32 (2)" in out or "sizes: 48x32 (2), 20x20 (2)" in out
    assert "channels: color (4)" in out
    assert "too short: 1" in out and "id8.mp4: one frame" in out
    assert "subjects in both splits: id1" in out
    assert "also in train: 1\n    id1#3.mp4 = id1#9.mp4" in out
    assert "duplicate another clip of test: 1\n    id7#1.mp4 = id7#2.mp4" in out
    (tmp_path / "sheet.png").unlink()
    code, out, sheet = check("folder", tmp_path / "nothing")
    assert code == 1 and "nothing, which does not exist" in out and not sheet.exists()


def test_drawn_clips_can_be_looked_at(check):
    code, out, sheet = check("synthetic", None, synthetic=SyntheticConfig(num_train=3, num_test=2, length=4))
    assert code == 0 and "train: 0 videos, 3 clips of 4 to 4 frames" in out and sheet.exists()


@pytest.mark.parametrize(
    ("sheet", "says"),
    [("none/sheet.png", "none does not exist"), ("", "a folder"), ("video.mp4", "exists; .*`overwrite`")],
)
def test_a_contact_sheet_that_cannot_be_written_stops_before_the_reading(monkeypatch, tmp_path, sheet, says):
    monkeypatch.setattr(check_data, "inspect_split", None)
    (tmp_path / "video.mp4").touch()
    with pytest.raises(InputError, match=f"`contact_sheet` is .*{says}"):
        check_data.main(CheckDataConfig(contact_sheet=tmp_path / sheet))


def test_the_usual_place_of_a_data_set_is_shown(tmp_path, monkeypatch, capsys):
    (tmp_path / "kth").symlink_to(KTH_LIKE)
    monkeypatch.setenv("VIDCOMP_DATA", str(tmp_path))
    data = DataConfig(name="kth", cache_dir=tmp_path / "cache")
    files = {"contact_sheet": tmp_path / "sheet.png", "data_card": tmp_path / "card.md"}
    assert check_data.main(CheckDataConfig(data=data, **files)) == 0
    assert f"kth: {tmp_path / 'kth'}\n" in capsys.readouterr().out
    monkeypatch.setenv("VIDCOMP_DATA", str(tmp_path / "none"))
    assert check_data.main(CheckDataConfig(data=data, **files)) == 1
    said = capsys.readouterr().out
    assert (
        "kth: not found\n" in said and "experiments.download --dataset=kth`, or give its folder as --data-dir" in said
    )
