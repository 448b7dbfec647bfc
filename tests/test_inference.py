"""A module that is split for inference again gives what it gave, unless it has changed."""

import gc

import jax
import numpy as np
import pytest
from flax import nnx

from tests.support.tiny_fomm import tiny
from vidcomp_jax.fomm.model import FirstOrderMotionModel
from vidcomp_jax.nn import inference
from vidcomp_jax.nn.inference import split_for_inference
from vidcomp_jax.nn.layers import BatchNorm


class Pair(nnx.Module):
    """Two layers, of which one has running statistics, and a list of more."""

    def __init__(self, rngs: nnx.Rngs):
        self.linear, self.norm = nnx.Linear(2, 2, rngs=rngs), BatchNorm(2)
        self.more = nnx.List([nnx.Linear(2, 2, rngs=rngs)])
        self.scale = 1.0

    def __call__(self, x):
        """Apply all."""
        return self.scale * self.more[0](self.norm(self.linear(x)))


def apply(module, x):
    definition, state = split_for_inference(module)
    return jax.jit(lambda state, x: nnx.merge(definition.graphdef, state)(x))(state, x)


def expected(module, x):
    return nnx.view(module, use_running_average=True)(x)


CHANGES = {
    "value": lambda m: m.linear.kernel.set_value(m.linear.kernel[...] + 1),
    "variable": lambda m: setattr(m.linear, "bias", nnx.Param(m.linear.bias[...] + 1)),
    "module": lambda m: setattr(m, "linear", nnx.Linear(2, 2, rngs=nnx.Rngs(7))),
    "item": lambda m: m.more.__setitem__(0, nnx.Linear(2, 2, rngs=nnx.Rngs(8))),
    "setting": lambda m: setattr(m, "scale", 3.0),
    "nested setting": lambda m: setattr(m.norm, "epsilon", 0.5),
    "update": lambda m: nnx.update(m, nnx.state(Pair(nnx.Rngs(9)))),
    "eval": lambda m: m.eval(),
    "train": lambda m: m.train(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_change_shows(change):
    module, x = Pair(nnx.Rngs(0)), np.float32([[1, 2], [3, -1]])
    before = apply(module, x)
    np.testing.assert_allclose(before, expected(module, x), rtol=1e-6)
    change(module)
    after = apply(module, x)
    np.testing.assert_allclose(after, expected(module, x), rtol=1e-6)
    if change not in (CHANGES["eval"], CHANGES["train"]):
        assert abs(after - before).max() > 0.1


def test_an_unchanged_module_is_not_traversed(monkeypatch):
    module = Pair(nnx.Rngs(0))
    first = split_for_inference(module)
    monkeypatch.setattr(inference, "_split", None)
    module.linear.kernel.set_value(module.linear.kernel[...] + 1)
    again = split_for_inference(module)
    assert again[0] is first[0] and again[1] is first[1]


def test_modules_that_are_alike_share_their_definition_and_programs():
    one, other = Pair(nnx.Rngs(0)), Pair(nnx.Rngs(1))
    assert split_for_inference(one)[0] is split_for_inference(other)[0]
    other.scale = 2.0
    assert split_for_inference(one)[0] != split_for_inference(other)[0]


def test_a_module_is_not_kept():
    module = Pair(nnx.Rngs(0))
    split_for_inference(module)
    count = len(inference._SPLITS)
    del module
    gc.collect()
    assert len(inference._SPLITS) < count


def test_copied_variables_are_not_kept(monkeypatch):
    """A later Flax may return copies from `nnx.split`, whose values would be those of the first call."""
    module, x, split = Pair(nnx.Rngs(0)), np.ones((1, 2), np.float32), nnx.split
    monkeypatch.setattr(nnx, "split", lambda view: split(nnx.clone(view)))
    before = apply(module, x)
    module.linear.kernel.set_value(module.linear.kernel[...] + 1)
    assert abs(apply(module, x) - before).max() > 0.1


def test_new_weights_are_used_at_once():
    config = tiny().fomm
    model, updated, replaced = (FirstOrderMotionModel(config, rngs=nnx.Rngs(seed)) for seed in range(3))
    frames = np.random.default_rng(0).random((2, 32, 32, config.num_channels), np.float32)
    model.detect(frames)
    nnx.update(model, nnx.state(updated))
    np.testing.assert_array_equal(model.detect(frames).position, updated.detect(frames).position)
    model.detector = replaced.detector
    np.testing.assert_array_equal(model.detect(frames).position, replaced.detect(frames).position)
