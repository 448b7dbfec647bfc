"""Inference on two devices: the same results as on one, also for numbers of examples that do not divide, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.support.tiny_fomm import tiny
from vidcomp_jax import FirstOrderMotionModel, InputError
from vidcomp_jax.data import open_clips
from vidcomp_jax.fomm.animation import animate, best_frame, detect
from vidcomp_jax.fomm.reconstruction import reconstruct, score_clip
from vidcomp_jax.media.images import to_float
from vidcomp_jax.motion.motion_file import extract_motion
from vidcomp_jax.replicas import Replicas

ROUNDING = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(scope="module")
def model():
    return FirstOrderMotionModel(tiny().fomm, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def clips():
    return open_clips(tiny().data, "test")


@pytest.fixture(scope="module")
def frames():
    shade = np.random.default_rng(0).integers(0, 256, (7, 4, 4, 1), np.uint8)
    return shade.repeat(8, axis=1).repeat(8, axis=2)


class Doubling(nnx.Module):
    def __init__(self):
        self.factor = nnx.Param(jnp.float32(2))


def times_factor(network, x, y, offset):
    """Also returns how many examples the device got."""
    return network.factor[...] * x + y + offset, jnp.full((len(x),), len(x))


def traced(network, x):
    return x * jax.lax.axis_size("shares")


def test_each_device_computes_its_share():
    network = Replicas(Doubling(), jax.local_devices()[:2])
    assert (network.count, network.multiple(3), network.multiple(4)) == (2, 4, 4)
    x = network.filled_up(np.arange(3, dtype=np.float32), 3)
    y, shares = network.run(times_factor, x, np.float32(10), axes=(0, None), options=(1,))
    assert np.asarray(y).tolist() == [11, 13, 15, 15] and np.asarray(shares).tolist() == [2, 2, 2, 2]
    assert {shard.device for shard in y.addressable_shards} == set(jax.local_devices()[:2])
    along_second = network.run(traced, np.ones((1, 4), np.float32), axes=(1,), out_axis=1)
    assert np.asarray(along_second).tolist() == [[2, 2, 2, 2]]


def test_changed_weights_are_copied_again():
    module = Doubling()
    for factor in (2, 2, 5):
        module.factor[...] = jnp.float32(factor)
        for devices in (None, jax.local_devices()[1:2], jax.local_devices()[:1]):
            y, _ = Replicas(module, devices).run(
                times_factor, np.ones(2, np.float32), 0.0, axes=(0, None), options=(0,)
            )
            assert np.asarray(y).tolist() == [factor, factor]
            assert devices is None or y.devices() == set(devices)


def test_unchanged_weights_are_not_copied_again(model, monkeypatch):
    first = Replicas(model)
    monkeypatch.setattr(jax, "device_put", lambda *_: pytest.fail("copied again"))
    again = Replicas(model)
    assert jax.tree.leaves(again._state)[0] is jax.tree.leaves(first._state)[0]


def test_a_default_device_is_used_alone():
    second = jax.local_devices()[1]
    with jax.default_device(second):
        network = Replicas(Doubling())
        y, _ = network.run(times_factor, np.ones(2, np.float32), 0.0, axes=(0, None), options=(0,))
    assert network.count == 1 and y.devices() == {second}


def test_devices_that_cannot_be_used():
    first = jax.local_devices()[0]
    for devices in ([], [first, first]):
        with pytest.raises(InputError, match=r"`devices` is .*; it must be devices of this process, each once"):
            Replicas(Doubling(), devices)


@pytest.mark.parametrize(("count", "chunk"), [(1, 8), (7, 3), (6, 2)])
def test_animation(model, frames, count, chunk):
    chunks = [frames[i : min(i + chunk, count)] for i in range(0, count, chunk)]
    initial = detect(model, frames[0])
    one, two = (
        np.concatenate(list(animate(model, frames[5], chunks, initial, chunk=chunk, devices=devices)))
        for devices in (jax.local_devices()[:1], None)
    )
    assert one.shape == two.shape == frames[:count].shape
    np.testing.assert_allclose(two, one, **ROUNDING)


def test_best_frame(model, frames):
    one, two = (
        best_frame(model, frames[4], [frames[:3], frames[3:6]], chunk=3, devices=devices)
        for devices in (jax.local_devices()[:1], None)
    )
    assert one.index == two.index == 4
    np.testing.assert_allclose(two.keypoints.position, one.keypoints.position, **ROUNDING)


@pytest.mark.parametrize(("count", "chunk"), [(1, 16), (7, 3)])
def test_reconstruction(model, frames, count, chunk):
    one, two = (
        reconstruct(model, to_float(frames[:count]), chunk, devices=devices)
        for devices in (jax.local_devices()[:1], None)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, **ROUNDING), one, two)
    assert two.rendered.prediction.shape == two.truth.shape


def test_scores_of_a_clip(model, clips):
    one, two = (score_clip(model, clips, 0, chunk=3, devices=devices) for devices in (jax.local_devices()[:1], None))
    assert one.num_frames == two.num_frames == 4
    assert two.l1 == pytest.approx(one.l1, abs=1e-6) and two.ssim == pytest.approx(one.ssim, abs=1e-5)


@pytest.mark.parametrize("chunk", [5, 64])
def test_extracted_motion(model, clips, chunk):
    one, two = (
        extract_motion(model, clips, "test", chunk=chunk, devices=devices)
        for devices in (jax.local_devices()[:1], None)
    )
    assert len(two.keypoints.position) == clips.lengths.sum()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, **ROUNDING), one.keypoints, two.keypoints)
