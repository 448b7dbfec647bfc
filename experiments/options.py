"""Maps between the fields of a config and the options of a command, and defines options that differ from the fields."""

import dataclasses
import re
import typing
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import tyro

from vidcomp_jax.data import BairConfig, DataConfig
from vidcomp_jax.devices import initialize_distributed
from vidcomp_jax.errors import require
from vidcomp_jax.storage.config import MAY_CHANGE
from vidcomp_jax.training.config import TrainConfig

_FIELD = re.compile(r"`([a-z_]\w*(?:\.[a-z_]\w*)*)`")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions(DataConfig):
    """Which clips to read, and what their frames look like."""

    bair: Annotated[BairConfig, tyro.conf.arg(name="")] = BairConfig()
    """Settings of BAIR, used with --name=bair."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainOptions(TrainConfig):
    """How long to train, and what to report; durations are in steps, not epochs.

    0 means None, on the command line and in the configurations of earlier runs.
    """

    panel_every: int | None = dataclasses.field(default=1000, metadata=MAY_CHANGE)
    """Steps between image panels; 0 means only at the end."""
    evaluate_every: int | None = dataclasses.field(default=1000, metadata=MAY_CHANGE)
    """Steps between evaluations, each followed by a checkpoint; 0 means only at the end."""
    checkpoint_every: int | None = dataclasses.field(default=1000, metadata=MAY_CHANGE)
    """Steps between checkpoints; 0 means only at the end, or when the run is interrupted."""

    def __post_init__(self):
        for field in ("panel_every", "evaluate_every", "checkpoint_every"):
            if getattr(self, field) == 0:
                object.__setattr__(self, field, None)
        super().__post_init__()


def frame_numbers(config: Any, field: str) -> tuple[int, ...]:
    """The frame numbers in a field of a config, such as 0,7,15; none for an empty one."""
    text = getattr(config, field)
    parts = [part.strip() for part in text.split(",")] if text else []
    numbers = all(part.isdecimal() and len(part) < 10 for part in parts)
    require(numbers, config, field, "frame numbers separated by commas, such as 0,7,15")
    return tuple(map(int, parts))


def join_hosts(coordinator: str, num_processes: int, process_id: int) -> None:
    """Join the other processes of a run; "", 0 and -1 mean that an option is not given."""
    initialize_distributed(coordinator or None, num_processes or None, None if process_id == -1 else process_id)


def options_of(config_type: type) -> dict[str, str]:
    """Options by the dotted names of their fields, such as `data.kth.num_frames`: `--kth.num-frames`."""
    return {field: f"--{option}".replace("_", "-") for field, option in _walk(config_type, "", "")}


def name_options(message: str, config_type: type, arguments: Sequence[str] = (), within: str = "") -> str:
    """`message` with the field names that it has in backticks replaced by options.

    A name need not be the full dotted path. If several fields match, the one in the config `within` is meant,
    otherwise the one whose option has no prefix, otherwise the one that `arguments` set. A name without an option
    is kept, without the backticks.
    """
    options = options_of(config_type)

    def option(match: re.Match[str]) -> str:
        name = match[1]
        found = {field: option for field, option in options.items() if f".{field}".endswith(f".{name}")}
        bare = f"--{name}".replace("_", "-")
        for field, option in found.items():
            if field == f"{within}.{name}".lstrip("."):
                return option
        if bare in found.values() or not found:
            return bare if found else name
        given = [option for option in found.values() if any(a.partition("=")[0] == option for a in arguments)]
        chosen = given if len(found) > 1 else list(found.values())
        return chosen[0] if len(chosen) == 1 else name

    return _FIELD.sub(option, message)


def _walk(config_type: Any, field_prefix: str, option_prefix: str) -> Iterator[tuple[str, str]]:
    hints = typing.get_type_hints(config_type, include_extras=True)
    for field in dataclasses.fields(config_type):
        kind, marks = _unwrapped(hints[field.name])
        if tyro.conf.Suppress in marks or tyro.conf.Positional in marks:
            continue
        # `tyro.conf.arg(name="")` omits the name of a nested config from its options.
        hidden = any(getattr(mark, "name", None) == "" for mark in marks)
        option = option_prefix if hidden else f"{option_prefix}{field.name}"
        if dataclasses.is_dataclass(kind):
            yield from _walk(kind, f"{field_prefix}{field.name}.", option if hidden else f"{option}.")
        else:
            yield f"{field_prefix}{field.name}", option


def _unwrapped(hint: Any) -> tuple[Any, tuple]:
    if typing.get_origin(hint) is typing.Annotated:
        return hint.__origin__, hint.__metadata__
    return hint, ()
