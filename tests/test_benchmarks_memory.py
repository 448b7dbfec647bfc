"""The estimate of a step's memory follows what changes it."""

import jax
import pytest
from flax import nnx

from benchmarks.memory import Options, kept, planned
from tests.support.tiny_fomm import tiny
from vidcomp_jax import FirstOrderMotionModel, InputError


def test_estimated_memory_follows_batch_parts_and_options():
    config = tiny()
    of_eight, of_parts = (planned(config, 8, parts, perceptual=False) for parts in (1, 4))
    weights = 4 * sum(x.size for x in jax.tree.leaves(nnx.state(FirstOrderMotionModel(config.fomm, rngs=nnx.Rngs(0)))))
    assert 3 * weights < of_eight[0] < 4 * weights + 2**20  # with Adam's two moments
    assert of_parts[0] == of_eight[0] and of_parts[1] < 0.5 * of_eight[1]
    whole = kept(config, 8, perceptual=False)
    assert 1.7 * kept(config, 4, perceptual=False) < whole
    assert kept(config, 8, remat=True, perceptual=False) < 0.8 * whole
    assert kept(config, 8, precision="bfloat16", perceptual=False) < 0.9 * whole


@pytest.mark.parametrize("wrong, message", [({"configs": ("no",)}, "no configuration no"), ({"batches": (0,)}, "0")])
def test_wrong_options_of_the_estimate(wrong, message):
    with pytest.raises(InputError, match=message):
        Options(**wrong)
