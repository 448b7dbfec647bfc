"""The common interface of the completion methods: inputs, results, choice of clips, and scores."""

import dataclasses
import json
import types
import typing
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from skimage.metrics import structural_similarity

from experiments.complete import CompleteConfig
from tests.support.tiny_fomm import tiny
from vidcomp_jax.completion import methods
from vidcomp_jax.completion.complete import complete, complete_by_all
from vidcomp_jax.completion.completers import (
    Completer,
    Completion,
    FrameFormat,
    KeypointCompleter,
    KnownFrames,
    PixelCompleter,
    known_ends,
)
from vidcomp_jax.completion.frame_formats import check_frame_size, frames_for
from vidcomp_jax.completion.inputs import GivenClip, clips_of_data
from vidcomp_jax.completion.methods import METHODS, MethodSettings, default_methods, open_completers
from vidcomp_jax.completion.outputs import write_completions
from vidcomp_jax.completion.scores import score_completions
from vidcomp_jax.data import ArrayClips, DataConfig
from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.model import FirstOrderMotionModel
from vidcomp_jax.motion.autoregressive import AutoregressiveConfig, AutoregressiveMotion
from vidcomp_jax.motion.flow import FlowConfig, FlowMotion
from vidcomp_jax.motion.linear import LinearMotion
from vidcomp_jax.motion.loading import TrainedOn
from vidcomp_jax.motion.wgan import MotionGAN, WGANConfig

MODEL = FirstOrderMotionModel(tiny().fomm, rngs=nnx.Rngs(0))
MODEL.eval()
GAN = MotionGAN(WGANConfig(hidden=8, noise=4, encoding=4), 3, rngs=nnx.Rngs(0))
FLOW = FlowMotion(FlowConfig(width=8, num_layers=1, num_heads=2, feed_forward=8), 3, num_frames=5, rngs=nnx.Rngs(0))
NEXT_FRAME = AutoregressiveMotion(AutoregressiveConfig(hidden=8), 3, rngs=nnx.Rngs(0))
FIRST, LAST = np.random.default_rng(0).random((2, 2, 32, 32, 1), np.float32)
KNOWN = known_ends(FIRST, LAST, 5)


class Blend:
    """A minimal completion model over pixels: a cross-fade from the first frame to the last."""

    stochastic = False
    num_frames = 5
    config = types.SimpleNamespace(frame_size=32, num_channels=1)

    def __init__(self, module=""):
        """Accept the same argument as `HubModule`."""

    def __call__(self, first, last, *, key):
        weight = np.linspace(0, 1, 5, dtype=np.float32)[:, None, None, None]
        return first[:, None] * (1 - weight) + last[:, None] * weight


@pytest.fixture
def settings(monkeypatch):
    """Return settings for every method, with small models in place of the saved ones."""
    monkeypatch.setattr(methods, "load_fomm", lambda *_, **__: MODEL)
    learned = {"flow": FLOW, "wgan": GAN, "autoregressive": NEXT_FRAME}
    monkeypatch.setattr(methods, "load_motion_models", lambda *_, **__: learned)
    monkeypatch.setattr(methods, "load_inbetween", lambda *_, **__: Blend())
    monkeypatch.setattr(methods, "HubModule", Blend)
    return MethodSettings(inbetween=Path("run"), module="module")


def test_the_command_offers_every_method():
    hints = typing.get_type_hints(CompleteConfig)
    (method, _) = typing.get_args(hints["method"])
    assert typing.get_args(method) == tuple(METHODS)


def test_every_method_completes_through_the_same_interface(settings):
    completers = open_completers(list(METHODS), settings, 5)
    assert list(completers) == list(METHODS)
    for name, completer in completers.items():
        assert isinstance(completer, Completer), name
        found = completer.complete(KNOWN, 5, jax.random.key(0))
        assert found.frames.shape == (2, 5, 32, 32, 1), name
        assert (found.keypoints is not None) == completer.over_keypoints, name
        np.testing.assert_array_equal(found.frames[:, 0], FIRST, err_msg=name)
        np.testing.assert_array_equal(found.frames[:, -1], LAST, err_msg=name)


