"""The four commands from frames to completed clips, and their one-line errors."""

import json
import re
import shutil

import numpy as np
import pytest

from experiments import train_autoregressive, train_motion_gan
from tests.support.motion_commands import make_runs, run_complete, train
from vidcomp_jax.completion.complete import complete as library_complete
from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.loading import fingerprint, load_fomm
from vidcomp_jax.media.images import write_image
from vidcomp_jax.media.video import VideoWriter, read_frames
from vidcomp_jax.motion.loading import load_motion_model
from vidcomp_jax.motion.motion_file import MotionClips
from vidcomp_jax.motion.wgan import WGANConfig
from vidcomp_jax.storage.config import load_config
from vidcomp_jax.storage.folders import MARKER


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with a keypoint model, motion of both splits, and a training run of each motion model."""
    return make_runs(tmp_path_factory.mktemp("motion"), "gan", "next", "flow")


def test_extracted_motion_is_what_the_model_detects(work):
    clips, model = MotionClips.load(work / "train.npz"), load_fomm(work / "fomm")
    assert clips.names == tuple(f"walker-train-{i:05d}" for i in range(4))
    assert (clips.fps, clips.split, clips.fingerprint) == (25.0, "train", fingerprint(model))
    np.testing.assert_array_equal(clips.lengths, 6)
    frames = np.concatenate(clips.preview)[:12].astype(np.float32) / 255
    for found, expected in zip(clips.keypoints, model.detect(frames), strict=True):
        np.testing.assert_allclose(found[:12], expected, atol=1e-5)


@pytest.mark.parametrize("run", ["gan", "next", "flow"])
def test_training_leaves_a_config_curves_panels_and_errors(work, run):
    config = json.loads((work / run / "config.json").read_text())
    assert config["trained_on"]["num_keypoints"] == 3
    assert config["trained_on"]["fingerprint"] == fingerprint(load_fomm(work / "fomm"))
    panels = {path.name for path in (work / run / "panels").iterdir()}
    best_of = set() if run == "next" else {"best-of-00000002.png"}
    assert panels == {"curves-00000002.png", "samples-00000002.png"} | best_of
    lines = [json.loads(line) for line in (work / run / "metrics.jsonl").read_text().splitlines()]
    names = set().union(*lines)
    losses = {
        "gan": {"critic_loss", "generator_loss", "penalty", "wasserstein"},
        "next": {"next_frame_mse"},
        "flow": {"offset_mse", "difference_mse"},
    }
    assert losses[run] | {"evaluation/error_best_1", "evaluation/error_linear"} <= names
    stored = json.loads((work / run / "motion_errors.json").read_text())
    assert (stored["clips"], stored["frames"], stored["samples"]) == (2, 5, 1 if run == "next" else 50)
    assert stored["errors"] == {
        name.removeprefix("evaluation/"): value for name, value in lines[-1].items() if "/" in name
    }


def test_all_methods_side_by_side(work, tmp_path, capsys):
    output = tmp_path / "out"
    run_complete(
        *(f"--fomm={work / 'fomm'}", f"--output={output}", "--num-frames=6", "--samples=2", "--format=gif"),
        *("--method", "linear", "flow", "wgan", "autoregressive"),
        *("--motion-model", work / "gan", work / "next", work / "flow"),
    )
    assert sorted(path.name for path in output.iterdir()) == [
        MARKER,
        "index.html",
        "scores.json",
        "walker-test-00000",
        "walker-test-00001",
    ]
    folder, names = output / "walker-test-00000", ("linear", "flow-1", "flow-2", "wgan-1", "wgan-2", "autoregressive")
    assert {path.name for path in folder.iterdir()} == {f"{name}.gif" for name in names} | {"keypoints.npz"}
    truth = MotionClips.load(work / "test.npz")
    with np.load(folder / "keypoints.npz") as keypoints:
        for name in names:
            assert keypoints[f"{name}/jacobian"].shape == (6, 3, 2, 2)
            for end in (0, 5):
                np.testing.assert_allclose(keypoints[f"{name}/position"][end], truth.keypoints.position[end], atol=1e-5)
        assert np.abs(keypoints["wgan-1/position"] - keypoints["wgan-2/position"]).max() > 1e-3
    for name in names:
        video = read_frames(folder / f"{name}.gif", num_channels=1)
        assert np.abs(video[0].astype(int) - truth.preview[0][0]).max() <= 1
    scores = json.loads((output / "scores.json").read_text())
    assert list(scores) == ["linear", "flow 1", "flow 2", "wgan 1", "wgan 2", "autoregressive"]
    true = np.stack(truth.preview).astype(np.float32) / 255
    completed = library_complete(load_fomm(work / "fomm"), true[:, 0], true[:, -1], 6).frames
    errors = np.abs(completed - true).mean((2, 3, 4))[:, 1:-1]  # the two given frames do not count
    np.testing.assert_allclose(scores["linear"]["mean"]["l1"], errors.mean(), rtol=1e-4)
    for clip, error in zip(scores["linear"]["clips"].values(), errors, strict=True):
        np.testing.assert_allclose(clip["frames"]["l1"], error, rtol=1e-4)
    assert f"linear: L1 to the truth {errors.mean():.4f}" in capsys.readouterr().out
    page = (output / "index.html").read_text()
    data = json.loads(re.search(r'id="player-data">(.*?)</script>', page, re.DOTALL)[1])
    assert page.count("<canvas ") == len(data["clips"]) == 2 * (3 + 6)
    assert [clip["count"] for clip in data["clips"][:4]] == [1, 1, 6, 6]
    assert not re.search(r'(?:src|href)="(?!data:)', page)  # the page is self-contained


def test_videos_and_pairs_of_images(work, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 1), np.uint8)
    with VideoWriter(tmp_path / "in.gif", fps=10.0) as video:
        video.write(frames)
    write_image(tmp_path / "a.png", frames[0])
    write_image(tmp_path / "b.png", frames[8])
    common = (f"--fomm={work / 'fomm'}", "--num-frames=5", "--format=gif", "--render=first")
    run_complete(*common, f"--output={tmp_path / 'video'}", "--input", tmp_path / "in.gif")
    run_complete(*common, f"--output={tmp_path / 'pair'}", "--input", tmp_path / "a.png", tmp_path / "b.png")
    assert (tmp_path / "video/scores.json").exists()
    assert not (tmp_path / "pair/scores.json").exists()  # there is no ground truth between two images
    with np.load(tmp_path / "video/in/keypoints.npz") as a, np.load(tmp_path / "pair/a-b/keypoints.npz") as b:
        np.testing.assert_allclose(a["linear/position"], b["linear/position"], atol=1e-5)
        assert (float(a["fps"]), float(b["fps"])) == (5.0, 25.0)  # five frames cover the time of nine


def test_known_frames_by_number_and_flow_by_default(work, tmp_path, capsys):
    output = tmp_path / "out"
    run_complete(
        *(f"--fomm={work / 'fomm'}", f"--output={output}", "--num-frames=6", "--samples=1", "--format=gif"),
        *("--known=0,2,5", "--motion-model", work / "flow"),
    )
    assert "flow 1: L1 to the truth" in capsys.readouterr().out
    truth = MotionClips.load(work / "test.npz")
    with np.load(output / "walker-test-00000" / "keypoints.npz") as keypoints:
        for time in (0, 2, 5):
            found, expected = keypoints["flow-1/position"][time], truth.keypoints.position[time]
            np.testing.assert_allclose(found, expected, atol=1e-5)
    scores = json.loads((output / "scores.json").read_text())
    assert list(scores) == ["flow 1"]
    assert len(scores["flow 1"]["clips"]["walker-test-00000"]["frames"]["l1"]) == 3  # given frames do not count
    data = json.loads(re.search(r'id="player-data">(.*?)</script>', (output / "index.html").read_text(), re.DOTALL)[1])
    assert [clip["count"] for clip in data["clips"][:5]] == [1, 1, 1, 6, 6]


@pytest.mark.parametrize(("module", "variant"), [(train_motion_gan, "wgan"), (train_autoregressive, "autoregressive")])
def test_the_synthetic_preset_trains_offsets_and_is_loaded_again(work, tmp_path, module, variant):
    run = tmp_path / "run"
    small = ["--wgan.hidden=4", "--wgan.noise=2", "--wgan.rounds-per-step=1"]
    options = small if variant == "wgan" else ["--autoregressive.hidden=4"]
    train(module, "--preset=synthetic", f"--motion={work / 'train.npz'}", f"--workdir={run}", *options)
    assert json.loads((run / "config.json").read_text())[variant]["variant"] == "offset"
    run_complete(
        *(f"--fomm={work / 'fomm'}", f"--output={tmp_path / 'out'}", "--num-frames=6", "--samples=1", "--format=gif"),
        *(f"--method={variant}", "--max-clips=1", "--motion-model", run),
    )
    with np.load(tmp_path / "out" / "walker-test-00000" / "keypoints.npz") as keypoints:
        (name,) = {key.split("/")[0] for key in keypoints if "/" in key}
        assert np.isfinite(keypoints[f"{name}/position"]).all()


@pytest.mark.parametrize(("module", "name"), [(train_motion_gan, "wgan"), (train_autoregressive, "autoregressive")])
def test_the_rules_of_video_completion_train_and_load_again(work, tmp_path, module, name):
    small = ["--wgan.noise=2", "--wgan.rounds-per-step=1"] if name == "wgan" else []
    files = (f"--motion={work / 'train.npz'}", f"--workdir={tmp_path / 'run'}")
    train(module, *files, f"--{name}.variant=video-completion", f"--{name}.hidden=4", *small)
    motion, _ = load_motion_model(tmp_path / "run")
    assert motion.config.variant == "video-completion"
    if name == "autoregressive":
        limits = motion.scaling.lower[...], motion.scaling.upper[...]
        jacobian = MotionClips.load(work / "train.npz").keypoints.jacobian.reshape(-1, limits[0].size)
        np.testing.assert_allclose(limits[0], jacobian.min(0), rtol=1e-6)


def test_runs_from_before_the_variants_load_and_go_on(work, tmp_path):
    shutil.copytree(work / "gan", tmp_path / "gan")
    path = tmp_path / "gan" / "config.json"
    config = json.loads(path.read_text())
    for name in ("variant", "variety_weight", "variety_samples"):
        del config["wgan"][name]
    del config["trained_on"]["num_frames"], config["preset"]
    path.write_text(json.dumps(config))
    gan = ["--wgan.hidden=4", "--wgan.noise=2", "--wgan.rounds-per-step=1"]
    files = (f"--motion={work / 'train.npz'}", f"--validation={work / 'test.npz'}", f"--workdir={tmp_path / 'gan'}")
    train(train_motion_gan, *files, *gan, "--num-steps=3")
    assert load_config(path, WGANConfig, part="wgan").variant == "absolute"
    with pytest.raises(InputError, match="there, 'offset' now"):
        train(train_motion_gan, *files, *gan, "--num-steps=3", "--wgan.variant=offset")


def test_overwrite_replaces_only_what_the_command_wrote(work, tmp_path):
    arguments = (f"--fomm={work / 'fomm'}", "--num-frames=5", "--format=gif", "--max-clips=1")
    run_complete(*arguments, f"--output={tmp_path / 'out'}")
    (tmp_path / "out" / "old").mkdir()
    with pytest.raises(InputError, match="exists; give another name, or `overwrite`"):
        run_complete(*arguments, f"--output={tmp_path / 'out'}")
    with pytest.raises(InputError, match="a GIF allows up to 50"):
        run_complete(*arguments, "--fps=60", f"--output={tmp_path / 'out'}", "--overwrite")
    assert (tmp_path / "out" / "old").is_dir()
    run_complete(*arguments, f"--output={tmp_path / 'out'}", "--overwrite")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        MARKER,
        "index.html",
        "scores.json",
        "walker-test-00000",
    ]
    with pytest.raises(InputError, match="something other than an earlier output"):
        run_complete(*arguments, f"--output={work}", "--overwrite")
    with pytest.raises(InputError, match="does not exist"):
        run_complete(*arguments, f"--output={tmp_path / 'none' / 'out'}")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
