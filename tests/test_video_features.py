"""I3D features from files with the signatures of the published networks, and messages about other files."""

import jax
import numpy as np
import pytest
import torch

from tests.support.i3d_modules import OtherScript, save_tensorflow, save_torch, stand_in
from vidcomp_jax.errors import InputError
from vidcomp_jax.evaluation.video_features import open_i3d


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("i3d")
    files = save_tensorflow(folder / "saved"), save_torch(folder / "i3d.pt")
    return {network.name: network for network in (open_i3d(str(file)) for file in files)}


def clips(channels, size=28):
    return np.random.default_rng(0).random((5, 9, size, size, channels), np.float32)


def upscaled(frames, centers):
    """Resize [..., h, w, c] to 224 pixels bilinearly; source coordinates are at pixel centers or at the edges."""
    for axis in (-3, -2):
        size = frames.shape[axis]
        scale = size / 224
        place = (np.arange(224) + 0.5) * scale - 0.5 if centers else np.arange(224) * scale
        place = place.clip(0, size - 1)
        low = np.floor(place).astype(int)
        weight = (place - low)[:, None, None] if axis == -3 else (place - low)[:, None]
        parts = [np.take(frames, i, axis) for i in (low, np.minimum(low + 1, size - 1))]
        frames = (1 - weight) * parts[0] + weight * parts[1]
    return frames


@pytest.mark.parametrize(("name", "centers"), [("i3d400", False), ("i3d400_torchscript", True)])
@pytest.mark.parametrize("channels", [1, 3])
def test_clips_are_resized_and_scaled_as_published(networks, name, centers, channels):
    given = clips(channels)
    expected = stand_in(2 * upscaled(np.broadcast_to(given, (*given.shape[:-1], 3)), centers) - 1)
    found = networks[name](given)
    assert found.shape == (5, 400)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_two_networks_are_told_apart(networks):
    assert set(networks) == {"i3d400", "i3d400_torchscript"}
    assert len({network.checksum for network in networks.values()}) == 2
    first, second = (network(clips(3)) for network in networks.values())
    assert np.abs(first - second).max() > 1e-3  # they resize in different ways


def test_short_clips_are_refused(networks):
    with pytest.raises(InputError, match="clips of 8 frames; I3D needs at least 9"):
        networks["i3d400"](clips(3)[:, :8])


def test_other_files_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.pt").write_text("weights")
    torch.save({"a": torch.zeros(2)}, tmp_path / "state.pt")
    for source, says in {
        save_tensorflow(tmp_path / "few", features=10): r"is not I3D: .*'default': '\(None, 10\)'",
        save_tensorflow(tmp_path / "name", name="other"): "has the signatures .'other'., not 'default'",
        tmp_path / "empty": "is not a SavedModel",
        tmp_path / "none.pt": "no such file; a TorchScript file",
        tmp_path / "text.pt": "not a TorchScript file",
        tmp_path / "state.pt": "not a TorchScript file",
    }.items():
        with pytest.raises(InputError, match=says) as error:
            open_i3d(str(source))
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"is not I3D: it gives \(4, 3\), where \(4, 400\) is needed"):
        open_i3d(str(save_torch(tmp_path / "other.pt", OtherScript)))(clips(3))
    with pytest.raises(InputError, match="is not I3D: it does not take clips"):
        open_i3d(str(save_torch(tmp_path / "plain.pt", torch.nn.Identity)))(clips(3))


def test_jax_resizes_to_the_same_pixel_centers():
    """The helper of these tests agrees with an independent implementation."""
    frames = clips(3)[0]
    expected = jax.image.resize(frames, (9, 224, 224, 3), "bilinear")
    np.testing.assert_allclose(upscaled(frames, centers=True), expected, atol=1e-5)
