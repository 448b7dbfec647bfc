"""Weights to start from: the discriminator may be another one or missing, the other networks may not."""

import dataclasses

import numpy as np
import pytest
from flax import nnx

from converters.fomm_state import dump_fomm_state
from tests.support.tiny_fomm import tiny
from vidcomp_jax import FirstOrderMotionModel, InputError, save_fomm
from vidcomp_jax.fomm.discriminator import DiscriminatorConfig
from vidcomp_jax.fomm.loading import load_fomm_weights
from vidcomp_jax.storage.checkpoint import save_model

PLAIN = DiscriminatorConfig(width=4, max_width=8, num_blocks=2)


def model(seed=1, **discriminator):
    config = dataclasses.replace(tiny().fomm, discriminator=dataclasses.replace(PLAIN, **discriminator))
    return FirstOrderMotionModel(config, rngs=nnx.Rngs(seed))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A folder with a model whose discriminator has neither spectral norm nor keypoints."""
    folder = tmp_path_factory.mktemp("init") / "plain"
    save_fomm(folder, model(seed=0))
    return folder


@pytest.mark.parametrize("changes", [{"spectral_norm": True}, {"use_keypoints": True}, {"num_blocks": 1}])
def test_another_discriminator_stays_as_it_is(plain, changes):
    taken, new, old = model(**changes), dump_fomm_state(model(**changes)), dump_fomm_state(model(seed=0))
    assert not load_fomm_weights(taken, plain, any_discriminator=True)
    found = dump_fomm_state(taken)
    for part, source in (("generator", old), ("kp_detector", old), ("discriminator", new)):
        for key, value in source[part].items():
            np.testing.assert_array_equal(found[part][key], value, err_msg=f"{part}.{key}")
    with pytest.raises(InputError, match="discriminator"):
        load_fomm_weights(model(**changes), plain)


def test_the_same_discriminator_is_taken_over(plain):
    taken, old = model(), dump_fomm_state(model(seed=0))
    assert load_fomm_weights(taken, plain, any_discriminator=True)
    found = dump_fomm_state(taken)["discriminator"]
    assert all(np.array_equal(found[key], value) for key, value in old["discriminator"].items())


def test_a_missing_discriminator_is_none_of_these_sizes(tmp_path):
    class WithoutDiscriminator(nnx.Module):
        def __init__(self, whole):
            self.detector, self.dense_motion, self.generator = whole.detector, whole.dense_motion, whole.generator

    whole = model(seed=0)
    partial = WithoutDiscriminator(whole)
    save_model(tmp_path / "partial", partial, tiny())
    taken = model()
    assert not load_fomm_weights(taken, tmp_path / "partial", any_discriminator=True)
    np.testing.assert_array_equal(taken.generator.final.kernel[...], whole.generator.final.kernel[...])


def test_another_generator_is_refused(plain):
    config = dataclasses.replace(tiny().fomm, num_keypoints=5)
    with pytest.raises(InputError, match="does not fit the model"):
        load_fomm_weights(FirstOrderMotionModel(config, rngs=nnx.Rngs(0)), plain, any_discriminator=True)
