"""Data sets are downloaded whole, from servers that break off, lie about sizes, or answer with a web page."""

import errno
import io
import json
import os
import shutil
import tarfile
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

from experiments import download as command
from experiments.download import DownloadConfig
from tests.support.bad_server import serving
from vidcomp_jax.data import DataConfig, download, open_clips
from vidcomp_jax.data.download import PUBLISHED, look_up, part_of, readable, unpack_bair
from vidcomp_jax.data.kth_files import ARCHIVES, SEQUENCES
from vidcomp_jax.errors import InputError

KTH_LIKE = Path(__file__).parent / "data" / "kth_like"


def zipped(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


CONTENT = zipped(a=bytes(range(256)) * 40, b=b"b" * 3000)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(download, "_WAIT", 0)
    monkeypatch.setattr(download, "BLOCK", 1024)


@pytest.fixture
def server():
    with serving({"a.zip": CONTENT}) as server:
        yield server


def fetch(server, path, name="a.zip"):
    counts = []
    download.download(look_up(f"{server.url}/{name}"), path, counts.append)
    return counts


def test_a_download_that_breaks_off_goes_on_where_it_stopped(server, tmp_path):
    server.breaks = [5000, 3000]
    assert sum(fetch(server, tmp_path / "a.zip")) == len(CONTENT)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == [None, "bytes=5000-", "bytes=8000-"]
    assert os.listdir(tmp_path) == ["a.zip"]


def test_the_next_command_goes_on_where_an_earlier_one_gave_up(server, tmp_path):
    server.breaks = [4000] + [0] * 5
    with pytest.raises(InputError, match=r"a.zip: the connection broke 6 times in a row .* goes on from 4,000 bytes"):
        fetch(server, tmp_path / "a.zip")
    assert sorted(os.listdir(tmp_path)) == ["a.zip.part", "a.zip.part.json"]
    server.requests.clear()
    counts = fetch(server, tmp_path / "a.zip")
    assert counts[0] == 4000 and sum(counts) == len(CONTENT)
    assert server.requests == [("a.zip", "bytes=4000-")]
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


@pytest.mark.parametrize("ranges", [True, False])
def test_another_version_and_a_server_without_ranges_are_downloaded_anew(server, tmp_path, ranges):
    server.breaks, server.ranges = [4000] + [0] * 5, ranges
    with pytest.raises(InputError, match="broke 6 times"):
        fetch(server, tmp_path / "a.zip")
    if ranges:
        server.content["a.zip"] = zipped(other=b"x" * 9000)
    counts = fetch(server, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == server.content["a.zip"]
    assert sum(counts) == len(server.content["a.zip"])


def test_a_server_without_ranges_that_always_breaks_off_is_given_up(server, tmp_path):
    server.ranges, server.breaks = False, [4000] * 20
    with pytest.raises(InputError, match="broke 6 times in a row"):
        fetch(server, tmp_path / "a.zip")
    assert len(server.requests) == 6


def test_what_is_complete_but_unverified_is_not_fetched_again(server, tmp_path):
    remote = look_up(f"{server.url}/a.zip")
    part_of(tmp_path / "a.zip").write_bytes(CONTENT)
    (tmp_path / "a.zip.part.json").write_text(json.dumps({"version": remote.version, "size": remote.size}))
    fetch(server, tmp_path / "a.zip")
    assert server.requests == []
    assert os.listdir(tmp_path) == ["a.zip"]


def test_lies_about_sizes_and_damaged_archives_are_noticed(server, tmp_path):
    server.announced["a.zip"] = len(CONTENT) + 10
    with pytest.raises(InputError, match=r"broke 6 times in a row .the server ended it early"):
        fetch(server, tmp_path / "a.zip")
    server.announced["a.zip"] = len(CONTENT) - 10
    with pytest.raises(InputError, match=r"a.zip: damaged .* what was downloaded from .*/a.zip is removed"):
        fetch(server, tmp_path / "a.zip")
    del server.announced["a.zip"]
    server.content["a.zip"] = CONTENT[:100] + b"?" + CONTENT[101:]
    with pytest.raises(InputError, match=r"a.zip: damaged in 'a'"):
        fetch(server, tmp_path / "a.zip")
    server.content["a.txt"] = b"\n <!doctype html>"
    with pytest.raises(InputError, match=r"a.txt: a web page"):
        fetch(server, tmp_path / "a.txt", "a.txt")
    encrypted = bytearray(CONTENT)
    encrypted[CONTENT.index(b"PK\1\2") + 8] |= 1
    server.content["a.zip"] = bytes(encrypted)
    with pytest.raises(InputError, match=r"a.zip: damaged .*encrypted"):
        fetch(server, tmp_path / "a.zip")
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_no_broken_connection(server, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(download, "_append", full)
    with pytest.raises(InputError, match=r"a.zip: cannot be written to: no space left on device"):
        fetch(server, tmp_path / "a.zip")


def test_a_server_that_answers_no_head_is_asked_for_the_file(server, tmp_path):
    server.heads = False
    assert look_up(f"{server.url}/a.zip").size == len(CONTENT)
    fetch(server, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_what_is_no_file_is_refused(server):
    with pytest.raises(InputError, match=r"none.zip: the server answers 404"):
        look_up(f"{server.url}/none.zip")
    server.page = True
    with pytest.raises(InputError, match=r"a.zip: answered by a web page, where a file was expected"):
        look_up(f"{server.url}/a.zip")
    with pytest.raises(InputError, match="it must start with http"):
        look_up("file:///etc/passwd")
    with pytest.raises(InputError, match=r"http://127.0.0.1:1/x: .*refused.*; check the network"):
        look_up("http://127.0.0.1:1/x")


@pytest.fixture(scope="module")
def kth():
    """The published files of KTH, with few and short videos."""
    video = (KTH_LIKE / "walking" / "person15_walking_d1_uncomp.avi").read_bytes()
    files = {name: zipped(**{f"person{i:02d}_{name[:-4]}_d1_uncomp.avi": video for i in (1, 20)}) for name in ARCHIVES}
    return files | {SEQUENCES: b"person01_walking_d1  frames  1-20\n"}


def test_kth_is_downloaded_checked_and_found_by_its_name(kth, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VIDCOMP_DATA", str(tmp_path))
    data = DataConfig(name="kth", cache_dir=tmp_path / "cache")
    with pytest.raises(InputError, match=r"kth is not in .*/kth or data/kth; .*experiments.download --dataset=kth"):
        open_clips(data, "train")
    monkeypatch.setitem(command.check_data.PRESETS, "kth", command.check_data.CheckDataConfig(data=data))
    with serving(kth) as server:
        server.content = {name: content for name, content in kth.items() if name != "boxing.zip"}
        with pytest.raises(InputError, match=r"boxing.zip: the server answers 404"):
            command.main(DownloadConfig(url=server.url))
        assert not (tmp_path / "kth").exists()
        server.content, server.breaks = kth, [0] * 6
        with pytest.raises(InputError, match=r"walking.zip: the connection broke 6 times"):
            command.main(DownloadConfig(url=server.url))
        with pytest.raises(
            InputError, match=r"00sequences.txt.part: a download that has not finished; go on with .*--output="
        ):
            open_clips(data, "train")
        capsys.readouterr()
        assert command.main(DownloadConfig(url=server.url)) == 0
        said = capsys.readouterr().out
        assert f"7 files from {server.url}, " in said and "are free in" in said and "training can start" in said
        names = open_clips(data, "train").names
        assert names[0] == "boxing/person01_boxing_d1_uncomp.avi[0:16]" and len(names) == 6
        server.requests.clear()
        assert command.main(DownloadConfig(url=server.url)) == 0
        assert server.requests == []
    assert set(os.listdir(tmp_path / "kth")) == {*ARCHIVES, SEQUENCES, "contact_sheet.png", "data_card.md"}


def test_too_little_space_is_said_before_anything_is_downloaded(kth, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(1000))
    with serving(kth) as server, pytest.raises(InputError, match=r"are needed to download them, but 1.0 kB are free"):
        command.main(DownloadConfig(url=server.url, output=tmp_path / "out"))
    assert server.requests == [] and os.listdir(tmp_path / "out") == []


def tar_of(**members: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def test_bair_is_unpacked_whole_or_not_at_all(tmp_path, monkeypatch):
    (name,), inner = PUBLISHED["bair"].files, "softmotion30_44k/train/traj_0_to_255.tfrecords"
    tar = tar_of(**{inner: b"records" * 1000, "softmotion30_44k/test/a.tfrecords": b"more", "other/readme": b"x"})
    monkeypatch.setattr(command.check_data, "main", lambda config: 0)
    with serving({name: tar}) as server:
        server.breaks = [2000]
        assert command.main(DownloadConfig(dataset="bair", url=server.url, output=tmp_path / "bair")) == 0
        assert (tmp_path / "bair" / inner).read_bytes() == b"records" * 1000
        files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
        marker = "bair/softmotion30_44k/.vidcomp_jax.json"
        assert files == {f"bair/{inner}", "bair/softmotion30_44k/test/a.tfrecords", marker}
        server.requests.clear()
        assert command.main(DownloadConfig(dataset="bair", url=server.url, output=tmp_path / "bair")) == 0
        assert server.requests == []
        server.content[name] = tar[:5000]
        with pytest.raises(InputError, match=f"{name}: cut off in '{inner}'.* is removed"):
            command.main(DownloadConfig(dataset="bair", url=server.url, output=tmp_path / "cut"))
    assert os.listdir(tmp_path / "cut") == []


def test_an_archive_cannot_write_elsewhere(tmp_path):
    (tmp_path / "evil.tar").write_bytes(tar_of(**{"softmotion30_44k/../../evil": b"evil"}))
    (tmp_path / "data").mkdir()
    with pytest.raises(InputError, match=r"evil.tar: .*outside"):
        unpack_bair(tmp_path / "evil.tar", tmp_path / "data")
    assert os.listdir(tmp_path / "data") == [] and not (tmp_path / "evil").exists()


def test_sizes_are_readable():
    texts = {12: "12 bytes", 1500: "1.5 kB", 123_456_789: "123 MB", 3 * 10**10: "30.0 GB"}
    assert {count: readable(count) for count in texts} == texts
