"""Reader processes: the same batches, errors in one line, and nothing left behind."""

import contextlib
import itertools
import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.support.reader_processes import reader_processes
from tests.support.troubled_clips import TroubledClips
from tools.bair_records import write_download
from vidcomp_jax.data import ArrayClips, DataConfig, FolderConfig, SyntheticConfig, open_clips, pairs, windows
from vidcomp_jax.data.workers import read_in_processes
from vidcomp_jax.devices import BatchShare
from vidcomp_jax.errors import InputError, TrainingError
from vidcomp_jax.media.images import write_strip
from vidcomp_jax.training.prefetch import Prefetch

OPTIONS = {"batch_size": 4, "seed": 3}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Clips that are mapped from a file."""
    path = tmp_path_factory.mktemp("clips") / "frames.bin"
    frames = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), np.uint8)
    path.write_bytes(bytes(64) + frames.tobytes())
    mapped = np.memmap(path, np.uint8, "r", 64)
    return ArrayClips(np.asarray(mapped).reshape(frames.shape), [6] * 10)


def taken(batches, count):
    """The first batches, and the iterator closed."""
    with contextlib.closing(batches):
        return [np.stack(batch) for batch in itertools.islice(batches, count)]


def children():
    """Process ids of the reader processes of this one."""
    return reader_processes(os.getpid())


@pytest.mark.parametrize("workers", [1, 3])
def test_the_batches_are_the_same_for_any_number_of_workers(clips, workers):
    for options in ({}, {"pairs_per_clip": 3, "equal_frames": True}, {"share": BatchShare(5, 1, 2)}):
        expected = taken(pairs(clips, **OPTIONS, **options), 12)
        np.testing.assert_array_equal(taken(pairs(clips, workers=workers, **OPTIONS, **options), 12), expected)
    whole = taken(windows(clips, num_frames=4, mirror=True, **OPTIONS), 9)
    again = windows(clips, num_frames=4, mirror=True, workers=workers, share=BatchShare(2), **OPTIONS)
    np.testing.assert_array_equal(taken(again, 7), whole[2:])
    assert not children()


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_that_are_kept_do_not_change(clips, workers):
    expected = taken(pairs(clips, **OPTIONS), 40)
    with contextlib.closing(pairs(clips, workers=workers, **OPTIONS)) as batches:
        kept = [next(batches) for _ in range(20)]
        # Views of different depths keep a batch as well.
        slices = [next(batches).driving[1:3, 2] for _ in range(20)]
    for batch, before in zip(kept, expected[:20], strict=True):
        np.testing.assert_array_equal(np.stack(batch), before)
    for part, before in zip(slices, expected[20:], strict=True):
        np.testing.assert_array_equal(part, before[1][1:3, 2])


def test_every_data_set_can_be_read_by_workers(tmp_path):
    write_download(tmp_path / "bair", train=[6], test=[2])
    for name in ("a", "b", "c"):
        for split in ("train", "test"):
            (tmp_path / "videos" / split).mkdir(parents=True, exist_ok=True)
            frames = np.random.default_rng(len(name)).integers(0, 256, (6, 16, 16, 3), np.uint8)
            write_strip(tmp_path / "videos" / split / f"{name}.png", frames)
    configs = [
        DataConfig(name="bair", data_dir=tmp_path / "bair", size=32, num_channels=3),
        DataConfig(name="folder", data_dir=tmp_path / "videos", size=16, num_channels=3, cache_dir=tmp_path / "cache"),
        DataConfig(
            name="folder",
            data_dir=tmp_path / "videos",
            size=16,
            num_channels=3,
            cache_dir=tmp_path / "cache",
            folder=FolderConfig(cache=False),
        ),
        DataConfig(name="synthetic", size=16, synthetic=SyntheticConfig(num_train=8)),
    ]
    for config in configs:
        clips = open_clips(config, "train")
        expected = taken(pairs(clips, **OPTIONS), 3)
        np.testing.assert_array_equal(taken(pairs(clips, workers=1, **OPTIONS), 3), expected)


def test_frames_that_are_mapped_from_a_file_are_not_copied_to_the_workers(clips):
    pickled = pickle.dumps(clips)
    assert len(pickled) < 4096 < 60 * 8 * 8 * 3
    again = pickle.loads(pickled)
    for clip in range(10):
        np.testing.assert_array_equal(again.frames(clip, range(6)), clips.frames(clip, range(6)))
    part = ArrayClips(clips._array[6:18], [6, 6])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(part)).frames(1, [5]), clips.frames(2, [5]))


@pytest.mark.parametrize("mode", ["r", "c"])
def test_slices_of_mapped_files_and_borrowed_memory_are_sent_as_they_are(tmp_path, mode):
    frames = np.random.default_rng(0).integers(0, 256, (12, 2, 2, 1), np.uint8)
    np.save(tmp_path / "frames.npy", frames)
    mapped = np.load(tmp_path / "frames.npy", mmap_mode=mode)
    if mode == "c":
        mapped[5] = frames[5] = 7  # in memory only
    for array in (mapped[4:], np.frombuffer(frames[4:].tobytes(), np.uint8).reshape(-1, 2, 2, 1)):
        again = pickle.loads(pickle.dumps(ArrayClips(array, [4, 4])))
        np.testing.assert_array_equal(again.frames(0, range(4)), frames[4:8])


class Inverted(ArrayClips):
    """Clips that change what they inherit."""

    def frames(self, clip, indices):
        return 255 - super().frames(clip, indices)


def test_clips_that_change_their_frames_are_trained_on_as_they_are():
    array = np.arange(64, dtype=np.uint8).reshape(16, 2, 2, 1)
    inverted, plain = (
        taken(windows(kind(array, [8, 8]), num_frames=3, batch_size=2, seed=0), 2) for kind in (Inverted, ArrayClips)
    )
    np.testing.assert_array_equal(inverted, 255 - np.stack(plain))


def test_signals_for_the_whole_job_leave_the_readers_at_work(clips):
    batches = pairs(clips, workers=1, **OPTIONS)
    found = [np.stack(next(batches))]
    for child in children():
        os.kill(child, signal.SIGTERM)
        os.kill(child, signal.SIGINT)
    time.sleep(0.2)
    found += [np.stack(batch) for batch in itertools.islice(batches, 12)]
    batches.close()
    np.testing.assert_array_equal(found, taken(pairs(clips, **OPTIONS), 13))
    assert not children()


def test_what_clips_print_does_not_disturb(capfd):
    batches = taken(pairs(TroubledClips("talkative"), workers=1, **OPTIONS), 6)
    np.testing.assert_array_equal(batches, taken(pairs(TroubledClips("talkative"), **OPTIONS), 6))
    assert capfd.readouterr().err.count("seven") >= 2


def test_an_error_keeps_its_type_and_message():
    with pytest.raises(InputError, match=r"^seven.avi: cannot be decoded$"):
        taken(pairs(TroubledClips("unreadable"), workers=2, **OPTIONS), 10)
    assert not children()
    with pytest.raises(RuntimeError, match=r"(?s)in _bug.*_OddError: 1 and 2"):
        taken(pairs(TroubledClips("bug"), workers=1, **OPTIONS), 10)
    with pytest.raises(EOFError, match=r"seven\.zip ends too early"):
        taken(pairs(TroubledClips("cut_off"), workers=1, **OPTIONS), 10)


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ("killed", r"^reader process [12] of 2 was ended by SIGKILL, perhaps for lack of memory; the same command"),
        ("exit", r"^reader process [12] of 2 ended with exit code 3; the same command goes on, and `workers` 0"),
    ],
)
def test_a_worker_that_dies_is_named_in_one_line(trouble, message):
    with pytest.raises(TrainingError, match=message):
        taken(pairs(TroubledClips(trouble), workers=2, **OPTIONS), 10)
    assert not children()


def test_workers_that_do_not_end_are_ended(monkeypatch):
    monkeypatch.setattr("vidcomp_jax.data.workers._SECONDS", 0.2)
    order = np.concatenate(taken(pairs(TroubledClips("talkative"), **OPTIONS), 2), 1)[0, :, 0, 0, 0]
    start = np.flatnonzero(order == 7)[0] // 4
    batches = pairs(TroubledClips("slow"), workers=2, share=BatchShare(1 - start), **OPTIONS)
    begun = time.perf_counter()
    next(batches)  # that is quick, but one of the next two takes a minute
    assert len(children()) == 2
    batches.close()
    assert not children() and time.perf_counter() - begun < 30


def test_clips_that_cannot_be_sent_are_named(clips):
    here = ArrayClips(np.zeros((4, 2, 2, 1), np.uint8), [4])
    here.lock = contextlib.nullcontext(lambda: None)
    with pytest.raises(InputError, match=r"^`workers` is 1, but these clips cannot be sent .*`workers` 0 reads them"):
        next(pairs(here, workers=1, **OPTIONS))
    with pytest.raises(InputError, match=r"^`workers` is -1; it must be at least 0$"):
        pairs(clips, workers=-1, **OPTIONS)


@pytest.mark.parametrize("size", [4, 1024])
def test_clips_of_the_main_program_are_refused_in_one_line(size):
    code = f"SIZE = {size}"
    code += """
