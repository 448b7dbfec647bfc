"""The loop over clips: what methods are given, what is kept, and how it goes on after an interruption."""

import errno

import jax
import numpy as np
import pytest

from vidcomp_jax.completion.completers import Completion, FrameFormat, KnownFrames
from vidcomp_jax.completion.trivial import TrivialCompleter
from vidcomp_jax.data.clips import ArrayClips
from vidcomp_jax.errors import InputError
from vidcomp_jax.evaluation.batches import Batch, Instruments, complete_gap, evaluate_batch
from vidcomp_jax.evaluation.evaluate import Choices, choose_clips, score_clips
from vidcomp_jax.evaluation.protocols import Protocol
from vidcomp_jax.evaluation.records import open_records
from vidcomp_jax.fomm.keypoints import Keypoints

PROTOCOL = Protocol(num_frames=4, samples=2)


class Noisy:
    """A stochastic method: a blend and noise that depends on the random key."""

    stochastic, over_keypoints, num_frames, frame_format = True, False, None, FrameFormat("noisy")
    ends_only = True

    def __init__(self, stop_at=None):
        self.calls, self.stop_at = 0, stop_at

    def complete(self, known, num_frames, key):
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        self.calls += 1
        frames = TrivialCompleter(blend=True).complete(known, num_frames, key).frames.copy()
        noise = np.asarray(jax.random.uniform(key, frames[:, 1:-1].shape))
        frames[:, 1:-1] = 0.8 * frames[:, 1:-1] + 0.2 * noise
        return Completion(frames, None)


class Watched(ArrayClips):
    """Clips that record which ones are read."""

    def __init__(self, count):
        frames = np.random.default_rng(0).integers(0, 256, (count * 5, 12, 12, 1), np.uint8)
        super().__init__(frames, [5] * count, names=[f"c{i}" for i in range(count)])
        self.read = []

    def frames(self, clip, indices):
        self.read.append(int(clip))
        return super().frames(clip, indices)


def choices(**changes):
    usual = {
        "methods": ("noisy", "blend"),
        "protocol": PROTOCOL,
        "data": {},
        "render": "both",
        "frame_shape": (12, 12, 1),
        "num_clips": 5,
        "clips": "",
        "batch_size": 2,
        "seed": 0,
        "report_clips": 2,
        "weights": {},
    }
    return Choices(**usual | changes)


def run_loop(folder, *, stop_at=None, clips=None):
    clips = clips or Watched(5)
    tools = Instruments({"noisy": Noisy(stop_at), "blend": TrivialCompleter(blend=True)}, PROTOCOL)
    records = open_records(folder, choices())
    count = score_clips(records, clips, choose_clips(clips, PROTOCOL), tools, choices())
    return list(records.batches(count))


def without_seconds(batches):
    return [{name: x for name, x in batch.items() if not name.endswith("/seconds")} for batch in batches]


