"""Reconstruction of test clips from their first frame: the published error, output files and invalid inputs."""

import dataclasses
import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from converters.official import converted
from experiments import reconstruct as command
from experiments.commands import parse
from experiments.reconstruct import PRESETS, ReconstructConfig
from tests.support import golden
from tests.support.official import write_official, write_videos
from vidcomp_jax import InputError, load_fomm
from vidcomp_jax.data import (
    ArrayClips,
    BairConfig,
    DataConfig,
    FolderConfig,
    KthConfig,
    SyntheticConfig,
    open_clips,
)
from vidcomp_jax.fomm.loading import check_trained_data
from vidcomp_jax.fomm.reconstruction import (
    TITLES,
    ReconstructionScores,
    _cells,
    reconstruction_panel,
    reconstructions,
    score_clip,
)
from vidcomp_jax.media.images import read_image
from vidcomp_jax.media.panels import PanelConfig
from vidcomp_jax.media.video import probe
from vidcomp_jax.storage.checkpoint import save_model
from vidcomp_jax.storage.config import save_config
from vidcomp_jax.storage.folders import MARKER

DATA = DataConfig(name="synthetic", size=64, synthetic=SyntheticConfig(num_train=2, num_test=3, length=5))


@pytest.fixture(scope="module")
def fomm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reconstruct") / "model"
    model = golden.fomm("tiny-gray")
    save_model(folder, model, converted(model.config, 64))
    return folder


def ssim_of_scikit_image(frame, truth):
    return structural_similarity(
        frame.astype(np.float64),
        truth.astype(np.float64),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1,
        channel_axis=-1,
    )


def test_scores_are_those_of_whole_clips(fomm, tmp_path, capsys):
    config = ReconstructConfig(fomm=fomm, data=DATA, output=tmp_path / "out", batch_size=4, videos=2, png_strips=True)
    command.main(config)
    written = [MARKER, "0000.mp4", "0002.mp4", "panel.png", "png", "scores.json"]
    assert sorted(path.name for path in config.output.iterdir()) == written
    assert probe(config.output / "0002.mp4")[:3] == (3 * 64, 64, 5)
    assert read_image(config.output / "panel.png").std() > 5
    scores = json.loads((config.output / "scores.json").read_text())
    clips = open_clips(DATA, "test")
    found = list(reconstructions(load_fomm(fomm), clips))
    assert list(scores["clips"]) == list(clips.names)
    for name, score, whole in zip(scores["clips"], scores["clips"].values(), found, strict=True):
        strip = read_image(config.output / "png" / f"{name}.png", num_channels=1)
        expected = np.concatenate(list(whole.rendered.prediction), axis=1) * 255
        assert strip.shape == (64, 5 * 64, 1) and np.abs(strip - expected).max() < 0.51
        rendered = whole.rendered.prediction.astype(np.float64)
        np.testing.assert_allclose(score["l1"], np.abs(rendered - whole.truth).mean(), rtol=1e-4)
        square = np.square(rendered - whole.truth).mean((1, 2, 3))
        np.testing.assert_allclose(score["psnr"], np.mean(10 * np.log10(1 / square)), rtol=1e-4)
        similarity = [ssim_of_scikit_image(*pair) for pair in zip(rendered, whole.truth, strict=True)]
        np.testing.assert_allclose(score["ssim"], np.mean(similarity), atol=1e-4)
        np.testing.assert_allclose(score["l1_of_first_frame"], np.abs(whole.truth - whole.truth[0]).mean(), rtol=1e-4)
    for name in ("l1", "psnr", "ssim"):  # clips of equal length have equal weight
        np.testing.assert_allclose(
            scores["mean"][name], np.mean([clip[name] for clip in scores["clips"].values()]), rtol=1e-6
        )
    assert f"first frame  {scores['mean']['l1']:.5f}" in capsys.readouterr().out


