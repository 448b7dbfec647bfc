"""Frame scores against scikit-image, and errors of joints predicted from keypoints."""

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from vidcomp_jax import metrics
from vidcomp_jax.errors import InputError
from vidcomp_jax.metrics import score


def frames(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return true and similar frames, [2, 40, 33, 3], of kinds for which SSIM is numerically delicate."""
    rng = np.random.default_rng(0)
    noise = rng.uniform(size=(2, 40, 33, 3))
    rows = np.linspace(0, 1, 40)[:, None, None]
    truth = {
        "noise": noise,
        "flat": np.full_like(noise, 0.5),
        "bright and nearly flat": 0.97 + 0.002 * noise,
        "dark and nearly flat": 0.002 * noise,
        "half black, half white": np.where(rows < 0.5, 0.0, 1.0) + 0 * noise,
        "ramp": rows + 0 * noise,
    }[kind]
    other = truth + rng.normal(0, 0.1 if kind == "noise" else 0.003, truth.shape)
    return tuple(np.clip(x, 0, 1).astype(np.float32) for x in (truth, other))


KINDS = ["noise", "flat", "bright and nearly flat", "dark and nearly flat", "half black, half white", "ramp"]


@pytest.mark.parametrize("kind", KINDS)
def test_ssim_is_that_of_scikit_image(kind):
    truth, other = frames(kind)
    expected = [
        structural_similarity(
            *(x[i].astype(np.float64) for x in (truth, other)),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1,
            channel_axis=-1,
        )
        for i in range(2)
    ]
    np.testing.assert_allclose(score(other, truth).ssim, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_exact_frames(kind):
    truth, _ = frames(kind)
    exact = score(truth, truth)
    np.testing.assert_array_equal(exact.l1, [0, 0])
    np.testing.assert_array_equal(exact.psnr, [100, 100])
    np.testing.assert_allclose(exact.ssim, 1, rtol=0, atol=1e-6)


def test_known_errors():
    off = np.full((16, 20, 3), 0.5, np.float32)
    found = score(off + 0.1, off)
    np.testing.assert_allclose(found.l1, 0.1, rtol=1e-5)
    np.testing.assert_allclose(found.psnr, 20, rtol=1e-5)
    # On flat frames, only the luminance term of SSIM differs from 1.
    np.testing.assert_allclose(found.ssim, (2 * 0.5 * 0.6 + 1e-4) / (0.5**2 + 0.6**2 + 1e-4), rtol=1e-5)


def test_every_frame_has_its_own_scores_whatever_the_others():
    rng = np.random.default_rng(0)
    truth, clips = rng.uniform(size=(2, 3, 7, 12, 11, 1)).astype(np.float32)
    found = score(clips, truth)
    assert [x.shape for x in found] == [(3, 7)] * 3
    alone = score(clips[2, 4], truth[2, 4])
    for scores, one in zip(found, alone, strict=True):
        np.testing.assert_allclose(scores[2, 4], one, rtol=1e-6)
    still = score(clips[:, :1], truth)  # one frame against many
    np.testing.assert_allclose(still.l1[1, 3], np.abs(clips[1, 0] - truth[1, 3]).mean(), rtol=1e-6)


def test_any_number_of_frames_is_compared_by_one_program():
    truth = np.zeros((400, 13, 14, 1), np.float32)
    score(truth[:1], truth[:1])
    programs = metrics._similarity._cache_size()
    for count in (2, 9, 400):  # 360 fit into one call
        assert score(truth[:count], truth[:count]).ssim.shape == (count,)
    assert metrics._similarity._cache_size() == programs


def test_frames_that_cannot_be_compared_are_named():
    small = np.zeros((2, 16, 10, 1), np.float32)
    with pytest.raises(InputError, match="frames of 10x16 pixels; SSIM needs at least 11 in both directions"):
        score(small, small)
    with pytest.raises(InputError, match=r"shape \(2, 16, 10, 1\) cannot be compared with those of \(3, 16, 10, 1\)"):
        score(small, np.zeros((3, 16, 10, 1), np.float32))
