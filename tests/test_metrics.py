import numpy as np
import pytest

from vidcomp_jax.metrics import joint_error, l1, psnr, ssim


@pytest.fixture
def frames():
    return np.random.default_rng(0).uniform(size=(2, 16, 20, 3)).astype(np.float32)


def test_perfect_frames(frames):
    assert (l1(frames, frames), psnr(frames, frames)) == (0, 100)
    np.testing.assert_allclose(ssim(frames, frames), 1)


def test_known_errors(frames):
    off = frames * 0 + 0.5
    np.testing.assert_allclose(l1(off + 0.1, off), 0.1, rtol=1e-5)
    np.testing.assert_allclose(psnr(off + 0.1, off), 20, rtol=1e-5)
    # Constant frames: only the luminance term is left.
    np.testing.assert_allclose(ssim(off + 0.1, off), (2 * 0.5 * 0.6 + 1e-4) / (0.5**2 + 0.6**2 + 1e-4), rtol=1e-4)


def test_ssim_equals_a_convolution_with_a_window(frames):
    torch = pytest.importorskip("torch")
    other = np.clip(frames + np.random.default_rng(1).normal(0, 0.1, frames.shape), 0, 1)
    bell = np.exp(-np.square(np.arange(11) - 5) / 4.5)
    window = torch.tensor(np.outer(bell, bell) / bell.sum() ** 2)[None, None].repeat(3, 1, 1, 1)

    def local(x):
        x = torch.tensor(np.asarray(x, np.float64)).permute(0, 3, 1, 2)
        return torch.nn.functional.conv2d(x, window, groups=3).numpy()

    a, b = local(frames), local(other)
    va, vb = local(frames.astype(float) ** 2) - a**2, local(other**2) - b**2
    cov = local(frames.astype(float) * other) - a * b
    expected = (2 * a * b + 1e-4) * (2 * cov + 9e-4) / ((a**2 + b**2 + 1e-4) * (va + vb + 9e-4))
    np.testing.assert_allclose(ssim(other, frames), expected.mean(), atol=1e-6)


def test_joint_error_sees_through_a_linear_map_only():
    rng = np.random.default_rng(0)
    joints = rng.uniform(-1, 1, (200, 4, 2))
    mixing = rng.normal(size=(8, 10))
    keypoints = (joints.reshape(200, 8) @ mixing + 0.3).reshape(200, 5, 2)
    found = joint_error(keypoints[:100], joints[:100], keypoints[100:], joints[100:])
    assert found.fitted < 1e-6 and found.fixed > 0.5
    noise = rng.normal(size=keypoints.shape)
    blind = joint_error(noise[:100], joints[:100], noise[100:], joints[100:])
    assert blind.fitted > 0.9 * blind.fixed
