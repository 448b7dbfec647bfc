"""Folders and files that are not what they seem: pipes, playlists, links, names and sizes."""

import os
import shutil
import struct
import zlib

import pytest

from tests.robustness.readers import AVI
from vidcomp_jax.completion.inputs import clips_of_files
from vidcomp_jax.data.folder import find_sources
from vidcomp_jax.errors import InputError
from vidcomp_jax.media.images import read_image
from vidcomp_jax.media.video import iterate_frames, probe
from vidcomp_jax.storage import untrusted


def test_a_playlist_does_not_make_other_files_be_read(tmp_path):
    shutil.copy(AVI, tmp_path / "other.avi")
    for text in ("ffconcat version 1.0\nfile other.avi\n", "#EXTM3U\n#EXTINF:1,\nother.avi\n"):
        (tmp_path / "list.mp4").write_text(text)
        for read in (probe, lambda path: next(iterate_frames(path))):
            with pytest.raises(InputError, match=r"list.mp4: not a video"):
                read(tmp_path / "list.mp4")


def test_a_pipe_is_not_opened(tmp_path):
    for name, read in (("x.mp4", probe), ("x.png", read_image), ("x.json", untrusted.read_json)):
        os.mkfifo(tmp_path / name)
        with pytest.raises(InputError, match="a pipe, socket or device; a file was expected"):
            read(tmp_path / name)


def test_no_folder_is_read_twice(tmp_path, caplog):
    videos = tmp_path / "videos"
    (videos / "inner").mkdir(parents=True)
    shutil.copy(AVI, videos / "inner" / "a.avi")
    (videos / "inner" / "up").symlink_to(videos)
    (videos / "again").symlink_to(videos / "inner")
    assert len(find_sources(videos)) == 1
    assert len(clips_of_files([videos], 5, num_channels=1)) == 1
    assert "a link to a folder that is read already" in caplog.text


def test_names_that_are_not_utf_8_are_refused(tmp_path):
    shutil.copy(AVI, os.fsencode(tmp_path) + b"/\xff.avi")
    for read in (find_sources, lambda path: clips_of_files([path], 5, num_channels=1)):
        with pytest.raises(InputError, match=r"udcff.avi: not UTF-8; rename"):
            read(tmp_path)


def test_an_image_that_is_larger_than_the_memory_is_refused(tmp_path, monkeypatch):
    header = struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "x.png").write_bytes(png + b"\0\0\0\0IDAT" + struct.pack(">I", zlib.crc32(b"IDAT")))
    monkeypatch.setattr(untrusted, "free_memory", lambda: 2.0**29)
    with pytest.raises(InputError, match=r"x.png: takes 0.603 GiB of memory, 0.5 GiB are free"):
        read_image(tmp_path / "x.png")


def test_free_memory_is_known():
    assert 0 < untrusted.free_memory() < 2**50 or not os.path.exists("/proc/meminfo")
