"""The page that describes a data set, and what `check_data` says of folders."""

import os
import re

import numpy as np
import pytest

from experiments import check_data
from experiments.check_data import CheckDataConfig
from vidcomp_jax.data import DataConfig, FolderConfig, SyntheticConfig
from vidcomp_jax.data.data_card import _cell, duration, is_data_card, licences
from vidcomp_jax.errors import InputError
from vidcomp_jax.media.images import resize
from vidcomp_jax.media.video import VideoWriter


@pytest.fixture
def videos(tmp_path):
    """Two videos for training, of 10 and 30 frames per second, and one for testing."""
    rates = {"train/ann|1#a.mp4": 10.0, "train/bob.mp4": 30.0, "test/eve.mp4": 10.0}
    for number, (name, fps) in enumerate(rates.items()):
        path = tmp_path / "my videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        corners = np.random.default_rng(number).integers(0, 256, (20, 3, 3, 3), np.uint8)
        with VideoWriter(path, fps=fps, lossless=True) as writer:
            writer.write(resize(corners, 16))
    return tmp_path / "my videos"


@pytest.fixture
def check(videos, tmp_path, capsys):
    """Run the command on the videos; return the exit code, the output and the card."""

    def run(**settings):
        folder = FolderConfig(**settings)
        data = DataConfig(
            name="folder", data_dir=videos, cache_dir=tmp_path / "cache", size=8, num_channels=3, folder=folder
        )
        files = {"contact_sheet": tmp_path / "sheet.png", "data_card": tmp_path / "card.md"}
        code = check_data.main(CheckDataConfig(data=data, rows=1, **files))
        return code, capsys.readouterr().out, (tmp_path / "card.md").read_text()

    return run


def test_a_card_states_counts_durations_rates_subjects_and_licences(videos, check):
    (videos / "LICENSE.txt").write_text("\n# Creative Commons Attribution 4.0 #\n...")
    (videos / "train" / "copying").write_bytes(b"\xff\xfe\x00")
    code, out, card = check()
    assert code == 0 and out.endswith(f"data card: {videos.parent / 'card.md'}\ntraining can start\n")
    rows = dict(re.findall(r"^\| ([^|]+) \| ((?:[^|\\]|\\.)+ \| (?:[^|\\]|\\.)+) \|$", card, re.MULTILINE))
    assert rows["files"] == "2 | 1" and rows["clips"] == "2 | 1" and rows["frames"] == "40 | 20"
    assert rows["stored sizes"] == "16x16 (2) | 16x16 (1)"
    assert rows["stored rates"] == "10 fps (1), 30 fps (1) | 10 fps (1)"
    assert rows["stored duration"] == "2.7 s | 2.0 s"
    assert rows["read as"] == "8x8, RGB, 10 fps | 8x8, RGB, 10 fps"
    assert "# Data card: my videos\n" in card and "## Subjects of train\n\nann\\|1, bob.mp4\n" in card
    assert "- LICENSE.txt: Creative Commons Attribution 4.0\n- train/copying: not a text file\n" in card
    assert 'cut: "none"\n' in card and "python -m experiments." in card
    differ = "the frame rates differ, and are all treated as 10 fps; {} samples all at one rate\n"
    assert differ.format("--folder.fps") in out and differ.format("folder.fps") in card
    assert "  durations: clips of 2.0 s to 2.0 s, 4.0 s in all, of videos of 2.7 s\n" in out


def test_cut_videos_are_previewed(check):
    code, out, card = check(cut="fixed", num_frames=8, fps=15.0)
    assert code == 0 and "train: 2 videos, 4 clips of 8 to 8 frames, 32 frames" in out
    assert "  cut into 4 clips; 8 of 40 frames (20.0%) are in no clip\n" in out
    assert "  videos with less than 15 frames per second: 1; some of their frames are repeated\n" in out
    assert "subjects: 2: ann|1, bob.mp4\n" in out
    assert "- cut into 4 clips; 8 of 40 frames (20.0%) are in no clip\n" in card
    code, out, card = check(cut="fixed", num_frames=20)
    assert code == 0 and "  cut into 2 clips; every frame is in a clip\n" in out
    code, out, card = check(cut="scenes", min_frames=2, scene_threshold=99.0)
    assert "  the strongest change within a scene" in out and "--folder.scene-threshold is 99\n" in out
    code, out, card = check(box=(0, 0, 17, 8))
    assert code == 1 and "training cannot start; train: --folder.box is 0 0 17 8, up to column 17 and row 8;" in out
    assert "99.0" in card  # nothing could be read, so that the last card stays


def test_frames_that_need_no_resizing_are_compared(videos, tmp_path, capsys):
    data = DataConfig(
        name="folder",
        data_dir=videos,
        cache_dir=tmp_path / "cache",
        size=8,
        num_channels=3,
        folder=FolderConfig(box=(2, 2, 8, 8), cache=False),
    )
    files = {"contact_sheet": tmp_path / "sheet.png", "data_card": tmp_path / "card.md"}
    assert check_data.main(CheckDataConfig(data=data, rows=1, **files)) == 0
    assert "training can start" in capsys.readouterr().out


def test_odd_names_make_no_markup(tmp_path):
    folder = os.fsencode(tmp_path) + b"/a\xff"
    os.mkdir(folder)
    (tmp_path / "a\n# b").mkdir()
    for path in (folder, os.fsencode(tmp_path / "a\n# b")):
        with open(path + b"/LICENSE", "w") as file:
            file.write("~~free~~ &lt;")
    lines = [f"{_cell(name)}: {_cell(line)}" for name, line in licences(tmp_path)]
    assert sorted(lines) == [
        r"a\\n\# b/LICENSE: \~\~free\~\~ \&lt;",
        r"a\\udcff/LICENSE: \~\~free\~\~ \&lt;",
    ]
    (tmp_path / "list.txt").touch()
    assert licences(tmp_path / "list.txt") == []


def test_only_an_earlier_card_is_replaced(tmp_path):
    data = DataConfig(name="synthetic", synthetic=SyntheticConfig(num_train=2, num_test=1, length=4))
    config = CheckDataConfig(data=data, contact_sheet=tmp_path / "sheet.png", data_card=tmp_path / "card.md", rows=1)
    assert not is_data_card(tmp_path / "card.md")
    for _ in range(2):
        assert check_data.main(config) == 0
        assert is_data_card(tmp_path / "card.md")
    assert "drawn by the program" in (tmp_path / "card.md").read_text()
    (tmp_path / "card.md").write_text("# My notes\n")
    with pytest.raises(InputError, match=r"`data_card` is .*card.md: exists; .*`overwrite`"):
        check_data.main(config)
    assert (tmp_path / "card.md").read_text() == "# My notes\n"


def test_licences_are_found_by_their_names(tmp_path):
    names = ("LICENSE", "Licence.md", "sub/COPYING.txt", "sub/licensed_videos.txt", ".git/LICENSE", "notes.txt")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("=====\n" if name == "LICENSE" else f"{name}\n" + "x" * 200)
    assert licences(tmp_path) == [
        ("LICENSE", "empty"),
        ("Licence.md", "Licence.md"),
        ("sub/COPYING.txt", "sub/COPYING.txt"),
    ]


def test_durations_are_short_text():
    shown = {0.04: "0.0 s", 8.46: "8.5 s", 59.9: "1:00 min", 125.0: "2:05 min", 3725.0: "1:02:05 h"}
    assert {seconds: duration(seconds) for seconds in shown} == shown
