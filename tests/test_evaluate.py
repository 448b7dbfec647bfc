"""The loop over clips, what it writes, how it goes on after an interruption, and the command with its messages."""

import csv
import errno
import json

import jax
import numpy as np
import pytest
from flax import nnx

from experiments import evaluate
from experiments.commands import parse
from tests.support.i3d_modules import save_tensorflow, stand_in
from tests.support.tiny_fomm import tiny
from vidcomp_jax.completion.complete import complete
from vidcomp_jax.completion.completers import Completion, FrameFormat, KnownFrames
from vidcomp_jax.completion.trivial import TrivialCompleter
from vidcomp_jax.data.clips import ArrayClips
from vidcomp_jax.errors import InputError
from vidcomp_jax.evaluation.batches import Batch, Instruments, complete_gap, evaluate_batch, read_batch
from vidcomp_jax.evaluation.evaluate import Choices, choose_clips, score_clips
from vidcomp_jax.evaluation.frechet import frechet_distance
from vidcomp_jax.evaluation.lpips import LPIPS, load_lpips, lpips_distance, save_lpips
from vidcomp_jax.evaluation.protocols import Protocol
from vidcomp_jax.evaluation.records import open_records
from vidcomp_jax.fomm.between import render_between
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.fomm.loading import load_fomm, save_fomm
from vidcomp_jax.fomm.model import FirstOrderMotionModel
from vidcomp_jax.metrics import score

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


def test_only_one_batch_of_frames_is_held_at_a_time(tmp_path):
    clips, seen = Watched(5), []

    class Looks(Noisy):
        def complete(self, known, num_frames, key):
            seen.append((len(known.frames), list(clips.read)))
            return super().complete(known, num_frames, key)

    tools = Instruments({"looks": Looks()}, PROTOCOL)
    records = open_records(tmp_path / "out", choices())
    score_clips(records, clips, choose_clips(clips, PROTOCOL), tools, choices())
    assert [count for count, _ in seen] == [2] * 6  # the last batch, of one clip, is filled up
    assert [read for _, read in seen[::2]] == [[0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4]]
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
    with pytest.raises(InputError, match=r"known times \(1, 3, 6\) of a clip of 6 frames; they must ascend within it"):
        TrivialCompleter(blend=True).complete(known, 6, key)


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    real = np.savez

    def full(file, **arrays):
        real(file, **arrays)
        raise OSError(errno.ENOSPC, "No space left on device", "disk")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
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


DATA = ["--dataset=synthetic", "--size=32", "--synthetic.num-train=4", "--synthetic.num-test=3"]


