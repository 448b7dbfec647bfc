"""Defines the exceptions for users' mistakes, and the checks of settings that raise them."""

import dataclasses
import math
import operator
from collections.abc import Collection
from typing import Any


class InputError(ValueError):
    """A file, setting, array or checkpoint supplied by the user cannot be used.

    The message is one line that names the file or setting, what was found, and what was expected. A setting
    appears in backticks under its Python name, "`num_frames` is 1; it must be at least 2", with a dot if it is nested,
    "`kth.num_frames`"; commands replace these names with their options. Commands print the message and exit with a
    nonzero status; any other exception is a bug and keeps its traceback. Characters that cannot be printed, which may
    come from a damaged file or an odd name, are replaced by escapes.
    """

    def __init__(self, message: object = ""):
        super().__init__(printable(str(message)))


def one_line(error: BaseException | str) -> str:
    """The message of an error of another library, on one line of at most 160 characters; its type if it has none.

    Characters that cannot be printed, which may come from a damaged file, are written as escapes.
    """
    return printable(" ".join(str(error).split())[:160]) or type(error).__name__


def printable(text: str) -> str:
    """`text` with escapes in place of characters that cannot be printed, such as control characters."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


class TrainingError(InputError):
    """Training cannot go on, for example because a loss is not finite."""


class LostProcessError(TrainingError):
    """Another process of a run on several hosts has ended.

    JAX waits for that process when this one ends in the usual way, and then aborts with a stack trace. A command that
    catches this error therefore ends with `os._exit`.
    """


def require(holds: object, config: object, field: str, requirement: str) -> None:
    """Raise an error about one field of a configuration unless a condition holds.

    A nested configuration names its fields without a path; the command, or the reader of a file, prepends the path.

    Args:
        holds: the condition, by its truth value.
        config: the configuration.
        field: name of the field, with dots for a field of a nested configuration: `fomm.num_channels`.
        requirement: the text after "it must be".

    Raises:
        InputError: "`FIELD` is VALUE; it must be REQUIREMENT".
    """
    if not holds:
        value = operator.attrgetter(field)(config)
        shown = repr(value) if isinstance(value, str) else str(value)
        raise InputError(f"`{field}` is {shown}; it must be {requirement}")


def require_at_least(config: object, **minimum: int | float) -> None:
    """Raise an `InputError` for the first field that is less than its minimum (or NaN)."""
    for field, least in minimum.items():
        require(getattr(config, field) >= least, config, field, f"at least {least}")


def require_positive(config: object, *fields: str) -> None:
    """Raise an `InputError` for the first of the fields that is not positive."""
    for field in fields:
        require(getattr(config, field) > 0, config, field, "above 0")


def require_one_of(config: object, **choices: Collection) -> None:
    """Raise an `InputError` for the first field whose value is not among its choices."""
    for field, allowed in choices.items():
        *others, last = map(str, allowed)
        listed = f"{', '.join(others)} or {last}" if others else last
        require(getattr(config, field) in allowed, config, field, listed)


_LARGEST = {
    **dict.fromkeys(("size", "resize", "crop", "frame_size", "samples"), 4096),
    **dict.fromkeys(("num_frames", "max_frames", "length", "batch_size", "chunk", "pairs_per_record"), 65536),
    **dict.fromkeys(("width", "discriminator_width", "num_keypoints"), 4096),
    **dict.fromkeys(("max_width", "hidden", "encoding", "noise", "noise_size", "feed_forward"), 16384),
    **dict.fromkeys(("num_blocks", "num_down_blocks"), 12),
    **dict.fromkeys(("num_bottleneck_blocks", "num_stages", "num_layers", "points_thin_plate"), 256),
    **dict.fromkeys(("num_heads", "variety_samples", "num_critic_updates", "rounds_per_step", "rows", "workers"), 1024),
    **dict.fromkeys(("sampler_steps", "report_clips", "keypoint_size"), 65536),
    **dict.fromkeys(("num_train", "num_test", "num_repeats"), 10**6),
}
"""The greatest values of sizes and counts, by the names of their fields; far above any use, but below those that take
minutes to find out that memory does not suffice."""


def check_numbers(config: Any) -> None:
    """Raise an `InputError` for a number in a configuration that is not finite, or is larger than its field may be.

    Called where values come in, from the command line or a file, because such numbers pass checks such as "above 0".
    The message has the full dotted name.
    """
    for name, value in _values(config, ""):
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"`{name}` is {value}; it must be a finite number")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise InputError(f"`{name}` is a number of {value.bit_length()} bits; the largest is 2^63 - 1")
        largest = _LARGEST.get(name.rpartition(".")[2])
        if largest is not None and isinstance(value, int | float) and value > largest:
            raise InputError(f"`{name}` is {value}; it must be at most {largest}")


def _values(value: Any, name: str) -> list[tuple[str, Any]]:
    """All values in a configuration, with their dotted names."""
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return [found for inner in names for found in _values(getattr(value, inner), f"{name}.{inner}".lstrip("."))]
    if isinstance(value, tuple):
        return [found for x in value for found in _values(x, name)]
    return [(name, value)]
