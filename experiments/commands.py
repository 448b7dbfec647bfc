"""Runs a command: parses its arguments, and turns wrong input into a one-line message and an exit code."""

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import tyro

from experiments.options import name_options
from experiments.signals import Signals, Terminated
from experiments.tuning import tune_process
from vidcomp_jax.data import DataConfig
from vidcomp_jax.errors import InputError, LostProcessError, check_numbers, one_line
from vidcomp_jax.storage.untrusted import check_name

Config = TypeVar("Config")


def run(
    main: Callable[[Config], int | None],
    config_type: type[Config],
    presets: Mapping[str, Config] | None = None,
    preset_option: str = "--dataset",
    preset_file: Callable[[Path], Config] | None = None,
) -> None:
    """Parse the command line into `config_type`, call `main` with it, and exit.

    An `InputError` (with field names replaced by options), an `OSError` (a full disk, a folder without permission) or
    too little memory prints one line to standard error and ends with exit code 2; Ctrl-C ends with 130, and SIGTERM
    with 143. Otherwise the exit code is what `main` returns. Any other exception is a bug, and its traceback is shown.

    Args:
        main: the command itself.
        config_type: a frozen dataclass; every field, including nested ones, becomes an option.
        presets: default configurations by name.
        preset_option: the option that chooses one of them.
        preset_file: reads a default configuration from the file that `--config` names, in place of a preset.
    """
    tune_process()
    _keep_compiled_programs()
    arguments = sys.argv[1:]
    for stream in (sys.stdout, sys.stderr):  # a name that cannot be printed is no reason to fail
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    signals = Signals()
    try:
        with signals:
            code = main(parse(config_type, arguments, presets, preset_option, preset_file))
    except LostProcessError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(2)  # otherwise JAX waits for the lost process, and aborts
    except InputError as error:
        _fail(name_options(str(error), config_type, arguments))
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else one_line(error))
    except MemoryError as error:
        _fail(f"not enough memory ({one_line(error)}); lower the sizes, or the numbers of frames or clips at a time")
    except (KeyboardInterrupt, Terminated):
        print("interrupted" if signals.exit_code == 130 else "terminated", file=sys.stderr)
        sys.exit(signals.exit_code)
    sys.exit(code)


def parse(
    config_type: type[Config],
    arguments: list[str],
    presets: Mapping[str, Config] | None = None,
    preset_option: str = "--dataset",
    preset_file: Callable[[Path], Config] | None = None,
) -> Config:
    """The config that `arguments` describe; wrong arguments raise an `InputError`, not tyro's `SystemExit`."""
    for argument in arguments:
        check_name(argument)
    default: Any = None
    if presets is not None:
        name = _value_of(arguments, preset_option)
        if name is not None and name not in presets:
            raise InputError(f"{preset_option}={name}: unknown; choose from {', '.join(filter(None, presets))}")
        file = _value_of(arguments, "--config") if preset_file is not None else None
        if preset_file is None or file is None:
            default = presets[name if name is not None else next(iter(presets))]
        elif name is not None:
            raise InputError(f"--config={file} and {preset_option}={name}: give one of them; each is a configuration")
        else:
            default = preset_file(Path(file))
    message = io.StringIO()
    try:
        with contextlib.redirect_stderr(message):
            config = tyro.cli(config_type, args=arguments, default=default)
        check_numbers(config)
        return config
    except InputError as error:  # from a config whose options have no prefix
        raise InputError(name_options(str(error), config_type, arguments)) from None
    except SystemExit as end:
        if not end.code:
            raise
        raise InputError(_with_options(_one_line(message.getvalue()), config_type, arguments)) from None


def _value_of(arguments: list[str], option: str) -> str | None:
    """The last value given to an option, as `--option=value` or `--option value`; None if there is none."""
    value = None
    for i, argument in enumerate(arguments):
        if argument.startswith(f"{option}="):
            value = argument.removeprefix(f"{option}=")
        elif argument == option and i + 1 < len(arguments):
            value = arguments[i + 1]
    return value


def _one_line(box: str) -> str:
    """Tyro's boxed message as one line, with the option that was probably meant."""
    lines = [line.strip("│╭╰╮╯ ") for line in box.splitlines()]
    end = next((i for i, line in enumerate(lines[1:], 1) if line.startswith("──")), len(lines))
    message = " ".join(lines[1:end]) or "wrong arguments"
    meant = [line.split()[0] for line in lines[end:] if line.startswith("--")]
    return f"{message}; perhaps {meant[0]} was meant" if "nrecognized" in message and meant else message


def _with_options(message: str, config_type: type, arguments: list[str]) -> str:
    """The message of a config that rejected its values, with field names replaced by options.

    Tyro says which of the nested configs it was, provided that its options have a prefix.
    """
    found = re.fullmatch(r"Error parsing ([\w.-]+): (.*)", message)
    where, reason = found.groups() if found else ("", message)
    where = where.replace("-", "_")
    named = name_options(reason, config_type, arguments, "" if where == config_type.__name__ else where)
    return message if named == reason else named


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _keep_compiled_programs() -> None:
    """Cache compiled programs on disk, so that later runs start faster, unless the user has configured JAX's cache."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" in os.environ or "JAX_ENABLE_COMPILATION_CACHE" in os.environ:
        return
    try:
        folder = DataConfig().cache_folder / "jax"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return  # without a writable home directory, every run compiles again
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