def test_an_official_file_decides_what_is_reconstructed(fomm, tmp_path, capsys):
    write_videos(tmp_path / "data", test=3)
    path = write_official(
        tmp_path / "tiny.yaml",
        "kth-128",
        model_params=golden.layouts()["tiny-gray"]["model_params"],
        dataset_params__root_dir=str(tmp_path / "data"),
        dataset_params__frame_shape=[64, 64, 1],
        reconstruction_params={"num_videos": 2, "format": ".gif"},
        visualizer_params={"kp_size": 3, "draw_border": False},
    )
    given = [f"--config={path}", f"--fomm={fomm}", f"--cache-dir={tmp_path / 'cache'}", f"--output={tmp_path / 'out'}"]
    config = parse(ReconstructConfig, [*given, "--batch-size=4"], PRESETS, preset_file=command.official)
    assert config.panel == PanelConfig(keypoint_size=3.0, colormap="gist_rainbow")
    command.main(config)
    assert "not used in reconstruction: dataset_params.augmentation_params, train_par" in capsys.readouterr().out
    written = [MARKER, "0000.gif", "0002.gif", "panel.png", "png", "scores.json"]
    assert sorted(path.name for path in config.output.iterdir()) == written
    assert sorted(path.name for path in (config.output / "png").iterdir()) == ["0.mp4.png", "2.mp4.png"]
    for changes, message in (
        ({"num_videos": 0}, "reconstruction_params.num_videos is 0; it must be at least 1, or null for all"),
        ({"format": ".avi"}, "reconstruction_params.format is '.avi'; it must be .mp4 or .gif"),
    ):
        path = write_official(tmp_path / "bad.yaml", "kth-128", reconstruction_params=changes)
        with pytest.raises(InputError, match=message):
            command.official(path)


def test_panels_show_candidate_motions_and_the_warped_frame(fomm):
    model, clips = load_fomm(fomm), open_clips(DATA, "test")
    plain = PanelConfig(keypoint_size=2.0, border=True, colormap="gist_rainbow")
    whole = dataclasses.replace(plain, motions=True, equivariance=True)
    frames = clips.frames(0, [0, 4]).astype(np.float32) / 255
    cells = _cells(model, frames, whole)
    count = model.config.num_keypoints + 1
    assert list(cells)[:7] == list(TITLES) and list(cells)[7] == "warped driving" and len(cells) == 8 + 2 * count + 1
    # The first candidate motion is that of the background, which does not move.
    small = model.dense_motion.down(jnp.asarray(frames[:1]))[0]
    np.testing.assert_allclose(cells["motion 0"], small, atol=1e-5)
    # The masks sum to 1, and their sum in colors has no background.
    np.testing.assert_allclose(cells["masks"], sum(cells[f"mask {i}"] for i in range(1, count)), atol=1e-5)
    weights = [cells["mask 0"]] + [cells[f"mask {i}"].max(-1, keepdims=True) for i in range(1, count)]
    np.testing.assert_allclose(sum(weights), 1, atol=1e-5)
    assert 0.01 < np.abs(cells["warped driving"] - cells["driving keypoints"]).mean() < 0.5
    width = 64 + 2
    assert reconstruction_panel(model, clips, 2, plain).shape[1] == 7 * width
    assert reconstruction_panel(model, clips, 2, whole).shape[1] == len(cells) * width


def test_every_frame_counts_the_same(fomm):
    short, long = ReconstructionScores(0.1, 0.3, 10, 20.0, 0.5), ReconstructionScores(0.4, 0.6, 20, 26.0, 0.8)
    mean = ReconstructionScores.mean([short, long])
    assert (mean.l1, mean.l1_of_first_frame, mean.num_frames) == (pytest.approx(0.3), pytest.approx(0.5), 30)
    assert (mean.psnr, mean.ssim) == (pytest.approx(24), pytest.approx(0.7))
    frames = np.random.default_rng(0).integers(0, 255, (12, 64, 64, 1), np.uint8)
    clips = ArrayClips(frames, [7, 5])
    scores = [score_clip(load_fomm(fomm), clips, clip, max_frames=6, chunk=4) for clip in range(2)]
    assert [score.num_frames for score in scores] == [6, 5]
    unit = frames[7:].astype(np.float64) / 255
    assert scores[1].l1_of_first_frame == pytest.approx(np.abs(unit - unit[0]).mean(), rel=1e-5)


