"""The command that trains 3D-convolution in-betweening, and the uses of its run."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from flax import nnx

from experiments import complete, train_inbetween
from experiments.commands import parse
from experiments.train_inbetween import CONFIGS, TrainInbetweenConfig, synthetic, train
from tests.support import tiny_fomm
from tests.support.hub_modules import save_tf2
from vidcomp_jax.data import DataConfig, SyntheticClips, SyntheticConfig
from vidcomp_jax.devices import BatchShare
from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.loading import save_fomm
from vidcomp_jax.fomm.model import FirstOrderMotionModel
from vidcomp_jax.inbetween.generation import inbetween_errors, load_inbetween
from vidcomp_jax.inbetween.networks import InbetweenConfig
from vidcomp_jax.media.video import VideoWriter, read_frames
from vidcomp_jax.nn.precision import MixedPrecision
from vidcomp_jax.training.config import TrainConfig
from vidcomp_jax.training.loop import FitResult

DATA = SyntheticConfig(num_train=6, num_test=5, length=9)
GRAY = tiny_fomm.tiny().fomm


def tiny(workdir, num_steps):
    return dataclasses.replace(
        synthetic(4),
        workdir=workdir,
        data=DataConfig(name="synthetic", size=16, synthetic=DATA),
        inbetween=InbetweenConfig(
            num_frames=8, frame_size=16, width=4, num_stages=1, noise_size=8, discriminator_width=2
        ),
        train=TrainConfig(num_steps=num_steps, batch_size=2, evaluate_every=2, panel_every=None, checkpoint_every=None),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("inbetween") / "run"
    assert train(tiny(workdir, 2)) == 0
    assert train(tiny(workdir, 4)) == 0  # resumes
    return workdir


def test_run_holds_checkpoints_panels_and_the_errors_of_the_baselines(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    evaluated = [row for row in rows if "evaluation/l1" in row]
    assert [row["step"] for row in evaluated] == [2, 4]
    clips = SyntheticClips(DATA, "test", size=16, num_channels=1)
    truth = np.stack([clips.frames(i, np.arange(8)) for i in range(5)]).astype(np.float32) / 255
    assert evaluated[0]["evaluation/l1_first_frame"] == pytest.approx(
        abs(truth[:, :1] - truth[:, 1:-1]).mean(), rel=1e-4
    )
    assert evaluated[0]["evaluation/l1_blend"] == evaluated[1]["evaluation/l1_blend"]
    assert evaluated[0]["evaluation/l1"] != evaluated[1]["evaluation/l1"]
    assert any((run / "panels").iterdir())


def test_trained_model_fills_any_number_of_clips(run):
    model = load_inbetween(run)
    assert model.num_frames == 8
    first, last = np.random.default_rng(0).random((2, 17, 16, 16, 1), dtype=np.float32)
    clips = model(first, last, key=jax.random.key(1))
    assert clips.shape == (17, 8, 16, 16, 1)
    np.testing.assert_array_equal(clips[:, 0], first)
    np.testing.assert_array_equal(clips[:, -1], last)
    np.testing.assert_array_equal(clips, model(first, last, key=jax.random.key(1)))
    assert abs(clips - model(first, last, key=jax.random.key(2)))[:, 1:-1].max() > 1e-4
    errors = inbetween_errors(model, SyntheticClips(DATA, "test", size=16, num_channels=1))
    assert set(errors) == {"l1", "l1_first_frame", "l1_blend"}


def test_frames_that_do_not_fit_the_model_are_refused(run):
    model = load_inbetween(run)
    gray, color, odd = (np.zeros((1, size, size, c), np.float32) for size, c in ((16, 1), (16, 3), (12, 1)))
    with pytest.raises(InputError, match="frames have 3 channels, the model was trained with 1"):
        model(color, color)
    with pytest.raises(InputError, match="they must have the same shape"):
        model(gray, np.zeros((1, 24, 16, 1), np.float32))
    with pytest.raises(InputError, match="that 8 divides"):
        model(odd, odd)


def test_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"config\.json: no such file"):
        load_inbetween(tmp_path)


def test_every_data_set_has_a_configuration_of_its_own():
    assert list(CONFIGS) == ["kth", "bair", "folder", "synthetic"]
    config = parse(TrainInbetweenConfig, ["--dataset=bair", "--inbetween.num-stages=3", "--num-steps=7"], CONFIGS)
    assert (config.data.name, config.data.num_channels, config.data.size) == ("bair", 3, 64)
    assert (config.inbetween.num_stages, config.train.num_steps) == (3, 7)


def test_the_variant_of_video_completion_is_trained_in_its_own_way(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(train_inbetween, "Inbetween", lambda config, rngs: MixedPrecision())
    monkeypatch.setattr(train_inbetween, "fit", lambda model, **given: seen.update(given) or FitResult(model, 0, {}))
    given = ["--dataset=synthetic", "--num-steps=0", f"--workdir={tmp_path}", "--inbetween.variant=video-completion"]
    config = parse(TrainInbetweenConfig, given, CONFIGS)
    assert train(config) == 0
    assert seen["config"].num_steps == 30_000 and "step" not in seen and "objective" in seen  # no discriminators
    train(parse(TrainInbetweenConfig, [*given, "--loss.adversarial-weight=0.02"], CONFIGS))
    assert "step" in seen
    plain = dataclasses.replace(config, inbetween=dataclasses.replace(config.inbetween, variant="stochastic"))
    clips = SyntheticClips(SyntheticConfig(), "train", size=32, num_channels=1)
    there, here = (next(train_inbetween._batches(one, clips, BatchShare())) for one in (config, plain))
    mirrored = [np.array_equal(a, b[:, :, ::-1]) and not np.array_equal(a, b) for a, b in zip(there, here, strict=True)]
    assert 0 < sum(mirrored) < len(mirrored)
    seen.clear()
    assert train(plain) == 0 and seen["config"].num_steps == 500_000 and "objective" in seen


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset=kth", "--size=128"], "--inbetween.frame-size is 64; it must be equal to --size, 128"),
        (
            ["--dataset=synthetic", "--inbetween.num-frames=10"],
            "inbetween.num-frames is 10; it must be a multiple",
        ),
        (["--dataset=mars"], "--dataset=mars: unknown; choose from kth, bair, folder, synthetic"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        parse(TrainInbetweenConfig, options, CONFIGS)


def test_bad_clip_list_leaves_no_run(tmp_path):
    (tmp_path / "list.txt").write_text("none.mp4\n")
    config = tiny(tmp_path / "run", 2)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, clips=tmp_path / "list.txt"))
    with pytest.raises(InputError, match=r"list\.txt line 1: .*none\.mp4"):
        train(config)
    assert not (tmp_path / "run").exists()


def run_complete(*arguments):
    data = ["--dataset=synthetic", "--size=16", "--synthetic.num-train=1", "--synthetic.num-test=2"]
    config = parse(complete.CompleteConfig, [*data, *map(str, arguments)], complete.PRESETS)
    complete.main(config)


def test_complete_fills_clips_with_it_beside_a_hub_module(run, tmp_path, capsys):
    module = save_tf2(tmp_path / "module")
    methods = ["--method", "inbetween", f"--inbetween={run}", "--num-frames=8", "--samples=2"]
    run_complete(*methods, f"--output={tmp_path / 'own'}")
    files = sorted(path.name for path in (tmp_path / "own").glob("*00000/*"))
    assert files == ["inbetween-1.mp4", "inbetween-2.mp4", "keypoints.npz"]
    samples = [read_frames(path) for path in sorted((tmp_path / "own").glob("*00000/*.mp4"))]
    assert samples[0].shape == (8, 16, 16, 3) and (samples[0] != samples[1]).any()
    assert (tmp_path / "own" / "index.html").is_file()

    run_complete("--method=tfhub", f"--module={module}", f"--output={tmp_path / 'hub'}")
    assert "tfhub: L1 to the truth" in capsys.readouterr().out
    assert len(list((tmp_path / "hub").glob("*/tfhub.mp4"))) == 2


def test_complete_takes_frames_as_the_model_was_trained(run, tmp_path):
    methods = ["--method=inbetween", f"--inbetween={run}", "--num-frames=8", "--samples=1"]
    frames = np.random.default_rng(0).integers(0, 256, (8, 24, 24, 3), np.uint8)
    with VideoWriter(tmp_path / "color.mp4", fps=25.0) as video:
        video.write(frames)
    given = ["--input", tmp_path / "color.mp4"]
    own = [f"--output={tmp_path / 'own'}", "--synthetic.num-train=1", "--synthetic.num-test=1"]
    # The presets use 64 pixels.
    complete.main(parse(complete.CompleteConfig, list(map(str, [*methods, *own])), complete.PRESETS))
    assert read_frames(next((tmp_path / "own").glob("*/*.mp4"))).shape == (8, 16, 16, 3)
    run_complete(*methods, *given, "--resize=16", f"--output={tmp_path / 'small'}")
    assert read_frames(tmp_path / "small/color/inbetween-1.mp4").shape == (8, 16, 16, 3)
    for arguments, says in (
        (given, "frames of 24x24 pixels, but .* was trained at 16x16; give `resize`=16"),
        (["--size=32"], "`size` is 32, but .* was trained at 16"),
    ):
        with pytest.raises(InputError, match=says):
            run_complete(*methods, *arguments, f"--output={tmp_path / 'out'}")
    module = save_tf2(tmp_path / "module")
    run_complete("--method=tfhub", f"--module={module}", *given, "--num-frames=16", f"--output={tmp_path / 'hub'}")
    first = read_frames(tmp_path / "hub/color/tfhub.mp4")[0].astype(int)
    assert np.ptp(first, axis=-1).max() > 50  # the output has color


def test_complete_needs_frames_that_fit_keypoints_and_pixels_alike(run, tmp_path):
    for name, model in (("gray", GRAY), ("color", dataclasses.replace(GRAY, num_channels=3))):
        save_fomm(tmp_path / name, FirstOrderMotionModel(model, rngs=nnx.Rngs(0)))
    methods = ["--method", "linear", "inbetween", f"--inbetween={run}", "--num-frames=8", "--synthetic.length=9"]
    for fomm, size, says in (
        ("gray", 32, "frames of 32x32 pixels, but .* trained at 16x16; give `size`=16"),
        ("color", 16, "frames of 3 channels for .*color, of 1 for"),
    ):
        with pytest.raises(InputError, match=says):
            run_complete(*methods, f"--fomm={tmp_path / fomm}", f"--size={size}", f"--output={tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()


def test_complete_names_what_is_missing(run, tmp_path):
    def refused(*arguments, says):
        with pytest.raises(InputError, match=says):
            run_complete(*arguments, f"--output={tmp_path / 'out'}")
        assert not (tmp_path / "out").exists()

    refused("--method=inbetween", says="needs `inbetween`=RUN")
    refused("--method=tfhub", says="needs `module`")
    refused("--method=tfhub", f"--module={run}", says="SavedModel|saved_model")
    refused("--method=inbetween", f"--inbetween={run}", "--num-frames=9", says="give `num_frames`=8")