@pytest.mark.parametrize("times", [(0, 2), (1, 4), (0, 2, 4)])
def test_known_frames_at_any_times_are_kept_or_refused_in_one_line(settings, times):
    frames = np.random.default_rng(1).random((2, len(times), 32, 32, 1), np.float32)
    known = KnownFrames(frames, times)
    for name, completer in open_completers(list(METHODS), settings, 5).items():
        if completer.ends_only:
            with pytest.raises(InputError, match=r"two known frames, the first and the last: 0, 4") as error:
                completer.complete(known, 5, jax.random.key(0))
            assert "\n" not in str(error.value)
        else:
            found = completer.complete(known, 5, jax.random.key(0))
            np.testing.assert_array_equal(found.frames[:, list(times)], frames, err_msg=name)
    ends_only = {name for name, completer in open_completers(list(METHODS), settings, 5).items() if completer.ends_only}
    assert ends_only == {"wgan", "autoregressive", "inbetween", "tfhub"}


def test_flow_is_the_default_where_a_run_of_it_is_given(tmp_path):
    runs = {}
    for method in ("flow", "wgan"):
        runs[method] = tmp_path / method
        runs[method].mkdir()
        (runs[method] / "config.json").write_text(
            json.dumps({"trained_on": dataclasses.asdict(TrainedOn(method=method))})
        )
    assert default_methods(MethodSettings()) == ("linear",)
    assert default_methods(MethodSettings(motion_model=(runs["wgan"],))) == ("linear",)
    assert default_methods(MethodSettings(motion_model=(runs["wgan"], runs["flow"]))) == ("flow",)
    with pytest.raises(InputError, match=r"none/config\.json: no such file"):
        default_methods(MethodSettings(motion_model=(tmp_path / "none",)))


def test_what_methods_need_is_named(settings):
    def refused(*names, says, num_frames=5, **changes):
        with pytest.raises(InputError, match=says):
            open_completers(names, dataclasses.replace(settings, **changes), num_frames)

    refused(says="`method` is empty; choose from linear, flow")
    refused("linear", "cubic", says="`method` holds cubic; choose from linear, flow")
    refused("inbetween", inbetween=None, says="needs `inbetween`=RUN")
    refused("tfhub", module="", says="needs `module`")
    refused("linear", "tfhub", num_frames=7, says="`num_frames` is 7, but module generates clips of 5")
    with pytest.raises(InputError, match="generates clips of 5"):
        PixelCompleter(Blend(), FrameFormat("run", 32, 1)).complete(known_ends(FIRST, LAST, 7), 7, jax.random.key(0))