def test_a_few_clips_are_spread_over_the_data_set(fomm, tmp_path):
    config = ReconstructConfig(
        fomm=fomm,
        data=dataclasses.replace(DATA, synthetic=SyntheticConfig(num_train=2, num_test=7, length=5)),
        output=tmp_path / "out",
        max_clips=3,
        max_frames=2,
        videos=2,
    )
    command.main(config)
    scores = json.loads((config.output / "scores.json").read_text())
    assert list(scores["clips"]) == [f"walker-test-{number:05d}" for number in (0, 3, 6)]
    assert sorted(path.name for path in config.output.glob("*.mp4")) == ["0000.mp4", "0006.mp4"]


def test_limits_presets_and_bad_input(fomm, tmp_path):
    assert parse(ReconstructConfig, ["--dataset=bair"], PRESETS).data.num_channels == 3
    output = tmp_path / "out"
    config = ReconstructConfig(fomm=fomm, data=DATA, output=output, max_clips=1, max_frames=2, batch_size=4, videos=0)
    command.main(config)
    scores = json.loads((output / "scores.json").read_text())
    assert scores["mean"]["num_frames"] == 2 and len(scores["clips"]) == 1
    with pytest.raises(InputError, match="exists"):
        command.main(config)
    color = DataConfig(name="synthetic", size=64, num_channels=3, synthetic=DATA.synthetic)
    with pytest.raises(InputError, match=r"num-channels is 3; the model in .* takes 1"):
        command.main(ReconstructConfig(fomm=fomm, data=color, output=tmp_path / "other"))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with pytest.raises(InputError, match="`batch_size` is 0"):
        ReconstructConfig(batch_size=0)


@dataclasses.dataclass(frozen=True)
class Run:
    data: DataConfig


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("kth", {"size": 32}, "`size` is 64, the model was trained with 32"),
        ("kth", {"num_channels": 3}, "`num_channels` is 1, the model was trained with 3"),
        ("kth", {"kth": KthConfig(split="official")}, "`kth.split` is literature, .* with official"),
        ("bair", {"bair": BairConfig(camera="main")}, "`bair.camera` is aux1, .* with main"),
        (
            "synthetic",
            {"synthetic": SyntheticConfig(seed=1, scene="robot")},
            "robot; `synthetic.seed` is 0, .* 1",
        ),
        ("folder", {"folder": FolderConfig(test_fraction=0.5)}, "`folder.test_fraction` is 0.2, .* with 0.5"),
        ("folder", {"folder": FolderConfig(fit="stretch")}, "`folder.fit` is crop, .* with stretch"),
    ],
)
def test_data_settings_of_the_training_are_kept_to(tmp_path, name, changes, says):
    save_config(tmp_path / "config.json", Run(DataConfig(name=name, **changes)))
    with pytest.raises(InputError, match=f"{says}.*`any_data`"):
        check_trained_data(tmp_path, DataConfig(name=name))
    check_trained_data(tmp_path, DataConfig(name=name, **changes))


def test_other_data_sets_and_folders_that_say_nothing_pass(tmp_path):
    check_trained_data(tmp_path, DataConfig(name="kth"))
    for stored in ("{}", '{"data": {"size": 32}}', '{"data": {"name": "kth", "kth": {}}}'):
        (tmp_path / "config.json").write_text(stored)
        check_trained_data(tmp_path, DataConfig(name="kth"))
    save_config(tmp_path / "config.json", Run(DataConfig(name="bair", size=32)))
    check_trained_data(tmp_path, DataConfig(name="kth"))


def test_any_data_is_taken_on_request(fomm, tmp_path):
    stored = json.loads((fomm / "config.json").read_text())
    run = tmp_path / "run"
    shutil.copytree(fomm, run)
    (run / "config.json").write_text(json.dumps(stored | {"data": {"name": "synthetic", "synthetic": {"seed": 7}}}))
    config = ReconstructConfig(fomm=run, data=DATA, output=tmp_path / "out", max_clips=1, max_frames=2, videos=0)
    with pytest.raises(InputError, match=r"`synthetic.seed` is 0, the model was trained with 7"):
        command.main(config)
    command.main(dataclasses.replace(config, any_data=True))
    assert (tmp_path / "out" / "scores.json").exists()
