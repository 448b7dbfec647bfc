"""Forward passes equal the official PyTorch code in all configurations and with both sampling conventions."""

import jax
import numpy as np
import pytest

from tests.support import golden
from vidcomp_jax.fomm.keypoints import Keypoints


def keypoints(arrays, prefix):
    position = arrays[f"{prefix}/value"]
    identity = np.broadcast_to(np.eye(2, dtype=np.float32), (*position.shape, 2))
    return Keypoints(position, arrays.get(f"{prefix}/jacobian", identity))


def close(actual, expected, tolerance):
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", [*golden.TINY, "kth-128", "bair-256"])
def test_forward(name):
    expected = golden.arrays(f"forward-{name}")
    source, driving = golden.images(expected["source"]), golden.images(expected["driving"])
    for rule, align_corners in (("align1", True), ("align0", False)):
        model = golden.fomm(name, align_corners=align_corners)
        frames = np.stack([source, driving])
        found = model.detect(frames)
        for i, part in enumerate(("kp_source", "kp_driving")):
            close(found.position[i], keypoints(expected, part).position, 1e-5)
            close(found.jacobian[i], keypoints(expected, part).jacobian, 2e-5)
        rendered = model.render(source, *(jax.tree.map(lambda x, i=i: x[i], found) for i in range(2)))
        close(rendered.prediction, expected[f"{rule}/prediction"], 1e-4)
        if name.startswith("tiny"):
            close(rendered.deformation, expected[f"{rule}/deformation"], 1e-5)
            close(rendered.masks, expected[f"{rule}/mask"], 1e-5)
            close(rendered.deformed_source, expected[f"{rule}/deformed"], 1e-4)
            close(rendered.sparse_deformed, expected[f"{rule}/sparse_deformed"], 1e-4)
            if model.config.estimate_occlusion:
                close(rendered.occlusion_map, expected[f"{rule}/occlusion_map"], 1e-5)
            else:
                assert (np.asarray(rendered.occlusion_map) == 1).all()


@pytest.mark.parametrize("name", golden.TINY)
def test_discriminator(name):
    expected = golden.arrays(f"forward-{name}")
    model = golden.fomm(name)
    model.eval()
    driving = golden.images(expected["driving"])
    outputs = jax.jit(lambda d, x, k: d(x, k))(model.discriminator, driving, keypoints(expected, "kp_driving"))
    for scale, scores in zip(model.config.discriminator.scales, outputs, strict=True):
        for i, features in enumerate(scores.features):
            close(features, expected[f"discriminator/feature_maps_{scale:g}/{i}"], 1e-4)
        close(scores.score, expected[f"discriminator/prediction_map_{scale:g}"], 1e-4)
