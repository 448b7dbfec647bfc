"""The step and the loop, on a toy module with batch statistics and constants."""

import dataclasses
import logging
import pathlib
import signal
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tests.support.toy_training import Toy, batch_of, batches, config, lines_of, objective, run, weights_of
from vidcomp_jax.devices import AXIS, initialize_distributed, mean_over_devices, replicate, shard
from vidcomp_jax.errors import InputError, TrainingError
from vidcomp_jax.storage import checkpoint
from vidcomp_jax.storage.config import load_config
from vidcomp_jax.training import interrupt
from vidcomp_jax.training.config import TrainConfig
from vidcomp_jax.training.step import gradient_step, init_state, map_over_devices


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run of six steps on two devices."""
    workdir = tmp_path_factory.mktemp("whole")
    return run(workdir), workdir


def test_two_devices_equal_one(tmp_path):
    results = [
        run(tmp_path / str(n), tx=optax.sgd(0.1), devices=jax.devices()[:n], config=config(num_steps=4)) for n in (1, 2)
    ]
    one, two = (weights_of(result.model) for result in results)
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_allclose(one[name], two[name], atol=1e-6, err_msg=name)
    for a, b in zip(lines_of(tmp_path / "1"), lines_of(tmp_path / "2"), strict=True):
        assert a == pytest.approx(b, abs=1e-6)


def test_random_draws_belong_to_examples():
    """The draws of example j in step i do not depend on the number of devices."""

    def draws(graphdef, state, constants, batch, keys):
        drawn = jax.vmap(jax.random.uniform)(keys)
        return state, {"first": drawn[0], "all": drawn.sum() * jax.lax.axis_size(AXIS)}

    seen = []
    for count in (1, 2):
        devices = jax.devices()[:count]
        graphdef, constants, state = init_state(Toy(), optax.sgd(0.1), devices)
        step = map_over_devices(graphdef, draws, devices)
        key = replicate(jax.random.key(3), devices)
        for i in range(2):
            state, metrics = step(state, constants, shard(batch_of(i), 8, devices), key)
            seen.append(float(metrics["all"]))
    expected = [
        sum(
            float(jax.random.uniform(jax.random.fold_in(jax.random.fold_in(jax.random.key(3), i), j))) for j in range(8)
        )
        for i in range(2)
    ]
    assert seen == pytest.approx(expected * 2, rel=1e-6)


def test_arrays_that_a_model_shares_are_trained_apart():
    class Shared(nnx.Module):
        def __init__(self):
            value = jnp.ones(3)
            self.weight, self.statistic, self.other = nnx.Param(value), nnx.BatchStat(value), nnx.BatchStat(value)

    def objective(model, batch, keys):
        return (jnp.square(model.weight[...] - batch)).mean(), {}

    tx = optax.sgd(0.1)
    graphdef, constants, state = init_state(Shared(), tx, jax.devices()[:2])
    step = map_over_devices(graphdef, gradient_step(tx, objective), jax.devices()[:2])
    for _ in range(2):
        state, _ = step(state, constants, np.zeros((2, 1, 3), np.float32), jax.random.key(0))
    np.testing.assert_allclose(state.params["weight"], (1 - 0.2 / 3) ** 2, rtol=1e-5)
    np.testing.assert_array_equal(state.batch_stats["statistic"], 1)


def test_one_compilation(tmp_path, caplog):
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        run(tmp_path, config=config(checkpoint_every=2))
    # The training step is the only compiled function that takes a batch.
    compiled = [r for r in caplog.messages if r.startswith("Compiling") and "float32[2,4,3]" in r]
    assert len(compiled) == 1


def test_constants_stay_and_model_trains(whole):
    result, workdir = whole
    assert result.step == 6 and not result.interrupted and result.exit_code == 0
    before, after = weights_of(Toy()), weights_of(result.model)
    np.testing.assert_array_equal(after["['scale']"], before["['scale']"])
    assert (after["['layers'][0]['kernel']"] != before["['layers'][0]['kernel']"]).all()
    assert lines_of(workdir)[-1] == {"step": 6, **result.metrics}


def test_resumed_run_equals_uninterrupted_bit_for_bit(whole, tmp_path):
    run(tmp_path, config=config(num_steps=3))
    assert len(lines_of(tmp_path)) == 3
    resumed = run(tmp_path, model=Toy(seed=5))  # the initial weights no longer matter
    assert lines_of(tmp_path) == lines_of(whole[1])
    expected = weights_of(whole[0].model)
    for name, value in weights_of(resumed.model).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    again = run(tmp_path)
    assert again.step == 6 and again.metrics == {}


def test_sigterm_saves_and_the_run_goes_on(whole, tmp_path):
    process = subprocess.run(
        [sys.executable, "-m", "tests.support.toy_training", str(tmp_path)],
        cwd=pathlib.Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert process.returncode == 143, process.stderr
    stopped = lines_of(tmp_path)[-1]["step"]
    assert 1 <= stopped < 6
    assert f"stopped by SIGTERM after step {stopped}" in process.stderr
    assert "run the same command again" in process.stderr
    run(tmp_path)
    assert lines_of(tmp_path) == lines_of(whole[1])


def test_second_ctrl_c_aborts():
    before = signal.getsignal(signal.SIGINT)
    with interrupt.StopSignal() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


def test_not_finite_stops_and_keeps_last_checkpoint(tmp_path):
    def poisoned(share):
        for i, batch in enumerate(batches(share), share.start_step):
            yield batch._replace(targets=batch.targets * (np.nan if i == 3 else 1))

    with pytest.raises(TrainingError, match=r"^step 4: (?=.*loss is nan)(?=.*error is nan)(?=.*grad_norm is nan)"):
        run(tmp_path, batches=poisoned, config=config(checkpoint_every=1, log_every=10))
    assert checkpoint.latest_step(tmp_path / "checkpoints") == 3
    assert all(
        np.isfinite(value).all() for value in weights_of(run(tmp_path, config=config(log_every=10)).model).values()
    )


def test_state_that_is_not_finite_is_never_saved(tmp_path):
    """A custom step may report finite metrics for a broken state."""

    def step(graphdef, state, constants, batch, keys):
        stats = jax.tree.map(lambda x: x / jnp.where(state.step < 2, 1, 0), state.batch_stats)
        return state._replace(batch_stats=stats), {"loss": jnp.ones(())}

    with pytest.raises(TrainingError, match=r"step 3: norm\.\w+ is not finite"):
        run(tmp_path, objective=None, step=step, config=config(checkpoint_every=1))
    assert checkpoint.latest_step(tmp_path / "checkpoints") == 2


def test_one_run_at_a_time(tmp_path):
    def evaluate(model):
        with pytest.raises(InputError, match="another run is using this folder"):
            run(tmp_path)
        return {"tried": 1.0}

    run(tmp_path, config=config(num_steps=1), evaluate=evaluate)
    assert lines_of(tmp_path)[-1] == {"step": 1, "evaluation/tried": 1.0}


def test_own_step_with_two_optimizers(tmp_path):
    """A custom step: two updates per batch, each of half of the parameters."""
    optimizers = {"0": optax.sgd(0.1), "1": optax.adam(0.01)}
    tx = optax.GradientTransformation(
        lambda params: {name: o.init(params["layers"][int(name)]) for name, o in optimizers.items()}, None
    )

    def step(graphdef, state, constants, batch, keys):
        params, opt_state = state.params, dict(state.opt_state)
        for name, optimizer in optimizers.items():

            def loss_fn(part, params=params, name=name):
                layers = {**params["layers"], int(name): part}
                model = nnx.merge(graphdef, {**params, "layers": layers}, state.batch_stats, constants)
                loss, _ = objective(model, batch, keys)
                return loss

            loss, grads = jax.value_and_grad(loss_fn)(params["layers"][int(name)])
            updates, opt_state[name] = optimizer.update(mean_over_devices(grads), opt_state[name])
            part = optax.apply_updates(params["layers"][int(name)], updates)
            params = {**params, "layers": {**params["layers"], int(name): part}}
        return state._replace(params=params, opt_state=opt_state), {"loss": loss}

    result = run(tmp_path, tx=tx, objective=None, step=step, config=config(num_steps=2))
    before, after = weights_of(Toy()), weights_of(result.model)
    assert (after["['layers'][1]['kernel']"] != before["['layers'][1]['kernel']"]).all()
    resumed = run(tmp_path, tx=tx, objective=None, step=step, config=config(num_steps=3))
    assert resumed.step == 3


def test_evaluation_panels_and_best(tmp_path):
    seen = []

    def evaluate(model):
        assert model.norm.use_running_average
        seen.append(np.array(model.layers[0].kernel[...]))
        return {"score": [0.5, 0.1, 0.9][len(seen) - 1], "other": 1.0}

    panel = np.full((4, 6, 1), 128, np.uint8)
    run(
        tmp_path,
        evaluate=evaluate,
        panels=lambda model: {"gray": panel},
        best="score",
        config=config(evaluate_every=2, panel_every=4, keep_last=1, log_every=6),
    )
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["4", "6"]
    assert sorted(path.name for path in (tmp_path / "panels").iterdir()) == ["gray-00000004.png", "gray-00000006.png"]
    assert [line["evaluation/score"] for line in lines_of(tmp_path) if "evaluation/score" in line] == [0.5, 0.1, 0.9]
    model = Toy(seed=9)
    checkpoint.load_weights(model, tmp_path, which="best")
    np.testing.assert_array_equal(model.layers[0].kernel[...], seen[1])


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    width: int = 3
    train: TrainConfig = dataclasses.field(default_factory=config)


def test_other_settings_in_the_same_folder(tmp_path):
    run(tmp_path, config=config(num_steps=1), run_config=RunConfig(train=config(num_steps=1)))
    changed = config(num_steps=2, log_every=2, seed=4)
    with pytest.raises(InputError, match=r"width is 3 there, 5 now; train.seed is 0 there, 4 now") as caught:
        run(tmp_path, config=changed, run_config=RunConfig(width=5, train=changed))
    assert "num_steps" not in str(caught.value) and "log_every" not in str(caught.value)
    longer = config(num_steps=2)
    assert run(tmp_path, config=longer, run_config=RunConfig(train=longer)).step == 2
    assert load_config(tmp_path / "config.json", RunConfig).train.num_steps == 2
    with pytest.raises(InputError, match=r"`num_steps` is 1; .* holds a run of 2 steps"):
        run(tmp_path, config=config(num_steps=1), run_config=RunConfig(train=config(num_steps=1)))


def test_bad_input(tmp_path):
    with pytest.raises(InputError, match="`batch_size` is 7; it must be a multiple of the number of devices, 2"):
        run(tmp_path / "a", config=config(batch_size=7))
    with pytest.raises(InputError, match="`log_every` is 0; it must be at least 1"):
        config(log_every=0)
    with pytest.raises(InputError, match="the data ended before step 3"):
        run(tmp_path / "b", batches=lambda *_: iter([batch_of(0), batch_of(1)]))
    with pytest.raises(InputError, match="is a file; a work folder was expected"):
        (tmp_path / "c").write_text("")
        run(tmp_path / "c")
    with pytest.raises(InputError, match="give the number of processes"):
        initialize_distributed("localhost:1234")
    with pytest.raises(ValueError, match=r"a batch of \[4\] examples; this process's share is 8"):
        run(tmp_path / "d", batches=lambda *_: iter([batch_of(0, 4)]))


def test_errors_of_the_data_are_raised(tmp_path):
    def broken(*_):
        yield batch_of(0)
        raise InputError("clip.avi: cannot be decoded")

    with pytest.raises(InputError, match=r"clip\.avi"):
        run(tmp_path, batches=broken)
    assert threading.active_count() == 1 or not any("prefetch" in t.name for t in threading.enumerate())
