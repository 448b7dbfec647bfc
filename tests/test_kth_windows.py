"""Training windows of KTH start at every frame of a range; testing and runs of earlier versions keep their clips."""

import pickle
import zlib
from pathlib import Path

import numpy as np
import pytest

from experiments import check_data, evaluate, extract_motion, reconstruct
from experiments.configs import CONFIGS
from experiments.train_inbetween import CONFIGS as INBETWEEN
from vidcomp_jax.data import DataConfig, KthConfig, open_clips
from vidcomp_jax.data.cache import cached_clips
from vidcomp_jax.data.clips import num_windows, window_of
from vidcomp_jax.data.examples import PairReader, WindowReader, epoch_size
from vidcomp_jax.data.kth import KthVideos
from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.motion.motion_file import MotionClips

KTH_LIKE = Path(__file__).parent / "data" / "kth_like"
EVERY = KthConfig(train_windows="every")
LENGTHS = [48, 27, 26, 42, 33, 23, 20, 25, 36, 25, 20]
"""Frames of the ranges of the train split."""


class Noted:
    """Clips that note which frames of which are read."""

    def __init__(self, clips):
        self.names, self.lengths, self.subjects = clips.names, clips.lengths, clips.subjects
        self.fps, self.frame_shape, self.window = clips.fps, clips.frame_shape, window_of(clips)
        self.read = []
        self._clips = clips

    def frames(self, clip, indices):
        self.read.append((int(clip), [int(index) for index in indices]))
        return self._clips.frames(clip, indices)

    @property
    def read_by_name(self):
        short = [name[14:16] + name[25:27] + name[name.index("[") :] for name in self.names]
        return [(short[clip], indices) for clip, indices in self.read]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def opened(cache, split="train", **settings):
    return open_clips(DataConfig(name="kth", data_dir=KTH_LIKE, cache_dir=cache, kth=KthConfig(**settings)), split)


@pytest.fixture(scope="module")
def ranges(cache):
    return opened(cache, train_windows="every")


def test_new_runs_train_on_every_window_and_old_ones_on_those_they_began_with():
    assert CONFIGS["kth"].data.kth == INBETWEEN["kth"].data.kth == EVERY
    assert extract_motion.PRESETS["kth"].data.kth == check_data.PRESETS["kth"].data.kth == EVERY
    assert KthConfig().train_windows == "fixed"


def test_scores_do_not_depend_on_the_training_windows():
    assert reconstruct.PRESETS["kth"].data.kth == KthConfig()  # with --split=train, too
    preset = evaluate.PRESETS["kth"]
    assert evaluate.data_settings(preset, preset.data)["kth"] == {"split": "literature", "num_frames": 16, "cut": True}


def test_motion_of_ranges_has_windows_at_every_frame(ranges):
    count = int(ranges.lengths.sum())
    keypoints = Keypoints(np.zeros((count, 2, 2), np.float32), np.zeros((count, 2, 2, 2), np.float32))
    clips = MotionClips(
        names=tuple(ranges.names), lengths=ranges.lengths, keypoints=keypoints, fps=25.0, fingerprint="", split="train"
    )
    starts = clips.window_starts(16)
    assert len(starts) == len(set(starts)) == num_windows(ranges, 16) == 160


def test_clips_to_train_on_are_the_ranges_and_are_verified(ranges, cache):
    assert ranges.lengths.tolist() == LENGTHS
    assert ranges.names[0] == "walking/person01_walking_d1_uncomp.avi[0:48]"
    assert window_of(ranges) == window_of(pickle.loads(pickle.dumps(ranges))) == 16
    assert num_windows(ranges, 16) == sum(LENGTHS) - 11 * 15 == 160
    fixed = opened(cache)
    assert window_of(fixed) is None
    np.testing.assert_array_equal(ranges.frames(0, range(16, 32)), fixed.frames(1, range(16)))


def test_an_epoch_visits_a_range_as_often_as_whole_windows_fit_in(ranges, cache):
    assert epoch_size(ranges) == epoch_size(opened(cache)) == sum(n // 16 for n in LENGTHS) == 16
    for reader in (PairReader, lambda clips, seed: WindowReader(clips, num_frames=16, seed=seed)):
        noted = Noted(ranges)
        reader(noted, seed=1)(range(32, 64))
        visited = np.array([clip for clip, _ in noted.read]).reshape(2, 16)
        for epoch in visited:
            assert np.bincount(epoch, minlength=11).tolist() == [n // 16 for n in LENGTHS]
        assert visited[0].tolist() != visited[1].tolist()


def test_every_window_occurs_and_all_of_a_range_equally_often(ranges):
    noted = Noted(ranges)
    epochs = 600
    WindowReader(noted, num_frames=16, seed=0)(range(16 * epochs))
    assert all(indices == list(range(indices[0], indices[0] + 16)) for _, indices in noted.read)
    counts = [np.zeros(n - 15) for n in LENGTHS]
    for clip, indices in noted.read:
        counts[clip][indices[0]] += 1
    for n, found in zip(LENGTHS, counts, strict=True):
        expected = epochs * (n // 16) / (n - 15)
        assert abs(found - expected).max() < 5 * expected**0.5
        assert found.min() > 0


def test_pairs_lie_in_a_window_and_their_distances_are_those_of_fixed_windows(ranges):
    noted = Noted(ranges)
    PairReader(noted, seed=0)(range(16 * 500))
    pairs = np.array([indices for _, indices in noted.read])
    distances = np.bincount(pairs[:, 1] - pairs[:, 0], minlength=16)
    expected = len(pairs) * np.array([0, *range(15, 0, -1)]) / 120  # of two different frames of 16
    assert distances.sum() == len(pairs) and len(distances) == 16
    assert (abs(distances - expected) <= 5 * expected**0.5).all()
    assert {frame for clip, pair in noted.read if clip == 0 for frame in pair} == {*range(48)}


def test_pairs_of_one_visit_lie_in_one_window(ranges):
    noted = Noted(ranges)
    PairReader(noted, seed=3, pairs_per_clip=6)(range(6 * 200))
    assert len(noted.read) == 200
    assert all(len(indices) == 12 and max(indices) - min(indices) < 16 for _, indices in noted.read)


def test_windows_of_another_length_start_at_every_frame_too(ranges):
    noted = Noted(ranges)
    WindowReader(noted, num_frames=24, seed=0)(range(2000))
    starts = {(clip, indices[0]) for clip, indices in noted.read}
    assert len(starts) == sum(max(n - 23, 0) for n in LENGTHS)


def test_examples_of_every_window_depend_on_their_numbers_alone(ranges):
    for reader in (PairReader(ranges, seed=1), WindowReader(ranges, num_frames=16, seed=1)):
        whole = reader(range(40))
        np.testing.assert_array_equal(reader(range(23, 40)), whole[23:])
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader))(range(23, 40)), whole[23:])


