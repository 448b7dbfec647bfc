"""Any option with any value: a configuration or one line."""

from random import Random

import pytest

from tests.robustness.options import arguments, problem_of


@pytest.mark.parametrize("seed", range(8))
def test_any_value_of_any_option_gives_one_line(seed):
    module, given = arguments(Random(seed))
    assert not problem_of(module, given), given


@pytest.mark.parametrize(
    "given",
    [
        "--seed=18446744073709551616",
        "--optimizer.generator.learning-rate=nan",
        "--loss.equivariance-position=inf",
        "--fomm.detector.temperature=nan",
        "--fomm.detector.width=99999999",
        "--fomm.generator.num-down-blocks=9999",
        "--batch-size=99999999999",
        "--size=400000000",
        "--workdir=\udcff",
    ],
)
def test_values_that_no_run_can_have_are_refused_at_once(given):
    from experiments.commands import parse
    from experiments.configs import CONFIGS, TrainFOMMConfig
    from vidcomp_jax.errors import InputError

    with pytest.raises(InputError) as error:
        parse(TrainFOMMConfig, ["--dataset=synthetic", given], CONFIGS)
    assert str(error.value).startswith(given.partition("=")[0])
