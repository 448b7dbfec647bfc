"""The exceptions raised for a user's mistake, and the checks of settings that raise them."""

import operator
from collections.abc import Collection


class InputError(ValueError):
    """A file, setting, array or checkpoint from outside cannot be used.

    The message is one line that names the file or setting, what was found, and what would be right. A setting stands
    in backticks under the name that it has in Python, "`num_frames` is 1; it must be at least 2", and nested ones
    with a dot, "`kth.num_frames`"; commands put their options in place of these names. Commands print the message and
    exit non-zero; every other exception is a bug and keeps its traceback.
    """


class TrainingError(InputError):
    """Training cannot go on, for example because a loss is not finite."""


def require(holds: object, config: object, field: str, requirement: str) -> None:
    """Raise an error about one field of a configuration unless a condition holds.

    In a nested configuration the message gives the name within its own part; a command, or the reader of a file,
    puts the path of the part before it.

    Args:
        holds: the condition, by its truth value.
        config: holds the field.
        field: name of the field, with dots for a field of a part: `fomm.num_channels`.
        requirement: what goes after "it must be".

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
    """Raise an `InputError` for the first of the fields that is not above 0."""
    for field in fields:
        require(getattr(config, field) > 0, config, field, "above 0")


def require_one_of(config: object, **choices: Collection) -> None:
    """Raise an `InputError` for the first field whose value is not among its choices."""
    for field, allowed in choices.items():
        *others, last = map(str, allowed)
        listed = f"{', '.join(others)} or {last}" if others else last
        require(getattr(config, field) in allowed, config, field, listed)