def test_runs_that_earlier_versions_began_draw_what_they_drew(cache):
    noted = Noted(opened(cache))
    PairReader(noted, seed=0, equal_frames=True)(range(14, 20))
    assert noted.read_by_name == [
        ("01d1[16:32]", [3, 10]),
        ("15d1[0:16]", [1, 3]),
        ("01d1[16:32]", [5, 12]),
        ("07d1[16:32]", [2, 11]),
        ("15d1[0:16]", [0, 12]),
        ("11d2[0:16]", [3, 10]),
    ]
    noted = Noted(opened(cache))
    WindowReader(noted, num_frames=10, seed=0)(range(14, 20))
    assert [(name, indices[0]) for name, indices in noted.read_by_name] == [
        ("01d1[16:32]", 1),
        ("15d1[0:16]", 0),
        ("01d1[16:32]", 2),
        ("07d1[16:32]", 1),
        ("15d1[0:16]", 5),
        ("11d2[0:16]", 4),
    ]


@pytest.mark.parametrize("train_windows", ["fixed", "every"])
def test_the_test_split_has_the_windows_that_it_had(cache, train_windows):
    clips = opened(cache, "test", train_windows=train_windows)
    assert clips.names == [f"walking/person{n}_walking_d1_uncomp.avi[0:16]" for n in (17, 19, 21, 23, 25)]
    assert clips.lengths.tolist() == [16] * 5 and clips.subjects.tolist() == [*range(5)]
    checksums = [zlib.crc32(np.ascontiguousarray(clips.frames(clip, range(16)))) for clip in range(5)]
    assert checksums == [2215947822, 987947848, 3780351890, 90580779, 3730907030]


def test_all_windows_are_parts_of_one_cache(tmp_path):
    for settings in ({}, {"train_windows": "every"}, {"cut": False}):
        for split in ("train", "test"):
            opened(tmp_path, split, **settings)
    sizes = [path.stat().st_size for path in tmp_path.glob("*/frames.bin")]
    assert len(sizes) == 2
    assert sum(sizes) == 64 * 64 * (sum(LENGTHS) + 30 + 22 + 24 + 24 + 20)


def test_what_an_earlier_version_decoded_is_used(tmp_path):
    """It cached the clips themselves, under a key without the settings that there are now."""
    videos = KthVideos(KTH_LIKE, "train", KthConfig())
    settings = {"size": 64, "num_channels": 1, "split": "literature", "num_frames": 16, "ranges": videos.ranges}
    earlier = cached_clips(
        videos.sources,
        lambda source: videos.decode(source, size=64, num_channels=1),
        settings=settings,
        frame_shape=(64, 64, 1),
        cache_dir=tmp_path,
        label="kth-64-train",
    )
    assert set(earlier.lengths) == {16}
    clips = opened(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    fresh = opened(tmp_path / "other")
    for clip in range(16):
        np.testing.assert_array_equal(clips.frames(clip, range(16)), fresh.frames(clip, range(16)))
    assert (clips.names, clips.left_out) == (fresh.names, fresh.left_out)
    opened(tmp_path, train_windows="every")
    assert opened(tmp_path).names == clips.names


def test_a_damaged_cache_is_named_whatever_is_cut_from_it(tmp_path):
    opened(tmp_path)
    (stored,) = tmp_path.glob("*/frames.bin")
    data = bytearray(stored.read_bytes())
    data[20 * 64 * 64] ^= 1
    stored.write_bytes(data)
    with pytest.raises(InputError, match=r"this cache was damaged, the frames of walking/person01.*\[0:48\]"):
        opened(tmp_path).frames(2, [0])


def test_without_cutting_pairs_may_be_any_two_frames_of_a_range(cache):
    clips = opened(cache, cut=False, train_windows="every")
    assert window_of(clips) is None and clips.lengths.tolist() == LENGTHS
    noted = Noted(clips)
    PairReader(noted, seed=0)(range(500))
    assert max(b - a for clip, (a, b) in noted.read if clip == 0) >= 32
