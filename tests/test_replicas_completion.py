"""Completion and evaluation on two devices equal one device, for numbers of clips and frames that do not divide."""

import jax
import numpy as np
import pytest
from flax import nnx

from tests.support.tiny_fomm import tiny
from vidcomp_jax import FirstOrderMotionModel, complete, complete_known
from vidcomp_jax.completion.completers import KeypointCompleter
from vidcomp_jax.evaluation.batches import CEILING, Batch, Instruments, evaluate_batch
from vidcomp_jax.evaluation.lpips import LPIPS, lpips_distance
from vidcomp_jax.evaluation.protocols import Protocol
from vidcomp_jax.fomm import between
from vidcomp_jax.inbetween.generation import InbetweenModel
from vidcomp_jax.inbetween.networks import Generator, InbetweenConfig
from vidcomp_jax.motion.linear import LinearMotion
from vidcomp_jax.replicas import Replicas

ROUNDING = {"rtol": 0, "atol": 1e-5}
ONE, BOTH = slice(0, 1), slice(0, 2)


@pytest.fixture(scope="module")
def model():
    return FirstOrderMotionModel(tiny().fomm, rngs=nnx.Rngs(0))


def some_frames(*shape):
    return np.random.default_rng(0).uniform(size=(*shape, 8, 8, 1)).astype(np.float32).repeat(4, -3).repeat(4, -2)


def both(compute):
    """What `compute` returns for one device, and for two."""
    return [compute(jax.local_devices()[which]) for which in (ONE, BOTH)]


def assert_same(one, two):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, **ROUNDING), one, two)
    assert jax.tree.map(np.shape, one) == jax.tree.map(np.shape, two)


@pytest.mark.parametrize(
    ("clips", "num_frames", "by_clip", "options"),
    [
        (3, 6, False, {"render": "first"}),
        (1, 12, False, {"max_pixels": 3 * 32**2}),
        (3, 5, True, {"max_pixels": 3 * 32**2}),
    ],
)
def test_completed_clips(model, monkeypatch, clips, num_frames, by_clip, options):
    chosen, choose = [], between._by_clip
    monkeypatch.setattr(between, "_by_clip", lambda *given: chosen.append(choose(*given)) or chosen[-1])
    first, last = some_frames(2, clips)
    one, two = both(lambda devices: complete(model, first, last, num_frames, devices=devices, **options))
    assert_same(one, two)
    assert chosen == [True, by_clip]
    assert two.frames.shape == (clips, num_frames, 32, 32, 1)


def test_known_frames_inside_clips(model):
    known = some_frames(3, 2)
    one, two = both(lambda devices: complete_known(model, known, (1, 4), 7, devices=devices))
    assert_same(one, two)
    np.testing.assert_array_equal(two.frames[:, [1, 4]], known)


def test_the_split_that_renders_fewer_frames_is_taken(model):
    devices = jax.local_devices()[:2]
    network = Replicas(model, devices)
    assert between._by_clip(2, 14, network) and between._by_clip(101, 14, network)
    assert not between._by_clip(1, 14, network) and not between._by_clip(3, 14, network)
    assert between._by_clip(1, 14, Replicas(model, devices[:1]))


@pytest.mark.parametrize("clips", [1, 17])
def test_clips_between_by_convolutions(clips):
    config = InbetweenConfig(num_frames=4, frame_size=16, width=2, num_stages=1, noise_size=4)
    generator = Generator(config, rngs=nnx.Rngs(jax.random.key(0, impl="rbg")))
    first, last = some_frames(2, clips)[:, :, ::2, ::2]
    one, two = both(lambda devices: InbetweenModel(generator, config, devices=devices)(first, last))
    assert_same(one, two)
    assert two.shape == (clips, 4, 16, 16, 1)


def test_lpips():
    network = LPIPS("alex", rngs=nnx.Rngs(jax.random.key(0, impl="rbg")))
    a, b = some_frames(2, 3).repeat(2, -3).repeat(2, -2)
    one, two = both(lambda devices: lpips_distance(network, a, b, devices=devices))
    np.testing.assert_allclose(two, one, rtol=1e-4)
    assert two.shape == (3,) and two.min() > 0


def test_scores_of_a_batch(model):
    protocol, batch = Protocol(num_clips=3, num_frames=5), Batch(0, some_frames(3, 5))

    def scores(devices):
        completer = KeypointCompleter(model, LinearMotion(), devices=devices)
        tools = Instruments({"linear": completer}, protocol, keypoint_model=model, devices=devices)
        return evaluate_batch(tools, batch, 3)

    one, two = both(scores)
    assert one.keys() == two.keys() and f"{CEILING}/l1" in two
    for name in one:
        if not name.endswith("seconds"):
            np.testing.assert_allclose(two[name], one[name], rtol=1e-3, atol=1e-5, err_msg=name)
