"""LPIPS against the authors' `lpips` package, with its own heads and seeded backbones, and the converter.

The package builds its backbones with torchvision, whose published builds cannot be imported beside some builds of
PyTorch. A module in its place provides the same two networks.
"""

import pathlib
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from converters import convert_lpips
from converters.convert_lpips import ConvertLPIPSConfig
from vidcomp_jax.errors import InputError
from vidcomp_jax.evaluation.lpips import load_lpips, lpips_distance


def relu_conv(*sizes, **options):
    return [nn.Conv2d(*sizes, **options), nn.ReLU()]


def alexnet():
    return nn.Sequential(
        *relu_conv(3, 64, 11, stride=4, padding=2),
        nn.MaxPool2d(3, 2),
        *relu_conv(64, 192, 5, padding=2),
        nn.MaxPool2d(3, 2),
        *relu_conv(192, 384, 3, padding=1),
        *relu_conv(384, 256, 3, padding=1),
        *relu_conv(256, 256, 3, padding=1),
        nn.MaxPool2d(3, 2),
    )


def vgg16():
    layers, channels = [], 3
    for block in ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3):
        for out in block:
            layers += relu_conv(channels, out, 3, padding=1)
            channels = out
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


def seeded(make):
    """Build a backbone with weights of a seed, as torchvision's functions do, in the attribute `features`."""

    def build(**_):
        features, generator = make(), torch.Generator().manual_seed(7)
        with torch.no_grad():
            for parameter in features.parameters():
                fan_in = parameter[0].numel()
                scale = (2 / fan_in) ** 0.5 if parameter.ndim > 1 else 0.1
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
        return types.SimpleNamespace(features=features)

    return build


NETWORKS = {"alex": ("alexnet", seeded(alexnet)), "vgg": ("vgg16", seeded(vgg16))}


@pytest.fixture(scope="module")
def package():
    """The authors' package."""
    with pytest.MonkeyPatch.context() as patch:
        models = types.SimpleNamespace(**dict(NETWORKS.values()))
        patch.setitem(sys.modules, "torchvision", types.SimpleNamespace(models=models))
        import lpips
        import lpips.pretrained_networks

        patch.setattr(lpips.pretrained_networks, "tv", models)
        yield lpips


def head_file(package, net) -> pathlib.Path:
    return pathlib.Path(package.__file__).parent / "weights" / "v0.1" / f"{net}.pth"


@pytest.fixture(scope="module")
def converted(package, tmp_path_factory):
    """Converted weights of both networks, by name."""
    folder = tmp_path_factory.mktemp("lpips")
    for net, (_, build) in NETWORKS.items():
        state = {f"features.{key}": value for key, value in build().features.state_dict().items()}
        torch.save({**state, "classifier.1.weight": torch.zeros(2, 3)}, folder / f"{net}.pth")
        convert_lpips.main(
            ConvertLPIPSConfig(
                backbone=folder / f"{net}.pth", heads=head_file(package, net), output=folder / f"{net}.npz"
            )
        )
    return folder


def pairs(channels):
    """Return frames and slightly changed ones, [2, 3, 33, 40, c]."""
    rng = np.random.default_rng(channels)
    truth = rng.random((2, 3, 33, 40, channels), np.float32)
    return np.clip(truth + rng.normal(0, 0.2, truth.shape), 0, 1).astype(np.float32), truth


@pytest.mark.parametrize("net", ["alex", "vgg"])
@pytest.mark.parametrize("channels", [1, 3])
def test_equals_the_package(package, converted, net, channels):
    reference = package.LPIPS(net=net, verbose=False)
    frames, truth = pairs(channels)
    inputs = [torch.from_numpy(x.reshape(-1, 33, 40, channels)).permute(0, 3, 1, 2) for x in (frames, truth)]
    with torch.no_grad():
        expected = reference(*(x.expand(-1, 3, -1, -1) for x in inputs), normalize=True)
    found = lpips_distance(load_lpips(converted / f"{net}.npz"), frames, truth)
    assert found.shape == (2, 3) and found.min() > 0.01
    np.testing.assert_allclose(found.ravel(), expected.numpy().ravel(), rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.ravel(), expected.numpy().ravel(), rtol=1e-3)


def test_exact_frames_have_distance_zero(converted):
    truth = pairs(3)[1]
    np.testing.assert_array_equal(lpips_distance(load_lpips(converted / "alex.npz"), truth, truth), np.zeros((2, 3)))


def test_checksums_identify_the_weights(converted):
    found = [load_lpips(converted / f"{net}.npz").checksum for net in ("alex", "vgg", "alex")]
    assert found[0] == found[2] != found[1] and len(found[0]) == 16


def test_wrong_files_and_frames_are_named(package, converted, tmp_path):
    def refused(says, **given):
        usual = {"backbone": converted / "alex.pth", "heads": head_file(package, "alex"), "output": tmp_path / "out"}
        with pytest.raises(InputError, match=says) as error:
            convert_lpips.main(ConvertLPIPSConfig(**usual | given))
        assert "\n" not in str(error.value) and not list(tmp_path.iterdir())

    refused("does not fit the model", heads=head_file(package, "vgg"))
    refused("holds lin0.model.1.weight .*; the heads of alex or vgg", heads=head_file(package, "squeeze"))
    refused("no such file", backbone=tmp_path / "none.pth")
    refused("exists", output=converted / "alex.npz")
    with pytest.raises(InputError, match=r"no converted LPIPS weights.*; make them with"):
        load_lpips(converted / "alex.pth")
    with pytest.raises(InputError, match="no such file; converted LPIPS"):
        load_lpips(tmp_path / "none.npz")
    network = load_lpips(converted / "alex.npz")
    with pytest.raises(InputError, match="30x40 pixels; LPIPS with alex needs at least 31"):
        lpips_distance(network, np.zeros((1, 40, 30, 1), np.float32), np.zeros((1, 40, 30, 1), np.float32))
    with pytest.raises(InputError, match="cannot be compared"):
        lpips_distance(network, *(np.zeros((1, 40, 40, c), np.float32) for c in (1, 3)))
