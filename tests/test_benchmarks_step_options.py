"""The benchmarks of the options of a training step and of its first run: their tables, and wrong options."""

import pytest

from benchmarks import first_step, step_options
from benchmarks.workers import Report
from experiments.commands import parse
from vidcomp_jax.errors import InputError


def test_options_are_compared_with_the_first(monkeypatch, capsys):
    asked = []

    def measure(cases, rounds):
        asked.extend(cases)
        seconds = [[2.0, 4.0, 3.0], [3.0, 5.0, 6.0]]
        return seconds, [Report("CPU", False, 2**31, size) for size in (2**30, 2**29)]

    monkeypatch.setattr(step_options, "measure", measure)
    step_options.main(parse(step_options.Options, ["--configs=tiny-gray", "--options", "plain", "remat"]))
    rows = capsys.readouterr().out.splitlines()[2:]
    assert rows == [
        "| tiny-gray | `plain` | 1.00 | 1.00 to 1.00 | 1.00 |",
        "| tiny-gray | `remat` | 1.67 | 1.25 to 2.00 | 0.50 |",
    ]
    assert [case.remat for case in asked] == [False, True] and all(case.perceptual for case in asked)


def test_both_rows_of_a_first_step_share_a_cache(monkeypatch, capsys):
    folders = []
    monkeypatch.setattr(
        first_step, "first_steps", lambda case, cache: folders.append(cache) or (9.0 / len(folders), 0.5)
    )
    first_step.main(first_step.Options(configs=("tiny-gray",), perceptual=(False,)))
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| tiny-gray | off | empty | 9.0 | 0.50 |",
        "| tiny-gray | off | filled | 4.5 | 0.50 |",
    ]
    assert folders[0] == folders[1]


@pytest.mark.parametrize(
    ("module", "options", "says"),
    [
        (step_options, {"configs": ("none",)}, "--configs: no configuration none; there are "),
        (step_options, {"batch": 3}, "--batch is 3 and --rounds 3; an even batch"),
        (step_options, {"options": ("plain", "fast")}, "--options: fast is unknown; choose from plain, remat, "),
        (first_step, {"configs": ("none",)}, "--configs: no configuration none"),
    ],
)
def test_wrong_options_are_named(module, options, says):
    with pytest.raises(InputError, match=says):
        module.main(module.Options(**options))
