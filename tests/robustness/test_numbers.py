"""Numbers that are not finite in a batch, gradient or statistic: training stops with step and term, or skips them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.support import toy_training
from tests.support.toy_training import config, run, weights_of
from vidcomp_jax.errors import TrainingError
from vidcomp_jax.storage.steps import CHECKPOINTS, steps_in


@jax.custom_vjp
def with_gradient(x, scale):
    return x


with_gradient.defvjp(lambda x, scale: (x, scale), lambda scale, gradient: (gradient * scale, None))


def batches_with(value, numbers):
    """The batches of the toy training, with `value` in those of the steps `numbers`."""

    def batches(share):
        for step, batch in enumerate(toy_training.batches(share), share.start_step + 1):
            inputs = np.array(batch.inputs)
            if step in numbers:
                inputs[0, 0] = value
            yield batch._replace(inputs=inputs)

    return batches


def gradient_objective(model, batch, keys):
    """The usual objective; where the first input is 77, its gradient alone is infinite."""
    loss, metrics = toy_training.objective(model, batch, keys)
    return with_gradient(loss, jnp.where((batch.inputs == 77).any(), jnp.inf, 1.0)), metrics


def statistic_objective(model, batch, keys):
    """The usual objective; where the first input is 77, a running statistic becomes NaN, which no loss shows."""
    loss, metrics = toy_training.objective(model, batch, keys)
    model.norm.mean[...] = jnp.where((batch.inputs == 77).any(), jnp.nan, model.norm.mean[...])
    return loss, metrics


INJECTED = {
    "batch": (np.nan, toy_training.objective, "loss is nan"),
    "gradient": (77, gradient_objective, "grad_norm is (inf|nan)"),
    "statistic": (77, statistic_objective, "norm.mean is not finite"),
}


@pytest.mark.parametrize("kind", INJECTED)
def test_training_stops_with_step_and_term_and_keeps_the_last_good_checkpoint(kind, tmp_path):
    value, objective, term = INJECTED[kind]
    settings = config(num_steps=6, checkpoint_every=2)
    with pytest.raises(TrainingError, match=rf"step [34]: .*{term}.*; training stopped, the checkpoints .* are kept"):
        run(tmp_path, config=settings, objective=objective, batches=batches_with(value, {3}))
    assert steps_in(tmp_path / CHECKPOINTS) == [2]
    assert run(tmp_path, config=settings).step == 6  # without the number, the same command goes on from there


@pytest.mark.parametrize("kind", ["gradient", "statistic"])
def test_steps_are_skipped_on_request_and_counted(kind, tmp_path, caplog):
    value, objective, _ = INJECTED[kind]
    settings = config(num_steps=6, skip_nonfinite=2)
    result = run(tmp_path, config=settings, objective=objective, batches=batches_with(value, {3, 4, 6}))
    said = [record.getMessage() for record in caplog.records if "skipped" in record.getMessage()]
    assert [text.partition(":")[0] for text in said] == ["step 3", "step 4", "step 6"]
    assert said[1].endswith("skipped, 2 in a row, 2 in all") and said[2].endswith("skipped, 1 in a row, 3 in all")
    assert result.step == 6 and all(np.isfinite(x).all() for x in weights_of(result.model).values())


def test_more_steps_in_a_row_than_may_be_skipped_stop_training(tmp_path):
    with pytest.raises(TrainingError, match=r"step 5: .*; training stopped after 2 skipped steps"):
        run(tmp_path, config=config(skip_nonfinite=2), batches=batches_with(np.nan, {3, 4, 5}))


def test_a_skipped_step_changes_nothing(tmp_path):
    tx = optax.sgd(1e-2, momentum=0.9)  # Adam would make rounding errors large where a gradient is zero
    plain = run(tmp_path / "plain", tx, config=config(num_steps=2))
    settings = config(num_steps=3, skip_nonfinite=1)
    skipped = run(tmp_path / "skipped", tx, config=settings, batches=batches_with(np.nan, {3}))
    for a, b in zip(weights_of(plain.model).values(), weights_of(skipped.model).values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)  # another program, by which XLA rounds otherwise
