"""Properties of the model: shapes, batches, sizes, variants, one source for many frames, motion transfer."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import vidcomp_jax
from experiments.configs import small_fomm
from tests.support import golden
from tests.support.tiny_fomm import tiny
from vidcomp_jax import FirstOrderMotionModel, FOMMConfig, InputError, Keypoints, movement_scale, transfer_motion
from vidcomp_jax.fomm.model import _detect, _render
from vidcomp_jax.nn.geometry import coordinate_grid


@pytest.fixture(scope="module")
def model():
    return FirstOrderMotionModel(tiny().fomm, rngs=nnx.Rngs(0))


def frames(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


def test_leading_axes_and_batching_change_nothing(model):
    clip = frames(2, 3, 32, 32, 1)
    found = model.detect(clip)
    assert found.position.shape == (2, 3, 3, 2) and found.jacobian.shape == (2, 3, 3, 2, 2)
    np.testing.assert_allclose(model.detect(clip[1, 2]).position, found.position[1, 2], atol=1e-5)

    sources, first = clip[:, 0], jax.tree.map(lambda x: x[:, 0], found)
    rendered = model.render(sources, first, found)
    assert rendered.prediction.shape == (2, 3, 32, 32, 1)
    assert rendered.masks.shape == (2, 3, 16, 16, 4)
    np.testing.assert_allclose(rendered.masks.sum(-1), 1, atol=1e-5)
    alone = model.render(sources[1], *(jax.tree.map(lambda x: x[1], k) for k in (first, found)))
    np.testing.assert_allclose(alone.prediction, rendered.prediction[1], atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_keypoints_of_several_batches_at_once(training):
    batches = jnp.asarray(frames(3, 2, 32, 32, 1))
    results = []
    for at_once in (True, False):
        detector = FirstOrderMotionModel(tiny().fomm, rngs=nnx.Rngs(0)).detector
        detector.train() if training else detector.eval()
        found = detector.each(*batches) if at_once else tuple(map(detector, batches))
        assert len(found) == 3 and all(isinstance(one, Keypoints) for one in found)
        results.append((found, nnx.to_pure_dict(nnx.state(detector, nnx.BatchStat))))
    for ours, expected in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_compiled_once_a_shape(model):
    clip = frames(4, 32, 32, 1)
    found = model.detect(clip)
    model.render(clip[0], jax.tree.map(lambda x: x[0], found), found)
    before = _detect._cache_size(), _render._cache_size()
    found = model.detect(frames(4, 32, 32, 1, seed=1))
    model.render(clip[1], jax.tree.map(lambda x: x[1], found), found)
    assert (_detect._cache_size(), _render._cache_size()) == before


def test_source_is_encoded_once(model, monkeypatch):
    clip = frames(4, 32, 32, 1)
    found = model.detect(clip)
    encoded = model.encode(clip[0], jax.tree.map(lambda x: x[0], found))
    expected = model.render(clip[0], encoded.keypoints, found).prediction
    monkeypatch.setattr(type(model.generator), "encode", lambda *_: pytest.fail("encoded again"))
    np.testing.assert_allclose(model.render(encoded, None, found).prediction, expected, atol=1e-6)
    repeated = jax.tree.map(lambda x: jnp.concatenate([x, x[:1]]), found)  # a new shape is traced again
    assert model.render(encoded, None, repeated).prediction.shape[0] == 5


def test_inference_ignores_training_mode_and_changes_nothing(model):
    clip = frames(2, 32, 32, 1)
    before = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)))
    training = model.detect(clip).position
    model.eval()
    np.testing.assert_array_equal(model.detect(clip).position, training)
    model.train()
    after = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
    jax.tree.map(np.testing.assert_array_equal, before, after)


@pytest.mark.parametrize("height,width,channels", [(36, 44, 3), (100, 60, 1)])
def test_any_size_divisible_by_four(height, width, channels):
    model = FirstOrderMotionModel(small_fomm(channels, width=4, num_keypoints=2), rngs=nnx.Rngs(0))
    clip = frames(2, height, width, channels)
    found = model.detect(clip)
    rendered = model.render(clip[0], jax.tree.map(lambda x: x[0], found), found)
    assert rendered.prediction.shape == (2, height, width, channels)
    assert np.isfinite(rendered.prediction).all()


def test_identical_keypoints_mean_the_identity_grid(model):
    clip = frames(1, 32, 32, 1)
    found = model.detect(clip)
    rendered = model.render(clip, found, jax.tree.map(lambda x: x[:, None], found))
    grid = np.broadcast_to(coordinate_grid(16, 16), (1, 1, 16, 16, 2))
    np.testing.assert_allclose(rendered.deformation, grid, atol=1e-5)
    candidates = np.asarray(rendered.sparse_deformed[0, 0])
    np.testing.assert_allclose(candidates, candidates[:1].repeat(4, 0), atol=1e-4)


def test_zero_order_motion_has_identity_jacobians_and_no_occlusion():
    config = dataclasses.replace(tiny().fomm, estimate_jacobian=False, estimate_occlusion=False)
    model = FirstOrderMotionModel(config, rngs=nnx.Rngs(0))
    clip = frames(2, 32, 32, 1)
    found = model.detect(clip)
    np.testing.assert_array_equal(found.jacobian, np.broadcast_to(np.eye(2), (2, 3, 2, 2)))
    rendered = model.render(clip, found, found)
    assert (np.asarray(rendered.occlusion_map) == 1).all()


def test_untrained_jacobians_are_the_identity(model):
    np.testing.assert_allclose(
        model.detect(frames(32, 32, 1)).jacobian, np.broadcast_to(np.eye(2), (3, 2, 2)), atol=1e-6
    )


@pytest.mark.parametrize(
    "change,message",
    [
        (lambda m, x, k: m.detect(x[..., :0]), "1 channels"),
        (lambda m, x, k: m.detect(frames(8, 8, 1)), "at least 7x7"),
        (lambda m, x, k: m.encode(frames(34, 34, 1), k), "divisible by 4"),
        (lambda m, x, k: m.render(x, k, Keypoints(k.position[:2], k.jacobian[:2])), "expected ('...', 3, 2)"),
        (lambda m, x, k: m.render(x[None], jax.tree.map(lambda v: v[None], k), k), "expected (1, '...', 3, 2)"),
    ],
)
def test_wrong_arrays_are_named(model, change, message):
    x = frames(32, 32, 1)
    with pytest.raises(InputError, match=re.escape(message)):
        change(model, x, model.detect(x))


@pytest.mark.parametrize("as_array", [np.asarray, jnp.asarray])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_integer_frames_are_scaled_by_their_range(model, dtype, as_array):
    clip = frames(2, 32, 32, 1)
    integers = as_array((clip * np.iinfo(dtype).max).astype(dtype))
    floats = (np.asarray(integers, np.float64) / np.iinfo(dtype).max).astype(np.float32)
    found, expected = model.detect(integers), model.detect(floats)
    np.testing.assert_allclose(found.position, expected.position, atol=1e-5)
    rendered = model.render(integers, found, found).prediction
    np.testing.assert_allclose(rendered, model.render(floats, expected, expected).prediction, atol=1e-5)
    np.testing.assert_allclose(jax.jit(model.detect)(integers).position, found.position, atol=1e-5)


@pytest.mark.parametrize("as_array", [np.asarray, jnp.asarray])
@pytest.mark.parametrize("value", [255.0, 1.1, -0.5, np.nan])
def test_floats_outside_of_the_unit_range_are_refused(model, value, as_array):
    clip = frames(2, 32, 32, 1)
    clip[0, 3, 4] = value
    found = model.detect(frames(2, 32, 32, 1))
    for call in (model.detect, lambda x: model.encode(x, found)):
        with pytest.raises(InputError, match=r"floats must be in \[0, 1\], or give uint8"):
            call(as_array(clip))


@pytest.mark.parametrize("field,value", [("num_keypoints", 0), ("num_channels", -1)])
def test_impossible_sizes_are_named(field, value):
    with pytest.raises(InputError, match=f"`{field}` is {value}"):
        FOMMConfig(**{field: value})


@pytest.mark.parametrize("adapt", [0, 1])
@pytest.mark.parametrize("relative,jacobian", [(0, 0), (1, 0), (1, 1)])
def test_motion_transfer_equals_the_official_one(adapt, relative, jacobian):
    arrays = golden.arrays("normalize-kp")

    def keypoints(name):
        return Keypoints(arrays[f"{name}/value"], arrays[f"{name}/jacobian"])

    source, initial, driving = map(keypoints, ("source", "driving_initial", "driving"))
    scale = movement_scale(*(jax.tree.map(lambda x: x[0], k) for k in (source, initial))) if adapt else 1.0
    moved = transfer_motion(
        source, driving, initial, relative=bool(relative), relative_jacobian=bool(jacobian), scale=scale
    )
    expected = keypoints(f"adapt{adapt}-relative{relative}-jacobian{jacobian}")
    np.testing.assert_allclose(moved.position, expected.position, atol=1e-5)
    np.testing.assert_allclose(moved.jacobian, expected.jacobian, atol=1e-5)


def test_scale_of_keypoints_on_a_line_is_an_error():
    line = Keypoints(
        np.linspace(0, 1, 5)[:, None].repeat(2, 1).astype(np.float32), np.eye(2)[None].repeat(5, 0).astype(np.float32)
    )
    with pytest.raises(InputError, match="span no area"):
        movement_scale(line, line)


def test_importing_touches_nothing():
    import subprocess
    import sys

    code = (
        "import sys, vidcomp_jax, vidcomp_jax.training.loop, vidcomp_jax.data, vidcomp_jax.fomm.losses;"
        "assert 'tensorflow' not in sys.modules; import jax._src.xla_bridge as b; assert not b._backends"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=golden.FOLDER.parents[2])
    assert set(vidcomp_jax.__all__) <= set(dir(vidcomp_jax))
