"""Draws options of commands with any values of their types, and checks how they are parsed."""

import dataclasses
import importlib
import traceback
from random import Random

from experiments.commands import parse
from experiments.options import options_of
from vidcomp_jax.errors import InputError

COMMANDS = {
    "experiments.train_fomm": ("TrainFOMMConfig", "CONFIGS", "--dataset"),
    "experiments.train_inbetween": ("TrainInbetweenConfig", "CONFIGS", "--dataset"),
    "experiments.train_flow": ("TrainFlowConfig", "PRESETS", "--preset"),
    "experiments.complete": ("CompleteConfig", "PRESETS", "--dataset"),
    "experiments.evaluate": ("EvaluateConfig", "PRESETS", "--dataset"),
    "experiments.animate": ("AnimateConfig", "ANIMATE_PRESETS", "--dataset"),
    "experiments.check_data": ("CheckDataConfig", "PRESETS", "--dataset"),
    "experiments.extract_motion": ("ExtractMotionConfig", "PRESETS", "--dataset"),
    "converters.export_fomm": ("ExportFOMMConfig", "", ""),
}
"""Modules of commands, with the names of their configuration and presets, and the option that chooses a preset."""
VALUES = (
    *("0", "1", "-1", "2", "3", "64", "99999999", "2147483648", "18446744073709551616", "9" * 30, "9" * 5000, "1e400"),
    *("nan", "inf", "-inf", "0.5", "1e-300", "", " ", "None", "True", "false", "auto", "latest", "train", "kth", "a,b"),
    *(
        "0,1",
        "0,99999999999",
        "x" * 300,
        "\udcff",
        "\x1b[31m",
        "%s",
        "{}",
        "../..",
        "/dev/null",
        "--",
        "'",
        "²",
        "日本",
    ),
)


def arguments(random: Random) -> tuple[str, list[str]]:
    """The module of a command, and up to four random options of it with random values."""
    module = random.choice(sorted(COMMANDS))
    config_type = getattr(importlib.import_module(module), COMMANDS[module][0])
    options = sorted(options_of(config_type).values())
    drawn = [f"{random.choice(options)}={random.choice(VALUES)}" for _ in range(random.randrange(1, 5))]
    return module, drawn


def problem_of(module: str, given: list[str]) -> str:
    """What is wrong with how options are parsed: empty after a success or an `InputError` of one line."""
    name, presets, option = COMMANDS[module]
    command = importlib.import_module(module)
    choices = getattr(command, presets) if presets else None
    required = {"experiments.animate": ["--fomm=x"], "converters.export_fomm": ["x", "--output=x"]}.get(module, [])
    try:
        config = parse(getattr(command, name), [*required, *given], choices, option)
        assert dataclasses.is_dataclass(config)
    except InputError as error:
        return "" if "\n" not in str(error) else f"more than one line: {error}"
    except SystemExit as end:
        return "" if end.code == 0 else f"exit {end.code}"
    except BaseException:
        return traceback.format_exc()
    return ""
