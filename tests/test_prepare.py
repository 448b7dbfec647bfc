"""KTH and BAIR as folders of videos: every clip once, with its frames, rate and size, and no partial output."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from experiments import prepare_bair, prepare_kth
from experiments.prepare_bair import PrepareBairConfig
from experiments.prepare_kth import PrepareKthConfig
from tools.bair_records import write_download
from vidcomp_jax.data import BairConfig, DataConfig, KthConfig, open_clips
from vidcomp_jax.errors import InputError
from vidcomp_jax.media.video import probe, read_frames

KTH_LIKE = Path(__file__).parent / "data" / "kth_like"
VIDEOS = sorted((KTH_LIKE / "walking").iterdir())


def shown(clips):
    return {name: clips.frames(number, range(clips.lengths[number])) for number, name in enumerate(clips.names)}


def kth(data_dir, tmp_path, split, **settings):
    return open_clips(DataConfig(name="kth", data_dir=data_dir, cache_dir=tmp_path / "cache", **settings), split)


@pytest.mark.parametrize("lossless", [False, True])
def test_kth_clips_keep_their_rate_size_and_number(tmp_path, lossless, capsys):
    archives = tmp_path / "kth"
    archives.mkdir()
    shutil.copy(KTH_LIKE / "00sequences.txt", archives)
    with zipfile.ZipFile(archives / "walking.zip", "w") as stored:
        for video in VIDEOS[:4] + VIDEOS[-3:]:
            stored.write(video, video.name)
    output = tmp_path / "out" / "clips"
    prepare_kth.main(PrepareKthConfig(input=archives, output=output, size=64, lossless=lossless, skip_unreadable=True))
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["settings"]["split"] == "literature"
    for split in ("train", "test"):
        expected = kth(archives, tmp_path, split, skip_unreadable=True)
        lines = [line for line in manifest["clips"] if line["split"] == split]
        assert sorted(line["file"] for line in lines) == sorted(
            path.relative_to(output).as_posix() for path in (output / split).iterdir()
        )
        assert len(lines) == len(expected.names) > 0
        for number, line in enumerate(lines):
            info = probe(output / line["file"])
            assert (info.width, info.height, info.num_frames, info.fps) == (64, 64, 16, 25.0)
            assert (line["frames"], line["fps"], line["subject"]) == (16, 25.0, line["source"][8:16])
            frames = read_frames(output / line["file"], num_channels=1)
            difference = frames.astype(int) - expected.frames(number, range(16))
            assert np.abs(difference).mean() <= (0 if lossless else 2.5)  # the codec is lossy
            assert abs(difference.mean()) < 0.3  # but keeps the mean brightness
    assert "out/clips/train: 7 clips, 112 frames, of 4 videos, 4 subjects" in capsys.readouterr().out
    folder = DataConfig(name="folder", data_dir=output, cache_dir=tmp_path / "cache", size=64)
    assert set(open_clips(folder, "train").lengths) == {16}


def test_kth_that_cannot_be_read_stops_or_is_counted(tmp_path, capsys):
    data = tmp_path / "kth"
    shutil.copytree(KTH_LIKE, data)
    listed = (data / "00sequences.txt").read_text()
    (data / "00sequences.txt").write_text(listed.replace("1-48", "1-60").replace("1-27", "1-10, 11-27"))
    settings = {"input": data, "output": tmp_path / "clips", "split": "seed"}
    with pytest.raises(InputError, match=r"line 1: frames 1-60 of .*, which has 48.*; `skip_unreadable` goes on"):
        prepare_kth.main(PrepareKthConfig(**settings))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kth"]
    (data / "walking" / "person09_walking_d1_uncomp.avi").write_bytes(b"nonsense")
    prepare_kth.main(PrepareKthConfig(**settings, skip_unreadable=True))
    out = capsys.readouterr().out
    assert "3 left out" in out
    assert "line 2: frames 1-10 of walking/person03_walking_d1_uncomp.avi are 10 frames, a clip has 16" in out
    assert "person09_walking_d1_uncomp.avi: not a video" in out
    expected = kth(data, tmp_path, "train", kth=KthConfig(split="seed"), skip_unreadable=True)
    manifest = json.loads((tmp_path / "clips" / "manifest.json").read_text())
    assert sum(line["split"] == "train" for line in manifest["clips"]) == len(expected.names)
    with pytest.raises(InputError, match=r"clips: exists and is not an empty folder"):
        prepare_kth.main(PrepareKthConfig(**settings, skip_unreadable=True))
    with pytest.raises(InputError, match=r"--input: .*nothing is not a folder"):
        prepare_kth.main(PrepareKthConfig(input=tmp_path / "nothing", output=tmp_path / "other"))


@pytest.fixture
def bair(tmp_path):
    write_download(tmp_path / "bair", train=[2], test=[1, 1])
    return tmp_path / "bair"


def test_bair_trajectories_become_videos(bair, tmp_path, capsys):
    output = tmp_path / "clips"
    prepare_bair.main(PrepareBairConfig(input=bair, output=output, lossless=True, bair=BairConfig(camera="main")))
    settings = DataConfig(name="bair", data_dir=bair, num_channels=3, bair=BairConfig(camera="main"))
    for split in ("train", "test"):
        expected = list(shown(open_clips(settings, split)).values())
        files = sorted((output / split).iterdir())
        for file, frames in zip(files, expected, strict=True):
            np.testing.assert_array_equal(read_frames(file), frames)
            assert probe(file).fps == 10.0
    assert [path.name for path in files] == ["traj_0_to_0_00000.mp4", "traj_1_to_1_00000.mp4"]
    assert "clips/test: 2 clips, 60 frames" in capsys.readouterr().out


def test_the_test_files_of_bair_are_enough_for_the_test_clips(bair, tmp_path):
    shutil.rmtree(bair / "softmotion30_44k" / "train")
    with pytest.raises(InputError, match=r"no softmotion30_44k/train here"):
        prepare_bair.main(PrepareBairConfig(input=bair, output=tmp_path / "clips"))
    settings = {"input": bair, "output": tmp_path / "clips", "size": 128, "test_only": True, "format": "gif"}
    prepare_bair.main(PrepareBairConfig(**settings, limit=1))
    assert [path.name for path in (tmp_path / "clips").iterdir() if path.is_dir()] == ["test"]
    (file,) = (tmp_path / "clips" / "test").iterdir()
    assert file.suffix == ".gif"
    info = probe(file)
    assert (info.width, info.height, info.num_frames, info.fps) == (128, 128, 30, 10.0)


def test_damaged_records_of_bair_stop_or_are_counted(bair, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (file,) = bair.glob("*/train/*")
    data = bytearray(file.read_bytes())
    data[-1000] ^= 1
    file.write_bytes(data)
    settings = {"input": bair, "output": tmp_path / "clips"}
    with pytest.raises(InputError, match=r"traj_0_to_1.tfrecords record 1: damaged.*; `skip_unreadable` goes on"):
        prepare_bair.main(PrepareBairConfig(**settings))
    assert not (tmp_path / "clips").exists()
    prepare_bair.main(PrepareBairConfig(**settings, skip_unreadable=True))
    manifest = json.loads((tmp_path / "clips" / "manifest.json").read_text())
    assert list(manifest["left_out"]) == ["traj_0_to_1.tfrecords_1"]
    assert len(manifest["clips"]) == 3
    with pytest.raises(InputError, match="`format` is 'gif'; it must be mp4"):
        PrepareBairConfig(**settings, format="gif", lossless=True)
    with pytest.raises(InputError, match="`limit` is -1"):
        PrepareBairConfig(**settings, limit=-1)
