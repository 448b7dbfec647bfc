"""Training of the whole model: devices, resuming, overfitting, and the command with its output and errors."""

import dataclasses
import functools
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from experiments import train_fomm
from experiments.commands import parse
from experiments.configs import CONFIGS, TrainFOMMConfig
from tests.support import golden
from tests.support.tiny_fomm import tiny
from vidcomp_jax import FirstOrderMotionModel, InputError, Keypoints, load_fomm, save_fomm
from vidcomp_jax.data import KthConfig, open_clips, pairs
from vidcomp_jax.devices import replicate, shard
from vidcomp_jax.errors import TrainingError
from vidcomp_jax.fomm.discriminator import DiscriminatorConfig
from vidcomp_jax.fomm.losses import FOMMLossConfig, TrainingNetworks, fomm_objective
from vidcomp_jax.media.images import to_float
from vidcomp_jax.training.config import TrainConfig
from vidcomp_jax.training.preparation import prepared
from vidcomp_jax.training.step import init_state, make_train_step

ROOT = pathlib.Path(__file__).parent.parent


def with_gan(config):
    """Return the same config with all options of the discriminator enabled, and fewer blocks in the other networks."""
    fomm = dataclasses.replace(
        config.fomm,
        detector=dataclasses.replace(config.fomm.detector, num_blocks=1),
        dense_motion=dataclasses.replace(config.fomm.dense_motion, num_blocks=1),
        generator=dataclasses.replace(config.fomm.generator, num_down_blocks=1),
        discriminator=DiscriminatorConfig(width=4, max_width=8, num_blocks=2, spectral_norm=True, use_keypoints=True),
    )
    loss = FOMMLossConfig(scales=(1.0,), generator_gan=1.0, feature_matching=(10.0, 10.0))
    return dataclasses.replace(config, fomm=fomm, loss=loss)


def batches(config, count):
    stream = pairs(open_clips(config.data, "train"), batch_size=config.train.batch_size, seed=0)
    return [next(stream) for _ in range(count)]


def as_floats(batch):
    return tuple(to_float(frames) for frames in batch)