def test_samples_are_those_of_one_call_with_the_key_of_the_sample():
    completers = {"wgan": KeypointCompleter(MODEL, GAN), "linear": KeypointCompleter(MODEL, LinearMotion())}
    results = complete_by_all(completers, KNOWN, 5, num_samples=2, seed=3)
    assert list(results) == ["wgan 1", "wgan 2", "linear"]
    for sample in range(2):
        key = jax.random.fold_in(jax.random.key(3), sample)
        expected = complete(MODEL, FIRST, LAST, 5, motion=GAN, key=key)
        for found, one in zip(jax.tree.leaves(results[f"wgan {sample + 1}"]), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(found, one)


def test_clips_of_a_data_set_are_spread_over_all_that_are_long_enough():
    frames = np.arange(10 * 6, dtype=np.uint8)[:, None, None, None].repeat(16, 1).repeat(16, 2)
    clips = ArrayClips(frames, [6] * 4 + [3, 3] + [6] * 5, names=[f"clip{i}" for i in range(11)])
    chosen = clips_of_data(clips, 5, 3)
    assert [clip.name for clip in chosen] == ["clip0", "clip6", "clip10"]
    np.testing.assert_allclose(chosen[1].known[0], 30 / 255, rtol=1e-6)
    np.testing.assert_allclose(chosen[1].known[1], 34 / 255, rtol=1e-6)
    assert len(clips_of_data(clips, 5, 99)) == 9


def clips_and_results():
    """Return three clips, the second without ground truth, and the results of two methods with wrong end frames."""
    rng = np.random.default_rng(0)
    truth = rng.random((3, 5, 16, 18, 3), np.float32)
    clips = [GivenClip(f"clip{i}", t[[0, -1]], None if i == 1 else t, 25.0) for i, t in enumerate(truth)]
    results = {}
    for method in ("one", "other 1"):
        frames = np.clip(truth + rng.normal(0, 0.1, truth.shape), 0, 1).astype(np.float32)
        frames[:, [0, -1]] = 1 - truth[:, [0, -1]]
        results[method] = Completion(frames, None)
    return clips, results, truth


def test_scores_are_over_inner_frames_only(tmp_path):
    clips, results, truth = clips_and_results()
    write_completions(tmp_path / "out", clips, results, score_completions(clips, results), format="gif")
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert list(scores) == ["one", "other 1"]
    for method, found in scores.items():
        frames = results[method].frames.astype(np.float64)
        assert list(found["clips"]) == ["clip0", "clip2"]
        means = []
        for i, clip in zip((0, 2), found["clips"].values(), strict=True):
            inner = range(1, 4)
            expected = {
                "l1": [np.abs(frames[i, t] - truth[i, t]).mean() for t in inner],
                "psnr": [-10 * np.log10(np.square(frames[i, t] - truth[i, t]).mean()) for t in inner],
                "ssim": [
                    structural_similarity(
                        frames[i, t],
                        truth[i, t].astype(np.float64),
                        gaussian_weights=True,
                        sigma=1.5,
                        use_sample_covariance=False,
                        data_range=1,
                        channel_axis=-1,
                    )
                    for t in inner
                ],
            }
            assert clip["frames"].keys() == clip["mean"].keys() == expected.keys()
            for name, values in expected.items():
                np.testing.assert_allclose(clip["frames"][name], values, rtol=1e-5)
                np.testing.assert_allclose(clip["mean"][name], np.mean(values), rtol=1e-5)
            means.append([np.mean(values) for values in expected.values()])
        np.testing.assert_allclose(list(found["mean"].values()), np.mean(means, axis=0), rtol=1e-5)


def test_nothing_is_scored_without_a_truth_or_without_inner_frames(tmp_path):
    clips, results, _ = clips_and_results()
    unknown = [clip._replace(truth=None) for clip in clips]
    assert score_completions(unknown, results) == {}
    two = [clip._replace(truth=clip.known) for clip in clips]
    assert score_completions(two, {"one": Completion(results["one"].frames[:, [0, -1]], None)}) == {}
    write_completions(tmp_path / "out", unknown, results, {}, format="gif")
    assert not (tmp_path / "out" / "scores.json").exists()


KEYPOINTS = FrameFormat("fomm", num_channels=1)
TRAINED = FrameFormat("run", 32, 1)
PUBLISHED = FrameFormat("module", 64, resizes=True)


@pytest.mark.parametrize(
    ("formats", "size", "from_files", "expected"),
    [
        ([KEYPOINTS, TRAINED], 128, False, (128, 3)),  # the data settings of the keypoint model
        ([KEYPOINTS], 128, True, (128, 1)),
        ([TRAINED, PUBLISHED], 128, False, (32, 1)),
        ([TRAINED], 32, False, (32, 1)),
        ([PUBLISHED], 128, False, (64, 3)),  # a size equal to the default is not a request
        ([PUBLISHED], 48, False, (48, 3)),
        ([PUBLISHED], 128, True, (64, 3)),
    ],
)
def test_frames_suit_the_methods(formats, size, from_files, expected):
    data = frames_for(formats, DataConfig(size=size, num_channels=3), default_size=128, from_files=from_files)
    assert (data.size, data.num_channels) == expected


def test_frames_that_do_not_suit_are_named():
    with pytest.raises(InputError, match="frames of 1 channels for fomm, of 3 for run"):
        frames_for([KEYPOINTS, FrameFormat("run", 32, 3)], DataConfig(), default_size=64)
    with pytest.raises(InputError, match="`size` is 48, but run was trained at 32"):
        frames_for([TRAINED], DataConfig(size=48), default_size=64)
    with pytest.raises(InputError, match="frames of 64x32 pixels, but run was trained at 32x32; give `resize`=32"):
        check_frame_size([PUBLISHED, TRAINED], 32, 64, setting="resize")
    check_frame_size([KEYPOINTS, PUBLISHED], 32, 64)
