"""Batches are prepared in the training step: the same on any devices, from each example's own key."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tools.bair_records import write_download
from vidcomp_jax.data import (
    AugmentationConfig,
    DataConfig,
    as_stored,
    open_clips,
    pairs,
    prepare_frames,
    prepare_pairs,
    windows,
)
from vidcomp_jax.devices import BatchShare, replicate, shard
from vidcomp_jax.media.images import to_float
from vidcomp_jax.training.preparation import prepared, prepared_step
from vidcomp_jax.training.step import gradient_step, init_state, map_over_devices

RANDOM = AugmentationConfig(hue=0.3, rotation=(-20.0, 20.0), resize=(0.9, 1.2), crop=16)


class Recorder(nnx.Module):
    """A model whose gradient is what its objective is given: the frames and the objective's own draws."""

    def __init__(self, count, size):
        self.frames = nnx.Param(jnp.zeros((count, 2, size, size, 3)))
        self.drawn = nnx.Param(jnp.zeros((count,)))


def seen(model, pair, keys):
    device = jax.lax.axis_index("devices")
    place = device * len(keys) + jnp.arange(len(keys))
    drawn = jax.vmap(jax.random.uniform)(keys)
    shares = jax.lax.axis_size("devices")
    loss = (model.frames[place] * jnp.stack(pair, 1)).sum() + (model.drawn[place] * drawn).sum()
    return loss * shares, {}


def recorded(batch, devices, objective, as_step=False, start=0):
    """The frames and draws that `objective` sees in one step, and the step's key."""
    count = len(batch.source)
    tx = optax.sgd(-1.0)
    graphdef, constants, state = init_state(Recorder(count, 16), tx, devices)
    state = state._replace(step=state.step + start)
    step = gradient_step(tx, objective)
    step = map_over_devices(graphdef, prepared_step(step, prepare) if as_step else step, devices)
    state, _ = step(state, constants, shard(batch, count, devices), replicate(jax.random.key(5), devices))
    return np.asarray(state.params["frames"]), np.asarray(state.params["drawn"])


def prepare(pair, keys):
    return prepare_pairs(pair, keys, augmentation=RANDOM, size=16)


@pytest.fixture(scope="module")
def clips():
    return open_clips(DataConfig(name="synthetic", size=12, num_channels=3), "train")


@pytest.fixture(scope="module")
def batch(clips):
    return next(pairs(clips, batch_size=4, seed=0))


@pytest.fixture(scope="module")
def on_one_device(batch):
    return recorded(batch, jax.devices()[:1], prepared(seen, prepare))


def test_two_devices_prepare_what_one_does(batch, on_one_device):
    frames, drawn = recorded(batch, jax.devices()[:2], prepared(seen, prepare))
    np.testing.assert_allclose(frames, on_one_device[0], atol=1e-6)
    np.testing.assert_array_equal(drawn, on_one_device[1])
    assert len(np.unique(frames[:, 0, 8, 8, 0])) == 4


def test_a_whole_step_is_prepared_as_an_objective_is(batch, on_one_device):
    frames, drawn = recorded(batch, jax.devices()[:1], seen, as_step=True)
    np.testing.assert_allclose(frames, on_one_device[0], atol=1e-6)
    np.testing.assert_array_equal(drawn, on_one_device[1])


def test_preparation_leaves_the_draws_of_the_objective_alone(batch, on_one_device):
    plain = recorded(
        batch, jax.devices()[:1], prepared(seen, lambda pair, _: tuple(prepare_frames(x, size=16) for x in pair))
    )
    np.testing.assert_array_equal(plain[1], on_one_device[1])
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(jax.random.key(5), 0), jnp.arange(4))
    np.testing.assert_array_equal(plain[1], jax.vmap(jax.random.uniform)(keys))
    assert abs(plain[0] - on_one_device[0]).max() > 0.1


def test_each_step_and_each_example_has_its_own_changes(batch):
    equal = type(batch)(*(np.repeat(frames[:1], 4, 0) for frames in batch))
    there, here = (recorded(equal, jax.devices()[:1], prepared(seen, prepare), start=step)[0] for step in (0, 1))
    different = np.concatenate([there, here])
    for a, b in itertools.combinations(different, 2):
        assert abs(a - b).max() > 1e-3


def test_frames_become_floats_as_on_the_host():
    frames = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    found = np.asarray(jax.jit(prepare_frames)(frames))
    assert found.dtype == np.float32 and found.min() == 0 and found.max() == 1
    np.testing.assert_allclose(found, to_float(frames), atol=6e-8)  # XLA multiplies by 1 / 255


@pytest.mark.parametrize(("size", "num_channels"), [(64, 3), (128, 3), (128, 1), (32, 1)])
def test_bair_is_read_as_stored_and_prepared_to_the_same_frames(tmp_path, size, num_channels):
    write_download(tmp_path, train=[4], test=[2])
    config = DataConfig(name="bair", data_dir=tmp_path, size=size, num_channels=num_channels)
    stored = as_stored(config)
    assert (stored.size, stored.num_channels) == (64, 3)
    there, here = (next(pairs(open_clips(x, "train"), batch_size=4, seed=0)) for x in (config, stored))
    keys = jax.random.split(jax.random.key(0), 4)
    found = prepare_pairs(tuple(map(jnp.asarray, here)), keys, size=size, num_channels=num_channels)
    for expected, ours in zip(there, found, strict=True):
        np.testing.assert_allclose(ours, to_float(expected), atol=1.001 / 255)
        assert abs(np.asarray(ours) - to_float(expected)).mean() < 1e-4
    options = {"num_frames": 5, "batch_size": 2, "seed": 0}
    there, here = (next(windows(open_clips(x, "train"), **options)) for x in (config, stored))
    found = prepare_frames(jnp.asarray(here), size=size, num_channels=num_channels)
    np.testing.assert_allclose(found, to_float(there), atol=1.001 / 255)


def test_what_is_decoded_into_a_cache_is_stored_as_it_is_asked_for():
    for name in ("kth", "folder", "synthetic"):
        config = DataConfig(name=name, size=128)
        assert as_stored(config) is config


def test_a_resumed_run_prepares_what_an_uninterrupted_one_does(clips):
    whole = list(itertools.islice(pairs(clips, batch_size=4, seed=0), 3))
    again = next(pairs(clips, batch_size=4, seed=0, share=BatchShare(2)))
    there, here = (recorded(x, jax.devices()[:1], prepared(seen, prepare), start=2)[0] for x in (whole[2], again))
    np.testing.assert_array_equal(there, here)