def losses(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def test_two_devices_equal_one():
    config = with_gan(tiny())
    data, results = batches(config, 2), []
    assert len(jax.devices()) > 1
    for devices in (jax.devices()[:1], jax.devices()[:2]):
        networks = TrainingNetworks(FirstOrderMotionModel(config.fomm, rngs=nnx.Rngs(0)), config.loss)
        tx = optax.sgd(1e-4)  # SGD, because Adam normalizes even gradients that are only rounding error
        graphdef, constants, state = init_state(networks, tx, devices)
        initial = jax.tree.map(np.array, state.params)
        objective = prepared(fomm_objective, train_fomm._preparation(config))
        step = make_train_step(graphdef, tx, objective, devices)
        key = replicate(jax.random.key(0), devices)
        for batch in data:
            state, metrics = step(state, constants, shard(batch, 4, devices), key)
        state, metrics = jax.tree.map(np.asarray, (state, metrics))
        results.append((state, metrics, jax.tree.map(np.subtract, state.params, initial)))
    one, two = results
    moved = optax.tree.norm(one[2])
    assert optax.tree.norm(jax.tree.map(np.subtract, one[2], two[2])) < 1e-2 * moved
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
    jax.tree.map(close, one[0].batch_stats, two[0].batch_stats)
    assert {"generator_gan", "discriminator_gan", "feature_matching"} < set(one[1])
    for name in one[1]:
        np.testing.assert_allclose(one[1][name], two[1][name], rtol=2e-3, err_msg=name)


def test_each_network_descends_its_own_objective():
    config = with_gan(tiny())
    networks = TrainingNetworks(FirstOrderMotionModel(config.fomm, rngs=nnx.Rngs(0)), config.loss)
    graphdef, *states = nnx.split(networks, nnx.Param, ...)
    params, rest = map(nnx.to_pure_dict, states)
    keys = jax.random.split(jax.random.key(0), 4)

    @jax.jit
    def gradients(params, rest, batch):
        def terms(params):
            _, metrics = fomm_objective(nnx.merge(graphdef, params, rest), batch, keys)
            return metrics["discriminator_gan"], metrics["generator_gan"] + metrics["feature_matching"]

        return jax.jacrev(terms)(params)

    by_discriminator, by_generator = (x["model"] for x in gradients(params, rest, as_floats(batches(config, 1)[0])))

    def size(tree):
        return float(optax.tree.norm(tree))

    assert size(by_discriminator["discriminator"]) > 0
    assert size(by_discriminator["generator"]) == size(by_discriminator["detector"]) == 0
    assert size(by_generator["discriminator"]) == 0
    assert size(by_generator["generator"]) > 0 and size(by_generator["detector"]) > 0


def test_a_batch_overfits():
    config = tiny()
    batch = as_floats(batches(config, 1)[0])
    networks = TrainingNetworks(FirstOrderMotionModel(config.fomm, rngs=nnx.Rngs(0)), config.loss)
    tx, devices = config.optimizer.build(), jax.devices()
    graphdef, constants, state = init_state(networks, tx, devices)
    step, key = make_train_step(graphdef, tx, fomm_objective, devices), replicate(jax.random.key(0), devices)
    history = []
    for _ in range(70):
        state, metrics = step(state, constants, shard(batch, 4, devices), key)
        history.append(float(metrics["l1"]))
    assert np.mean(history[-5:]) < 0.35 * history[0], history


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    config = dataclasses.replace(tiny(), workdir=tmp_path_factory.mktemp("run") / "a")
    assert train_fomm.train(config) == 0
    return config


def test_a_resumed_run_is_the_same_bit_for_bit(uninterrupted, tmp_path):
    halfway = dataclasses.replace(uninterrupted.train, num_steps=10)
    workdir = tmp_path / "b"
    train_fomm.train(dataclasses.replace(uninterrupted, workdir=workdir, train=halfway))
    assert max(losses(workdir)) == 10
    train_fomm.train(dataclasses.replace(uninterrupted, workdir=workdir))
    expected, found = losses(uninterrupted.workdir), losses(workdir)
    assert sorted(found) == list(range(1, 21))
    assert found == expected


def test_what_a_run_leaves(uninterrupted):
    assert (uninterrupted.workdir / "config.json").is_file()
    assert list(uninterrupted.workdir.glob("panels/*.png"))
    assert list(uninterrupted.workdir.glob("tensorboard/*tfevents*"))
    model = load_fomm(uninterrupted.workdir)
    assert model.config == uninterrupted.fomm
    best = load_fomm(uninterrupted.workdir, which="best")
    np.testing.assert_array_equal(best.detector.kp.kernel[...], model.detector.kp.kernel[...])


@pytest.fixture(scope="module")
def from_weights(uninterrupted, tmp_path_factory):
    """A run of one step that has started from the weights of another run."""
    workdir, short = tmp_path_factory.mktemp("run") / "c", dataclasses.replace(uninterrupted.train, num_steps=1)
    config = dataclasses.replace(uninterrupted, train=short, workdir=workdir, init_from=uninterrupted.workdir)
    train_fomm.train(config)
    return config


def test_start_from_the_weights_of_another_run(uninterrupted, from_weights):
    assert losses(from_weights.workdir)[1] < 0.8 * losses(uninterrupted.workdir)[1]


def test_another_config_in_the_same_folder_is_refused(uninterrupted):
    other = dataclasses.replace(uninterrupted, loss=FOMMLossConfig(pyramid=1.0, generator_gan=0.0))
    with pytest.raises(InputError, match=r"loss\.pyramid"):
        train_fomm.train(other)


def test_initial_weights_are_not_needed_to_go_on(from_weights, tmp_path):
    shutil.copytree(from_weights.workdir, tmp_path / "d")
    more = dataclasses.replace(from_weights.train, num_steps=2)
    moved = dataclasses.replace(from_weights, train=more, workdir=tmp_path / "d", init_from=tmp_path / "moved away")
    train_fomm.train(moved)
    assert set(losses(moved.workdir)) == {1, 2}


def test_a_mistake_found_at_the_first_step_leaves_the_folder_free(uninterrupted, tmp_path):
    small = dataclasses.replace(uninterrupted.data, size=8)
    config = dataclasses.replace(uninterrupted, workdir=tmp_path / "e", data=small)
    with pytest.raises(InputError, match="at least 7x7"):
        train_fomm.train(config)
    one = dataclasses.replace(uninterrupted.train, num_steps=1)
    assert train_fomm.train(dataclasses.replace(uninterrupted, workdir=config.workdir, train=one)) == 0


def test_frames_too_small_for_the_discriminator_are_named():
    config = with_gan(tiny())
    discriminator = FirstOrderMotionModel(config.fomm, rngs=nnx.Rngs(0)).discriminator
    keypoints = Keypoints(np.zeros((1, 3, 2), np.float32), np.zeros((1, 3, 2, 2), np.float32))
    with pytest.raises(InputError, match="frames of 8x8 pixels, too few for its 2 blocks"):
        discriminator(jax.numpy.zeros((1, 8, 8, 1)), keypoints)


def test_a_loss_that_is_not_finite_stops_the_run(uninterrupted, tmp_path):
    model = load_fomm(uninterrupted.workdir)
    model.generator.final.bias[...] = jax.numpy.full(1, np.nan)
    save_fomm(tmp_path / "broken", model)
    config = dataclasses.replace(uninterrupted, workdir=tmp_path / "nan", init_from=tmp_path / "broken")
    with pytest.raises(TrainingError, match=r"step \d+: .*(pyramid|loss|grad_norm).* training stopped"):
        train_fomm.train(config)


def test_real_kth_videos(tmp_path):
    config = tiny(
        dataset="kth",
        data=dataclasses.replace(
            CONFIGS["kth"].data,
            size=32,
            data_dir=golden.FOLDER.parent / "kth_like",
            cache_dir=tmp_path / "cache",
            kth=KthConfig(num_frames=8),
        ),
        train=TrainConfig(num_steps=2, batch_size=4, log_every=1),
        workdir=tmp_path / "run",
    )
    assert train_fomm.train(config) == 0
    assert set(losses(config.workdir)) == {1, 2}


TINY = [
    *("--size=32", "--synthetic.num-train=8", "--synthetic.num-test=4", "--synthetic.length=4"),
    *("--batch-size=4", "--log-every=1", "--panel-every=0", "--checkpoint-every=10", "--fomm.num-keypoints=3"),
    *(f"--fomm.{part}.width=4" for part in ("detector", "dense-motion", "generator", "discriminator")),
    *(f"--fomm.{part}.num-blocks=2" for part in ("detector", "dense-motion")),
    *(f"--fomm.{part}.max-width=8" for part in ("detector", "dense-motion")),
    *(f"--fomm.{part}.max-width=32" for part in ("generator", "discriminator")),
    *("--fomm.generator.num-down-blocks=2", "--fomm.generator.num-bottleneck-blocks=1", "--loss.scales", "1", "0.5"),
    *("--loss.feature-matching", "10", "10", "10", "10"),
    *("--fomm.generator.no-full-resolution-skip", "--fomm.dense-motion.heatmap-variance=0.01"),
    *(f"--optimizer.{part}.learning-rate=0.005" for part in ("generator", "detector", "discriminator")),
    *(f"--optimizer.{part}.cosine-steps=0" for part in ("generator", "detector", "discriminator")),
]
"""The options that make `tiny()` of the preset, so that commands run the step that the other tests have compiled."""


def command(dataset, *arguments):
    return [sys.executable, "-m", "experiments.train_fomm", f"--dataset={dataset}", *arguments]


def test_ctrl_c_saves_and_the_same_command_goes_on(tmp_path):
    arguments = [*TINY, "--num-steps=100000", f"--workdir={tmp_path / 'run'}"]
    process = subprocess.Popen(command("synthetic", *arguments), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    log, deadline = tmp_path / "run" / "metrics.jsonl", time.time() + 240
    while not (log.exists() and len(log.read_text().splitlines()) > 3):
        assert process.poll() is None and time.time() < deadline, process.stderr.read()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert "run the same command again" in error and "Traceback" not in error
    stopped = max(losses(tmp_path / "run"))
    again = parse(TrainFOMMConfig, ["--dataset=synthetic", *arguments, f"--num-steps={stopped + 2}"], CONFIGS)
    assert again == tiny(workdir=again.workdir, train=dataclasses.replace(tiny().train, num_steps=stopped + 2))
    assert train_fomm.train(again) == 0
    assert sorted(losses(tmp_path / "run")) == list(range(1, stopped + 3))


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["--dataset=mnist"], "--dataset=mnist: unknown; choose from kth, bair"),
        (["--num-step=3"], "--num-step=3; perhaps --num-steps was meant"),
        (["--num-steps=many"], "--num-steps"),
        (["--size=30"], "size is 30; it must be a positive multiple of 4"),
        (["--fomm.num-keypoints=0"], "--fomm.num-keypoints is 0"),
        (["--fomm.num-channels=3"], "--fomm.num-channels is 3; it must be equal to --num-channels, 1"),
        (["--fomm.detector.scale=0.3"], "--fomm.detector.scale is 0.3"),
        (["--optimizer.generator.cosine-steps=-1"], "--optimizer.generator.cosine-steps is -1"),
    ],
)
def test_wrong_options_are_one_line(arguments, message):
    with pytest.raises(InputError) as error:
        parse(TrainFOMMConfig, ["--dataset=synthetic", *arguments], CONFIGS)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_wrong_command_ends_with_one_line_and_leaves_nothing(tmp_path):
    missing, run = tmp_path / "missing", tmp_path / "run"
    arguments = command("kth", f"--data-dir={missing}", f"--workdir={run}")
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and "missing" in done.stderr
    assert not run.exists()


@pytest.mark.parametrize("name", CONFIGS)
def test_every_released_configuration_builds(name):
    config = CONFIGS[name]
    networks = nnx.eval_shape(
        lambda: TrainingNetworks(FirstOrderMotionModel(config.fomm, rngs=nnx.Rngs(0)), config.loss)
    )
    params = nnx.to_pure_dict(nnx.state(networks, nnx.Param))
    jax.eval_shape(config.optimizer.build().init, params)
    assert parse(TrainFOMMConfig, [f"--dataset={name}"], CONFIGS) == config
