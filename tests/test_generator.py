"""The full-resolution skip of the generator: what it shows where, and that it is off unless asked for."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from converters.official_yaml import official_content
from tests.support.tiny_fomm import tiny
from vidcomp_jax import GeneratorConfig, InputError, OcclusionAwareGenerator
from vidcomp_jax.fomm.dense_motion import Motion
from vidcomp_jax.nn.geometry import coordinate_grid
from vidcomp_jax.storage.config import load_config, save_config

CONFIG = GeneratorConfig(width=2, max_width=4, num_down_blocks=1, num_bottleneck_blocks=1, full_resolution_skip=True)
SOURCE = jnp.asarray(np.random.default_rng(0).uniform(0.1, 1, (2, 8, 8, 3)), jnp.float32)


def generator(config):
    made = OcclusionAwareGenerator(config, num_channels=3, rngs=nnx.Rngs(0))
    made.eval()
    return made


def motion(shift, occlusion):
    """A motion that samples the source `shift` to the right of every pixel, at full resolution."""
    grid = jnp.broadcast_to(coordinate_grid(8, 8) + jnp.array([shift, 0.0]), (2, 8, 8, 2))
    maps = jnp.full((2, 8, 8, 1), occlusion, jnp.float32)
    return Motion(grid, maps, maps, jnp.zeros((2, 1, 8, 8, 3)))


def decode(config, moved):
    network = generator(config)
    return network.decode(network.encode(SOURCE), moved, SOURCE)


def test_pixels_of_the_source_pass_unchanged_where_they_are_usable():
    still = decode(CONFIG, motion(0.0, 1.0))
    np.testing.assert_allclose(still.prediction, SOURCE, atol=1e-6)
    np.testing.assert_array_equal(still.prediction, still.deformed_source)


def test_occluded_pixels_are_decoded():
    without = dataclasses.replace(CONFIG, full_resolution_skip=False)
    occluded = motion(0.3, 0.0)
    np.testing.assert_allclose(decode(CONFIG, occluded).prediction, decode(without, occluded).prediction, atol=1e-6)


def test_what_comes_from_outside_of_the_frame_is_decoded_not_black():
    moved = motion(4 * 2 / 7, 1.0)  # by four pixels: the right half lies outside
    shown = decode(CONFIG, moved)
    np.testing.assert_allclose(shown.prediction[:, :, :4], SOURCE[:, :, 4:], atol=1e-5)
    np.testing.assert_array_equal(shown.deformed_source[:, :, 5:], 0)
    decoded = decode(dataclasses.replace(CONFIG, full_resolution_skip=False), moved).prediction
    np.testing.assert_allclose(shown.prediction[:, :, 4:], decoded[:, :, 4:], atol=1e-5)
    assert float(shown.prediction[:, :, 4:].min()) > 0.05


def test_models_from_before_the_option_have_no_skip(tmp_path):
    path = tmp_path / "config.json"
    save_config(path, GeneratorConfig(width=2))
    path.write_text(path.read_text().replace('"full_resolution_skip": false', '"x": 0').replace(',\n  "x": 0', ""))
    assert "full_resolution_skip" not in path.read_text()
    assert load_config(path, GeneratorConfig) == GeneratorConfig(width=2, full_resolution_skip=False)


def test_the_published_code_cannot_have_the_skip():
    config = tiny()
    fomm = dataclasses.replace(
        config.fomm, generator=dataclasses.replace(config.fomm.generator, full_resolution_skip=True)
    )
    with pytest.raises(InputError, match=r"full_resolution_skip.*published"):
        official_content(dataclasses.replace(config, fomm=fomm), 1)