def run_command(*arguments):
    evaluate.main(parse(evaluate.EvaluateConfig, [*DATA, *map(str, arguments)], evaluate.PRESETS))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with a keypoint model, an I3D stand-in, and weights for LPIPS."""
    folder = tmp_path_factory.mktemp("evaluate")
    save_fomm(folder / "fomm", FirstOrderMotionModel(tiny().fomm, rngs=nnx.Rngs(0)))
    save_tensorflow(folder / "i3d")
    save_lpips(folder / "lpips.npz", LPIPS("alex", rngs=nnx.Rngs(0)))
    return folder


LENGTH = ["--synthetic.length=6", "--num-frames=6"]


def test_the_command_writes_what_the_library_computes(files, tmp_path, capsys):
    output = tmp_path / "out"
    run_command(f"--fomm={files / 'fomm'}", *LENGTH, "--batch-size=2", f"--output={output}", "--report-clips=1")
    names = {"clips", "metrics.json", "metrics.csv", "table.md", "table.tex", "report.html", "plots", "panels"}
    assert {path.name for path in output.iterdir()} == names
    metrics = json.loads((output / "metrics.json").read_text())
    clips = evaluate.open_clips(parse(evaluate.EvaluateConfig, [*DATA, *LENGTH], evaluate.PRESETS).data, "test")
    truth = read_batch(clips, range(3), 0, 6, ()).frames
    model = load_fomm(files / "fomm")
    detected = model.detect(truth[:2])
    expected = {
        "linear": complete(model, truth[:2, 0], truth[:2, -1], 6).frames,
        "repeat": np.repeat(truth[:, :1], 6, 1),
        "true keypoints": render_between(model, truth[:2, 0], truth[:2, -1], detected),
    }
    assert [row["title"] for row in metrics["rows"]] == ["linear", "repeat", "blend", "true keypoints"]
    with (output / "metrics.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 3 * 4 and lines[0]["clip"] == metrics["clips"][0] == "walker-test-00000"
    for method, frames in expected.items():
        found = score(frames[:, 1:-1], truth[: len(frames), 1:-1])
        of_method = [line for line in lines if line["method"] == method]
        for name in ("l1", "psnr", "ssim"):
            values = [float(line[name]) for line in of_method]
            np.testing.assert_allclose(values[: len(frames)], getattr(found, name).mean(1), rtol=1e-4)
            row = next(row for row in metrics["rows"] if row["title"] == method)
            estimate = row["metrics"][name]
            assert estimate["value"] == pytest.approx(np.mean(values)) and estimate["low"] <= estimate["high"]
    assert metrics["settings"]["weights"].keys() == {"fomm"} and metrics["settings"]["num_clips"] == 3
    assert set(metrics["joints"]["linear"]) >= {"head", "left_hand", "right_foot"}
    assert metrics["fvd"] is None and len(metrics["notes"]) == 2
    batches = [dict(np.load(output / "clips" / f"0000{number}.npz"))["linear/l1"] for number in range(2)]
    by_frame = np.concatenate(batches).mean((0, 1))
    np.testing.assert_allclose(metrics["by_frame"]["linear"]["l1"], by_frame)
    printed = capsys.readouterr().out
    assert (output / "table.md").read_text() in printed and "report.html" in printed
    with pytest.raises(InputError, match="holds a finished evaluation"):
        run_command(f"--fomm={files / 'fomm'}", *LENGTH, "--batch-size=2", f"--output={output}", "--report-clips=1")


def test_distances_with_given_weights(files, tmp_path):
    long = ["--synthetic.length=9", "--num-frames=9", "--method=blend"]
    run_command(*long, f"--lpips={files / 'lpips.npz'}", f"--i3d={files / 'i3d'}", f"--output={tmp_path / 'out'}")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert [row["title"] for row in metrics["rows"]] == ["blend", "repeat"]  # no ceiling without a keypoint model
    assert metrics["settings"]["weights"].keys() == {"lpips", "i3d"}
    clips = evaluate.open_clips(parse(evaluate.EvaluateConfig, [*DATA, *long], evaluate.PRESETS).data, "test")
    truth = read_batch(clips, range(3), 0, 9, ()).frames
    repeated = np.repeat(truth[:, :1], 9, 1)
    repeated[:, -1] = truth[:, -1]  # the given frames count
    # At 32 pixels, corners at the edges make 224 pixels of 7 equal steps between two neighbors.
    weight = (np.arange(224) % 7 / 7).astype(np.float32)

    def upscaled(x):
        for axis in (2, 3):
            low = np.arange(224) // 7
            shape = [1] * x.ndim
            shape[axis] = 224
            w = weight.reshape(shape)
            x = (1 - w) * np.take(x, low, axis) + w * np.take(x, np.minimum(low + 1, 31), axis)
        return np.broadcast_to(2 * x - 1, (*x.shape[:-1], 3))

    expected = frechet_distance(*(stand_in(upscaled(x)) for x in (truth, repeated)))
    assert metrics["fvd_i3d400_n3_t9"]["repeat"]["value"] == pytest.approx(expected, rel=1e-3)
    distance = lpips_distance(load_lpips(files / "lpips.npz"), repeated[:, 1:-1], truth[:, 1:-1])
    found = {row["title"]: row["metrics"]["lpips"]["value"] for row in metrics["rows"]}
    assert found["repeat"] == pytest.approx(distance.mean(), rel=1e-4)


@pytest.mark.parametrize(
    ("says", "arguments"),
    [
        ("method wgan needs `motion_model`=RUN", "--method=wgan"),
        ("the longest of 3 clips has 6", "--num-frames=7"),
        ("frames of 3 channels, but .*fomm takes 1; give `num_channels`=1", "--num-channels=3"),
        (
            "1 clip to evaluate; `i3d` computes a Fréchet distance, which needs at least 2",
            "--i3d={files}/i3d --max-clips=1",
        ),
        ("`num_frames` is 6; with `i3d` it must be at least 9", "--i3d={files}/i3d"),
        ("is not a SavedModel", "--i3d={files}/fomm"),
        ("no converted LPIPS weights", "--lpips={files}/fomm/config.json"),
        ("--best-by is 'lpips'; it must be another metric", "--best-by=lpips"),
        ("frames of 8x8 pixels; SSIM needs at least 11", "--method=blend --size=8"),
        ("`samples` is 3, but protocol mcvd-kth fixes 10", "--protocol=mcvd-kth --num-frames=25 --samples=3"),
        ("`num_frames` is 6, but protocol magvit-fi fixes 16", "--protocol=magvit-fi"),
        ("no such file; the config of a run or model was expected", "--fomm={files}/i3d"),
    ],
)
def test_mistakes_get_one_line_and_nothing_is_written(files, tmp_path, says, arguments):
    given = arguments.format(files=files).split()
    usual = {"--fomm": f"--fomm={files / 'fomm'}", "--num-frames": "--num-frames=6"}
    usual = [text for name, text in usual.items() if name not in arguments]
    with pytest.raises(InputError, match=says) as error:
        run_command("--synthetic.length=6", *usual, *given, f"--output={tmp_path / 'out'}")
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())
