"""Scores of samples: golden cases, and every score against an independent implementation."""

import itertools

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from vidcomp_jax.data import DataConfig
from vidcomp_jax.data.synthetic import SyntheticConfig
from vidcomp_jax.data.synthetic.clips import SyntheticClips
from vidcomp_jax.errors import InputError
from vidcomp_jax.evaluation.joints import fit_joints
from vidcomp_jax.evaluation.protocols import DATA, PROTOCOLS, Protocol, fixed
from vidcomp_jax.evaluation.scores import jitter, pairwise_distance, per_sample, score_keypoints, score_samples
from vidcomp_jax.fomm.keypoints import Keypoints

FIVE = Protocol(num_frames=5)


def similar(frame, truth):
    return structural_similarity(
        frame, truth, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1, channel_axis=-1
    )


def samples_and_truth(channels, count=2, frames=5):
    rng = np.random.default_rng(channels)
    truth = rng.random((2, frames, 16, 18, channels), np.float32)
    noisy = truth[:, None] + rng.normal(0, 0.1, (2, count, *truth.shape[1:]))
    return np.clip(noisy, 0, 1).astype(np.float32), truth


@pytest.mark.parametrize("channels", [1, 3])
def test_scores_of_inner_frames_are_those_of_scikit_image(channels):
    clips, truth = samples_and_truth(channels)
    clips[:, :, [0, 4]] = 1 - truth[:, None, [0, 4]]  # the given frames are not scored
    found = score_samples(clips, truth, FIVE)
    assert found["psnr"].shape == (2, 2, 3)
    for b, s, t in itertools.product(range(2), range(2), range(3)):
        frame, true = (x.astype(np.float64) for x in (clips[b, s, t + 1], truth[b, t + 1]))
        assert found["l1"][b, s, t] == pytest.approx(np.abs(frame - true).mean(), rel=1e-5)
        assert found["mse"][b, s, t] == pytest.approx(np.square(frame - true).mean(), rel=1e-6)
        assert found["psnr"][b, s, t] == pytest.approx(peak_signal_noise_ratio(true, frame, data_range=1), rel=1e-5)
        assert found["ssim"][b, s, t] == pytest.approx(similar(frame, true), abs=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_golden_cases(channels):
    zeros, truth = np.zeros((1, 1, 3, 16, 16, channels), np.float32), np.ones((1, 3, 16, 16, channels), np.float32)
    one_frame = Protocol(num_frames=3)
    opposite = score_samples(zeros, truth, one_frame)
    constant = 1e-4 / (1 + 1e-4)  # of flat frames, SSIM's luminance term alone differs from 1
    assert [opposite[name].item() for name in ("l1", "mse", "psnr")] == [1, 1, 0]
    assert opposite["ssim"].item() == pytest.approx(constant, rel=1e-4)
    same = score_samples(truth[:, None], truth, one_frame)
    assert [same[name].item() for name in ("l1", "mse", "psnr", "jitter")] == [0, 0, 100, 0]
    assert same["ssim"].item() == pytest.approx(1, abs=1e-6)
    assert np.isnan(same["diversity"]).all()
    stripes = np.broadcast_to((np.arange(17) % 2.0)[:, None], (1, 3, 16, 17, channels)).astype(np.float32)
    shifted = score_samples(stripes[:, None, :, :, 1:], stripes[:, :, :, :-1], one_frame)
    assert [shifted[name].item() for name in ("l1", "mse", "psnr")] == [1, 1, 0]
    assert shifted["ssim"].item() < -0.9  # anticorrelated structure


def test_a_ramp_shifted_by_one_pixel():
    ramp = np.broadcast_to(np.linspace(0, 1, 33, dtype=np.float32)[:, None], (1, 3, 16, 33, 1))
    found = score_samples(ramp[:, None, :, :, 1:], ramp[:, :, :, :-1], Protocol(num_frames=3))
    assert found["l1"].item() == pytest.approx(1 / 32, rel=1e-5)
    assert found["psnr"].item() == pytest.approx(20 * np.log10(32), rel=1e-6)


def test_psnr_of_the_clip_is_that_of_its_mean_square_error():
    clips, truth = samples_and_truth(1)
    clips[:, 0, 2] = truth[:, 2]  # one exact frame: the two rules differ most
    found = score_samples(clips, truth, FIVE)
    square = np.square(clips[:, :, 1:4].astype(np.float64) - truth[:, None, 1:4]).mean((2, 3, 4, 5))
    by_clip = per_sample(found, "psnr", Protocol(num_frames=5, psnr="clip"))
    np.testing.assert_allclose(by_clip, 10 * np.log10(1 / square), rtol=1e-6)
    assert (per_sample(found, "psnr", FIVE)[:, 0] > 20 + by_clip[:, 0]).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_on_8_bit_gray(channels):
    """MCVD converts floats to 8 bits by cutting off, and to gray with Pillow."""
    clips, truth = samples_and_truth(channels)
    found = score_samples(clips, truth, Protocol(num_frames=5, eight_bit_gray=True))

    def gray(frame):
        pixels = (frame * 255).astype(np.uint8)
        image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
        return np.asarray(image.convert("RGB").convert("L"))

    for b, s, t in itertools.product(range(2), range(2), range(3)):
        expected = structural_similarity(
            gray(clips[b, s, t + 1]),
            gray(truth[b, t + 1]),
            data_range=255,
            gaussian_weights=True,
            use_sample_covariance=False,
        )
        assert found["ssim"][b, s, t] == pytest.approx(expected, abs=1e-5)


def test_jitter_and_diversity_are_what_loops_compute():
    clips, _ = samples_and_truth(3, count=3)
    b, s = 1, 2
    second = [np.abs(clips[b, s, t - 1] - 2 * clips[b, s, t] + clips[b, s, t + 1]).mean() for t in (1, 2, 3)]
    assert jitter(clips)[b, s] == pytest.approx(np.mean(second), rel=1e-5)
    pairs = [np.abs(clips[b, i] - clips[b, j]).mean() for i, j in itertools.combinations(range(3), 2)]
    assert pairwise_distance(clips)[b] == pytest.approx(np.mean(pairs), rel=1e-5)
    steady = np.linspace(0, 1, 5, dtype=np.float32)[:, None, None, None] * np.ones((1, 16, 16, 1), np.float32)
    assert jitter(steady[None]) == pytest.approx(0, abs=1e-7)


def test_keypoint_distances_are_in_pixels():
    truth = np.zeros((2, 5, 4, 2))
    found = np.zeros((2, 2, 5, 4, 2))
    found[:, 0, 1:4, :, 0] = 1.0  # half the width to the right, in the three scored frames
    found[:, 1, 1:4, :, 1] = -1.0  # half the height up
    scores = score_keypoints(found, truth, (1, 2, 3), np.array([20.0, 10.0]))
    np.testing.assert_allclose(scores["keypoints"], np.broadcast_to(np.array([20.0, 10.0])[:, None], (2, 2, 3)))
    np.testing.assert_allclose(scores["keypoint_diversity"], np.hypot(20, 10))
    assert np.isnan(score_keypoints(found[:, :1], truth, (1, 2, 3), np.ones(2))["keypoint_diversity"]).all()


class Follows:
    """Detects keypoints that are an affine function of the true joints of a clip."""

    def __init__(self, clips):
        self.by_frame = {
            clips.frames(clip, [t])[0].tobytes(): clips.joints(clip)[t]
            for clip in range(len(clips.names))
            for t in range(clips.lengths[clip])
        }

    def detect(self, frames):
        joints = np.stack([self.by_frame[np.rint(frame * 255).astype(np.uint8).tobytes()] for frame in frames])
        return Keypoints((0.5 * joints + 0.1).astype(np.float32), np.zeros((*joints.shape[:2], 2, 2), np.float32))


def test_joints_that_are_an_affine_function_of_keypoints_are_found_exactly():
    config = SyntheticConfig(scene="robot", num_train=6, num_test=2, length=4)
    train, test = (SyntheticClips(config, split, size=32, num_channels=1) for split in ("train", "test"))
    fit = fit_joints(Follows(train).detect, train)
    joints = np.stack([test.joints(clip) for clip in range(2)])
    positions = (0.5 * joints + 0.1)[:, None]
    assert fit.names == tuple(test.joint_names)
    np.testing.assert_allclose(fit.errors(positions, joints, np.full(2, 15.5)), 0, atol=1e-4)
    moved = joints + np.array([0.2, 0.0])
    np.testing.assert_allclose(fit.errors(positions, moved, np.full(2, 15.5)), 0.2 * 15.5, rtol=1e-3)


def test_protocols_give_and_score_the_published_frames():
    interpolation, mcvd = PROTOCOLS["magvit-fi"], PROTOCOLS["mcvd-kth"]
    assert interpolation.known == (0, 15) and list(interpolation.gap) == list(range(1, 15))
    assert mcvd.known == (*range(10), *range(20, 25)) and list(mcvd.gap) == list(range(10, 20))
    assert (mcvd.window[0], mcvd.window[-1]) == (9, 20)
    assert (mcvd.samples, mcvd.best_by, mcvd.psnr) == (10, "each", "clip")


def test_a_protocol_fixes_the_data_and_refuses_other_choices():
    data = DataConfig()
    found = fixed(data, DATA["mcvd-kth"], data, "mcvd-kth")
    assert (found.name, found.size, found.num_channels, found.kth.split, found.kth.num_frames) == (
        *("kth", 64, 1),
        *("mcvd", 25),
    )
    for changed, says in (
        ({"size": 96}, "`size` is 96, but protocol mcvd-kth fixes 64; leave it out"),
        ({"kth": type(data.kth)(num_frames=20)}, "`kth.num_frames` is 20, but protocol mcvd-kth fixes 25"),
    ):
        with pytest.raises(InputError, match=says):
            fixed(DataConfig(**changed), DATA["mcvd-kth"], data, "mcvd-kth")
    with pytest.raises(InputError, match="`num_frames` is 2; it must be at least 3"):
        Protocol(num_frames=2)
