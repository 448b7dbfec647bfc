"""The cache of decoded clips is reused, rewritten after any change, and never incomplete."""

import json
import os
import shutil
import threading
import time
from collections import namedtuple

import numpy as np
import pytest

from vidcomp_jax.data import cache
from vidcomp_jax.data.cache import cached_clips
from vidcomp_jax.data.sources import Clip, Source, TooShort, in_parallel
from vidcomp_jax.errors import InputError


@pytest.fixture
def sources(tmp_path):
    paths = [tmp_path / f"{number:02d}.bin" for number in range(30)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number] * 8))
    return [Source(path.name, path, (path,)) for path in paths]


class Decoder:
    """Decodes a file to a clip with one frame per byte, and counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, source):
        self.calls += 1
        content = np.frombuffer(source.path.read_bytes(), np.uint8)
        frames = np.broadcast_to(content[:, None, None, None], (len(content), 4, 4, 1))
        return [Clip(source.name, "somebody", frames, 25.0)]


def open_cached(sources, decode, tmp_path, **settings):
    return cached_clips(
        sources, decode, settings=settings, frame_shape=(4, 4, 1), cache_dir=tmp_path / "cache", label="data"
    )


def cached_names(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").iterdir())


def test_the_cache_is_used_again(sources, tmp_path):
    decode = Decoder()
    clips = open_cached(sources, decode, tmp_path)
    again = open_cached(sources, decode, tmp_path)
    assert decode.calls == 30
    for number in range(30):
        np.testing.assert_array_equal(clips.frames(number, [0, 7]), np.full((2, 4, 4, 1), number))
        np.testing.assert_array_equal(clips.frames(number, range(8)), again.frames(number, range(8)))
    assert (again.names, again.fps, set(again.subjects)) == ([source.name for source in sources], 25.0, {0})


def test_anything_that_changes_makes_another_cache(sources, tmp_path):
    decode, made = Decoder(), set()

    def names_after(change):
        change()
        open_cached(sources, decode, tmp_path, size=64)
        new = set(cached_names(tmp_path)) - made
        made.update(new)
        return len(new)

    assert names_after(lambda: None) == 1
    assert names_after(lambda: None) == 0
    assert names_after(lambda: os.utime(sources[3].path, (1, 1))) == 1
    assert names_after(lambda: sources[3].path.write_bytes(b"123456789")) == 1
    assert names_after(lambda: sources.pop()) == 1
    open_cached(sources, decode, tmp_path, size=128)
    assert len(set(cached_names(tmp_path)) - made) == 1


def test_a_long_clip_is_verified_in_parts(tmp_path):
    file = tmp_path / "long.bin"
    file.write_bytes(bytes(range(256)) * 5)
    source = Source(file.name, file, (file,))
    clips = open_cached([source], Decoder(), tmp_path)
    np.testing.assert_array_equal(clips.frames(0, [1279, 511, 512])[:, 0, 0, 0], [255, 255, 0])
    (folder,) = (tmp_path / "cache").iterdir()
    frames = np.memmap(folder / "frames.bin", np.uint8, "r+", shape=(1280, 16))
    frames[600, 3] ^= 1
    frames.flush()
    clips = open_cached([source], Decoder(), tmp_path)
    assert len(clips.frames(0, [0, 511, 1024, 1279])) == 4
    with pytest.raises(InputError, match=r"this cache was damaged, the frames of long.bin are not those"):
        clips.frames(0, [0, 512])


def test_a_moved_data_set_keeps_its_cache(sources, tmp_path):
    decode = Decoder()
    open_cached(sources, decode, tmp_path)
    moved = tmp_path / "moved"
    moved.mkdir()
    elsewhere = []
    for source in sources:
        path = shutil.move(source.path, moved / source.path.name)
        elsewhere.append(Source(source.name, path, (path,)))
    open_cached(elsewhere, decode, tmp_path)
    assert decode.calls == 30


def test_an_interrupted_cache_is_never_used(sources, tmp_path):
    def interrupted(source):
        if source.name == "20.bin":
            raise KeyboardInterrupt
        return Decoder()(source)

    with pytest.raises(KeyboardInterrupt):
        open_cached(sources, interrupted, tmp_path)
    assert cached_names(tmp_path) == []
    decode = Decoder()
    assert len(open_cached(sources, decode, tmp_path).names) == 30
    assert decode.calls == 30


def test_two_at_once_do_not_collide(sources, tmp_path):
    barrier = threading.Barrier(2)
    results = []

    def work():
        barrier.wait()
        results.append(open_cached(sources, Decoder(), tmp_path))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cached_names(tmp_path)) == 1
    np.testing.assert_array_equal(results[0].frames(29, range(8)), results[1].frames(29, range(8)))


def test_what_killed_processes_left_is_removed_after_a_day(sources, tmp_path):
    open_cached(sources, Decoder(), tmp_path)
    (name,) = cached_names(tmp_path)
    shutil.rmtree(tmp_path / "cache" / name)
    old, young = (tmp_path / "cache" / f".{name}.{number}-0123abcd.tmp" for number in (1, 2))
    for folder in (old, young):
        folder.mkdir()
    os.utime(old, (time.time() - 90000,) * 2)
    open_cached(sources, Decoder(), tmp_path)
    assert cached_names(tmp_path) == sorted([name, young.name])


@pytest.mark.parametrize("damage", ["frames.bin", "index.json"])
def test_a_damaged_cache_is_named(sources, tmp_path, damage):
    open_cached(sources, Decoder(), tmp_path)
    (name,) = cached_names(tmp_path)
    file = tmp_path / "cache" / name / damage
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(InputError, match=f"{name}: this cache was damaged.*delete the folder"):
        open_cached(sources, Decoder(), tmp_path)


def test_a_flipped_pixel_is_noticed_when_its_clip_is_first_read(sources, tmp_path):
    open_cached(sources, Decoder(), tmp_path)
    (name,) = cached_names(tmp_path)
    file = tmp_path / "cache" / name / "frames.bin"
    content = bytearray(file.read_bytes())
    content[3 * 8 * 16 + 5] ^= 1
    file.write_bytes(content)
    clips = open_cached(sources, Decoder(), tmp_path)
    clips.frames(2, [0])
    for _ in range(2):
        with pytest.raises(
            InputError, match=rf"{name}: this cache was damaged, the frames of 03.bin .*delete the folder"
        ):
            clips.frames(3, [7])
    index = json.loads((tmp_path / "cache" / name / "index.json").read_text())
    del index["checksums"]  # as an earlier version wrote it
    (tmp_path / "cache" / name / "index.json").write_text(json.dumps(index))
    open_cached(sources, Decoder(), tmp_path).frames(3, [7])


def test_too_little_space_is_said_before_the_disk_is_full(sources, tmp_path, monkeypatch):
    decode = Decoder()
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: usage(1000, 0, 8 * 16 * 20 - 1))
    with pytest.raises(InputError, match=r"cache: the other videos take about .* GiB, .* are free"):
        open_cached(sources, decode, tmp_path)
    assert decode.calls < 20
    assert cached_names(tmp_path) == []


def test_a_full_disk_is_one_line(sources, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "_write_clips", full)
    with pytest.raises(InputError, match="cache: the disk is full"):
        open_cached(sources, Decoder(), tmp_path)
    assert cached_names(tmp_path) == []


def test_too_short_is_not_unreadable(sources, tmp_path):
    def mostly_short(source):
        if source.name > "05":
            raise TooShort(f"{source.path}: 1 frame")
        return Decoder()(source)

    clips = open_cached(sources, mostly_short, tmp_path)
    assert len(clips.names) == 5 and len(clips.left_out) == 25
    index = next((tmp_path / "cache").iterdir()) / "index.json"
    assert json.loads(index.read_text())["left_out"] == clips.left_out


def test_skipping_goes_on_however_much_is_unreadable(sources, tmp_path):
    make = Decoder()

    def decode(source):
        if int(source.name[:2]) >= 5:
            raise InputError(f"{source.name}: nonsense")
        return make(source)

    with pytest.raises(InputError, match=r"more than a tenth of 30.*4 so far.*`skip_unreadable` goes on"):
        open_cached(sources, decode, tmp_path)
    skipping = {"settings": {}, "frame_shape": (4, 4, 1), "cache_dir": tmp_path / "cache", "label": "data"}
    clips = cached_clips(sources, decode, **skipping, skip_unreadable=True)
    assert (len(clips.names), len(clips.left_out)) == (5, 25)
    with pytest.raises(InputError, match="more than a tenth of 30"):  # although the cache exists now
        open_cached(sources, decode, tmp_path)


def test_work_in_parallel_keeps_the_order():
    def slow_first(number):
        time.sleep(0.03 if number == 0 else 0)
        if number == 3:
            raise InputError("three")
        return number * number

    results = list(in_parallel(slow_first, range(7), "test"))
    assert [item for item, _ in results] == list(range(7))
    assert [str(result) for _, result in results] == ["0", "1", "4", "three", "16", "25", "36"]
    assert list(in_parallel(slow_first, range(1), "test")) == [(0, 0)]