def test_an_interrupted_evaluation_goes_on_and_equals_one_that_was_not(tmp_path):
    whole = run_loop(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run_loop(tmp_path / "part", stop_at=3)  # two samples a batch: in the second batch
    assert sorted(path.name for path in (tmp_path / "part" / "clips").iterdir()) == ["00000.npz", "config.json"]
    clips = Watched(5)
    found = run_loop(tmp_path / "part", clips=clips)
    assert clips.read == [2, 3, 4]  # the first batch is not read again
    assert len(found) == 3
    for a, b in zip(without_seconds(found), without_seconds(whole), strict=True):
        assert list(a) == list(b)
        for name, value in a.items():
            np.testing.assert_array_equal(value, b[name], err_msg=name)


def test_no_more_than_one_batch_of_frames_is_read_ahead(tmp_path):
    clips, seen = Watched(5), []

    class Looks(Noisy):
        def complete(self, known, num_frames, key):
            seen.append((len(known.frames), len(clips.read)))
            return super().complete(known, num_frames, key)

    tools = Instruments({"looks": Looks()}, PROTOCOL)
    records = open_records(tmp_path / "out", choices())
    score_clips(records, clips, choose_clips(clips, PROTOCOL), tools, choices())
    assert [count for count, _ in seen] == [2] * 6  # the last batch, of one clip, is filled up
    assert all(done <= read <= done + 2 for done, (_, read) in zip((2, 4, 5), seen[::2], strict=True))
    assert clips.read == [0, 1, 2, 3, 4]
    stored = records.load(2)
    assert stored["looks/l1"].shape == (1, 2, 2)
    kept = [name for name in stored if name.endswith("/frames")]
    assert kept == [f"shown/0/{title}/frames" for title in ("truth", "looks 1", "looks best of 2")]
    assert not [name for name in records.load(1) if name.startswith("shown")]  # clips 0 and 4 of 5 are shown


def test_samples_differ_between_batches_and_depend_on_the_seed_alone():
    frames = np.broadcast_to(np.float32(0.5), (2, 4, 12, 12, 1))
    found = [
        evaluate_batch(Instruments({"noisy": Noisy()}, PROTOCOL, seed=seed), Batch(number, frames), 2)["noisy/l1"]
        for seed, number in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    np.testing.assert_array_equal(found[0], found[1])
    assert len({x.tobytes() for x in found}) == 3


class Given:
    """A method that records what it is given, and repeats the time of each frame."""

    stochastic, over_keypoints, num_frames, frame_format = False, True, None, FrameFormat("given")

    def __init__(self, ends_only):
        self.ends_only = ends_only

    def complete(self, known, num_frames, key):
        self.given, self.length = known, num_frames
        times = np.arange(num_frames, dtype=np.float32)
        frames = np.broadcast_to(times[:, None, None, None] / 100, (2, num_frames, 12, 12, 1))
        position = np.broadcast_to(times[:, None, None], (2, num_frames, 1, 2))
        return Completion(frames, Keypoints(position, np.zeros((2, num_frames, 1, 2, 2), np.float32)))


@pytest.mark.parametrize("ends_only", [True, False])
def test_methods_get_the_given_frames_that_they_take(ends_only):
    protocol, method = Protocol(num_frames=9, past=3, future=2), Given(ends_only)
    truth = np.random.default_rng(0).random((2, 9, 12, 12, 1), np.float32)
    given = KnownFrames(truth[:, list(protocol.known)], protocol.known)
    found = complete_gap(method, given, protocol, jax.random.key(0))
    expected = (0, 5) if ends_only else (0, 1, 2, 7, 8)
    assert (method.given.times, method.length) == (expected, 6 if ends_only else 9)
    np.testing.assert_array_equal(method.given.frames, truth[:, [2, 7] if ends_only else [0, 1, 2, 7, 8]])
    np.testing.assert_array_equal(found.frames[:, [0, 1, 2, 7, 8]], truth[:, [0, 1, 2, 7, 8]])
    times = np.arange(6) + (0 if ends_only else 2)  # of the window, as the method counts them
    np.testing.assert_allclose(found.frames[0, 3:7, 0, 0, 0] * 100, times[1:-1], rtol=1e-6)
    np.testing.assert_array_equal(found.keypoints.position[0, :, 0, 0], times)


def test_trivial_methods_take_any_known_frames():
    known = KnownFrames(np.array([0, 128, 255], np.uint8)[None, :, None, None, None].repeat(12, 2), (1, 3, 6))
    key = jax.random.key(0)
    repeated = TrivialCompleter(blend=False).complete(known, 8, key).frames[0, :, 0, 0, 0] * 255
    blended = TrivialCompleter(blend=True).complete(known, 8, key).frames[0, :, 0, 0, 0] * 255
    np.testing.assert_allclose(repeated, [0, 0, 0, 128, 128, 128, 255, 255], atol=1e-4)
    np.testing.assert_allclose(blended, [0, 0, 64, 128, 128 + 127 / 3, 128 + 254 / 3, 255, 255], atol=1e-4)
    with pytest.raises(InputError, match="1, 3, 6"):
        TrivialCompleter(blend=True).complete(known, 6, key)


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    real = np.savez

    def full(file, **arrays):
        real(file, **arrays)
        raise OSError(errno.ENOSPC, "No space left on device", "disk")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(InputError, match="no space left"):
        run_loop(tmp_path / "out")
    assert [path.name for path in (tmp_path / "out" / "clips").iterdir()] == ["config.json"]
    monkeypatch.undo()
    assert len(run_loop(tmp_path / "out")) == 3


def test_folders_that_hold_something_else_are_left_alone(tmp_path):
    run_loop(tmp_path / "out")
    with pytest.raises(InputError, match="seed is 0 there, 1 now"):
        open_records(tmp_path / "out", choices(seed=1))
    (tmp_path / "out" / "metrics.json").write_text("{}")
    with pytest.raises(InputError, match="holds a finished evaluation; give another folder, or `overwrite`"):
        open_records(tmp_path / "out", choices())
    assert not open_records(tmp_path / "out", choices(seed=1), overwrite=True).has(0)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "config.json").write_text("{}")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="holds other things than an evaluation; it is left as it is"):
            open_records(tmp_path / "foreign", choices(), overwrite=overwrite)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="a file; a folder is written"):
        open_records(tmp_path / "file", choices())
    with pytest.raises(InputError, match="does not exist"):
        open_records(tmp_path / "no" / "out", choices())
    run_loop(tmp_path / "damaged")
    path = tmp_path / "damaged" / "clips" / "00001.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"00001.npz: damaged .*delete it, and the same command scores it again"):
        run_loop(tmp_path / "damaged")
