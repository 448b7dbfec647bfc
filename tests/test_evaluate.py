"""The command that evaluates methods: its results, the protocols of papers, and its messages."""

import csv
import json
import pathlib
import shutil

import numpy as np
import pytest
from flax import nnx
from skimage.metrics import structural_similarity

from experiments import evaluate
from experiments.commands import parse
from tests.support.i3d_modules import save_tensorflow, stand_in
from tests.support.tiny_fomm import tiny
from tools.bair_records import write_download
from vidcomp_jax.completion.complete import complete, complete_known
from vidcomp_jax.data import DataConfig, open_clips
from vidcomp_jax.errors import InputError
from vidcomp_jax.evaluation.batches import read_batch
from vidcomp_jax.evaluation.frechet import frechet_distance
from vidcomp_jax.evaluation.lpips import LPIPS, load_lpips, lpips_distance, save_lpips
from vidcomp_jax.fomm.between import render_between
from vidcomp_jax.fomm.loading import load_fomm, save_fomm
from vidcomp_jax.fomm.model import FirstOrderMotionModel
from vidcomp_jax.media.images import center_square, resize, to_float
from vidcomp_jax.media.video import read_frames
from vidcomp_jax.metrics import score
from vidcomp_jax.storage.folders import MARKER

KTH_LIKE = pathlib.Path(__file__).parent / "data" / "kth_like"
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
    names = {
        MARKER,
        "clips",
        "metrics.json",
        "metrics.csv",
        "table.txt",
        "table.md",
        "table.tex",
        "report.html",
        "plots",
        "panels",
    }
    assert {path.name for path in output.iterdir()} == names
    metrics = json.loads((output / "metrics.json").read_text())
    clips = open_clips(parse(evaluate.EvaluateConfig, [*DATA, *LENGTH], evaluate.PRESETS).data, "test")
    truth = read_batch(clips, range(3), 0, 6, ()).frames
    model = load_fomm(files / "fomm")
    detected = model.detect(truth[:2])
    expected = {
        "linear": complete(model, truth[:2, 0], truth[:2, -1], 6).frames,
        "repeat": np.repeat(truth[:, :1], 6, 1),
        "true keypoints": render_between(model, truth[:2, [0, -1]], (0, 5), detected),
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
    assert (output / "table.txt").read_text() in printed and "report.html" in printed
    with pytest.raises(InputError, match="holds a finished evaluation"):
        run_command(f"--fomm={files / 'fomm'}", *LENGTH, "--batch-size=2", f"--output={output}", "--report-clips=1")


def test_known_frames_anywhere_and_the_videos_of_a_folder(files, tmp_path):
    videos = tmp_path / "videos"
    for name in ("person21", "person23"):
        (videos / name).mkdir(parents=True)
        shutil.copy(KTH_LIKE / "walking" / f"{name}_walking_d1_uncomp.avi", videos / name / "clip.avi")
    output = tmp_path / "out"
    given = [f"--input={videos}", "--known=1,4", "--resize=32", "--num-frames=6", f"--fomm={files / 'fomm'}"]
    run_command(*given, f"--output={output}", "--report-clips=0")
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["clips"] == [str(videos / name / "clip.avi") for name in ("person21", "person23")]
    assert len(metrics["by_frame"]["linear"]["l1"]) == 4 and "joints" not in metrics["rows"][0]["metrics"]

    def frames(path):
        found = read_frames(pathlib.Path(path), num_channels=1)
        return to_float(resize(center_square(found[np.linspace(0, len(found) - 1, 6).round().astype(int)]), 32))

    truth = np.stack([frames(path) for path in metrics["clips"]])
    made = complete_known(load_fomm(files / "fomm"), truth[:, [1, 4]], (1, 4), 6).frames
    expected = score(made[:, [0, 2, 3, 5]], truth[:, [0, 2, 3, 5]])
    for name in ("l1", "psnr", "ssim"):
        value = metrics["rows"][0]["metrics"][name]["value"]
        assert value == pytest.approx(getattr(expected, name).mean(), rel=1e-4)
    repeated = score(truth[:, [1, 1, 1, 4]], truth[:, [0, 2, 3, 5]])
    assert metrics["rows"][1]["title"] == "repeat" and repeated.l1.shape == (2, 4)


def test_distances_with_given_weights(files, tmp_path):
    long = ["--synthetic.length=9", "--num-frames=9", "--method=blend"]
    run_command(*long, f"--lpips={files / 'lpips.npz'}", f"--i3d={files / 'i3d'}", f"--output={tmp_path / 'out'}")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert [row["title"] for row in metrics["rows"]] == ["blend", "repeat"]  # no ceiling without a keypoint model
    assert metrics["settings"]["weights"].keys() == {"lpips", "i3d"}
    clips = open_clips(parse(evaluate.EvaluateConfig, [*DATA, *long], evaluate.PRESETS).data, "test")
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


def run_protocol(name, data_dir, tmp_path, *arguments):
    """Evaluate the trivial methods by a protocol; return the metrics, and the values of each clip by method."""
    output = tmp_path / "out"
    given = [f"--protocol={name}", f"--data-dir={data_dir}", f"--cache-dir={tmp_path / 'cache'}", "--method=blend"]
    config = parse(evaluate.EvaluateConfig, [*given, f"--output={output}", *arguments], evaluate.PRESETS)
    evaluate.main(config)
    with (output / "metrics.csv").open() as file:
        lines = [line for line in csv.DictReader(file) if line["method"] == "blend"]
    return json.loads((output / "metrics.json").read_text()), lines


def blended(truth, before, after):
    weight = ((np.arange(before, after + 1) - before) / (after - before))[1:-1, None, None, None]
    return (1 - weight) * truth[:, [before]] + weight * truth[:, [after]]


def test_the_protocol_of_magvit(files, tmp_path):
    write_download(tmp_path, train=[1], test=[3], draw=False)
    metrics, lines = run_protocol("magvit-fi", tmp_path, tmp_path, f"--i3d={files / 'i3d'}")
    settings = metrics["settings"]
    assert settings["frame_shape"] == [64, 64, 3] and settings["data"]["bair"]["camera"] == "aux1"
    assert settings["protocol"]["num_frames"] == 16 and set(metrics["fvd_i3d400_n3_t16"]) == {"blend", "repeat"}
    assert "Protocol magvit-fi has 256 clips, this data 3" in metrics["notes"][-1]
    clips = open_clips(DataConfig(name="bair", data_dir=tmp_path, size=64, num_channels=3), "test")
    truth = read_batch(clips, range(3), 0, 16, ()).frames
    found = score(blended(truth, 0, 15), truth[:, 1:15])
    for i, line in enumerate(lines):
        assert float(line["psnr"]) == pytest.approx(found.psnr[i].mean(), rel=1e-4)


def test_the_protocol_of_mcvd(files, tmp_path):
    folder = tmp_path / "kth" / "walking"
    folder.mkdir(parents=True)
    for person in (20, 21, 25):  # the first of them is in the training split
        video = KTH_LIKE / "walking" / "person01_walking_d1_uncomp.avi"
        shutil.copy(video, folder / f"person{person}_walking_d1_uncomp.avi")
    metrics, lines = run_protocol("mcvd-kth", folder.parent, tmp_path, f"--lpips={files / 'lpips.npz'}")
    assert {clip[:16] for clip in metrics["clips"]} == {"walking/person21", "walking/person25"}
    frames = read_frames(KTH_LIKE / "walking" / "person01_walking_d1_uncomp.avi", num_channels=1)[:25]
    truth = to_float(resize(center_square(frames), 64))[None]
    clip = blended(truth, 9, 20)[0]  # between the last past and the first future frame
    square = np.square(clip - truth[0, 10:20]).mean()
    assert float(lines[0]["psnr"]) == pytest.approx(-10 * np.log10(square), rel=1e-4)
    cut = [np.floor(x * 255).astype(np.uint8) for x in (clip, truth[0, 10:20])]
    expected = [
        structural_similarity(
            a[..., 0], b[..., 0], data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for a, b in zip(*cut, strict=True)
    ]
    assert float(lines[0]["ssim"]) == pytest.approx(np.mean(expected), abs=2e-3)
    distance = lpips_distance(load_lpips(files / "lpips.npz"), *(to_float(resize(x, 128)) for x in cut))
    assert float(lines[0]["lpips"]) == pytest.approx(distance.mean(), rel=1e-2)


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
        ("`known` is 1, 1; frame numbers must be in ascending order", "--known=1,1"),
        ("`known` is 0, 6; a clip of 6 frames has frames 0 to 5", "--known=0,6"),
        ("fewer than all frames, so that a frame is left to score", "--known=0,1,2,3,4,5"),
        ("`known` is '1,x'; it must be frame numbers separated by commas", "--known=1,x"),
        (
            "`known` is '0,8'; it must be left out: protocol magvit-fi",
            "--protocol=magvit-fi --known=0,8 --num-frames=16",
        ),
        ("--input is .*; it must be left out: protocol", "--protocol=mcvd-kth --input={files}"),
        ("--resize is 8; it must be given with --input", "--resize=8"),
        ("no videos", "--input={files}"),
        ("absent.mp4: no such", "--input={files}/absent.mp4"),
        ("6 frames|needs as many", "--input={kth} --num-frames=5000"),
        ("no such file; the config of a run or model was expected", "--fomm={files}/i3d"),
    ],
)
def test_mistakes_get_one_line_and_nothing_is_written(files, tmp_path, says, arguments):
    given = arguments.format(files=files, kth=KTH_LIKE).split()
    usual = {"--fomm": f"--fomm={files / 'fomm'}", "--num-frames": "--num-frames=6"}
    usual = [text for name, text in usual.items() if name not in arguments]
    with pytest.raises(InputError, match=says) as error:
        run_command("--synthetic.length=6", *usual, *given, f"--output={tmp_path / 'out'}")
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())
