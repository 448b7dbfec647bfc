"""A trace of a few steps is recorded, and names the parts of the networks."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from experiments.animate import AnimateConfig
from experiments.commands import parse
from experiments.configs import CONFIGS, TrainFOMMConfig
from tests.support import toy_training
from tests.support.tiny_fomm import tiny
from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.model import FirstOrderMotionModel
from vidcomp_jax.training.profile import Profile


def traces(folder):
    return sorted(path.suffix for path in folder.glob("plugins/profile/*/*"))


def test_training_records_a_trace_and_computes_the_same(tmp_path, capsys):
    plain = toy_training.run(tmp_path / "plain", config=toy_training.config(num_steps=10))
    traced = toy_training.run(
        tmp_path / "traced", config=toy_training.config(num_steps=10, profile=tmp_path / "trace" / "here")
    )
    assert traces(tmp_path / "trace" / "here") == [".gz", ".pb"]
    assert f"trace in {tmp_path / 'trace' / 'here'}: `tensorboard" in capsys.readouterr().err
    assert str(toy_training.weights_of(plain.model)) == str(toy_training.weights_of(traced.model))


def test_a_loop_that_ends_early_still_writes_what_there_is_or_says_so(tmp_path, capsys):
    with Profile(tmp_path / "five") as profile:
        for _ in range(5):
            profile.begin_round(jnp.ones(3) + 1)
    assert traces(tmp_path / "five") == [".gz", ".pb"]
    with Profile(tmp_path / "two") as profile:
        for _ in range(2):
            profile.begin_round(())
    assert traces(tmp_path / "two") == []
    assert f"no trace in {tmp_path / 'two'}: it begins after 3 rounds, and there were 2" in capsys.readouterr().err
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"`profile` is .*file, which is a file"):
        Profile(tmp_path / "file")


def test_the_parts_of_the_model_have_names():
    model = FirstOrderMotionModel(tiny().fomm, rngs=nnx.Rngs(0))
    model.eval()
    frames = jnp.zeros((2, 32, 32, 1))

    def rendered(frames):
        keypoints = model.detector(frames)
        return model.generator(frames, model.dense_motion(frames, keypoints, keypoints))

    text = jax.jit(rendered).lower(frames).as_text(debug_info=True)
    for name in ("keypoint_detector", "dense_motion", "generator_encode", "generator_decode"):
        assert f"{name}/" in text, name


def test_the_option():
    config = parse(TrainFOMMConfig, ["--dataset=kth", "--workdir=run", "--profile=trace"], CONFIGS)
    assert config.train.profile == Path("trace")
    with pytest.raises(InputError, match="`profile` is trace"):
        AnimateConfig(fomm=Path("model"), dataset="kth", profile=Path("trace"))