import numpy as np
from vidcomp_jax.data import ArrayClips, pairs
class Mine(ArrayClips):
    pass
try:
    next(pairs(Mine(np.zeros((8, SIZE, SIZE, 1), np.uint8), [8]), batch_size=2, seed=0, workers=1))
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith("reader process 1 of 1 cannot open these clips (Can't get attribute 'Mine'")
    assert done.stdout.count("\n") == 1 and not done.stderr


def test_a_worker_imports_neither_jax_nor_tensorflow():
    code = (
        "import sys, vidcomp_jax.data.reader_process, vidcomp_jax.data.bair, vidcomp_jax.data.folder, "
        "vidcomp_jax.data.synthetic; print(sorted({'jax', 'flax', 'tensorflow', 'scipy', 'tyro'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("how", ["kill", "interrupt", "end"])
def test_workers_end_with_the_process_that_started_them(how):
    code = f"""
import os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
from tests.support.reader_processes import reader_processes
from tests.support.troubled_clips import TroubledClips
from vidcomp_jax.data import pairs
batches = pairs(TroubledClips("talkative"), batch_size=4, seed=0, workers=2)
next(batches)
print(*reader_processes(os.getpid()), flush=True)
if {how!r} != "end":
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    workers = [int(word) for word in process.stdout.readline().split()]
    assert len(workers) == 2
    if how != "end":
        process.send_signal(signal.SIGKILL if how == "kill" else signal.SIGINT)
    process.communicate(timeout=30)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(os.path.exists(f"/proc/{worker}") for worker in workers):
        time.sleep(0.05)
    assert not any(os.path.exists(f"/proc/{worker}") for worker in workers)


def test_prefetching_closes_what_it_reads_from(clips):
    with Prefetch(pairs(clips, workers=2, **OPTIONS), lambda batch: batch) as data:
        next(data)
        assert len(children()) == 2
    assert not children()


def test_a_reader_of_other_code_may_be_used(clips):
    class Reader:
        def batch_shape(self, count):
            return (count, 2)

        def fill(self, batch, numbers):
            batch[:] = np.array(numbers)[:, None]

    with pytest.raises(InputError, match="cannot be sent to other processes"):
        next(read_in_processes(Reader(), iter([range(2)]), 2, 1))
