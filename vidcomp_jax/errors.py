"""Defines the exceptions for users' mistakes, and the checks of settings that raise them."""

import operator
from collections.abc import Collection


class InputError(ValueError):
    """A file, setting, array or checkpoint supplied by the user cannot be used.

    The message is one line that names the file or setting, what was found, and what was expected. A setting
    appears in backticks under its Python name, "`num_frames` is 1; it must be at least 2", with a dot if it is nested,
    "`kth.num_frames`"; commands replace these names with their options. Commands print the message and exit with a
    nonzero status; any other exception is a bug and keeps its traceback.
    """


def one_line(error: BaseException | str) -> str:
    """The message of an error of another library, on one line of at most 160 characters; its type if it has none."""
    return " ".join(str(error).split())[:160] or type(error).__name__


class TrainingError(InputError):
    """Training cannot go on, for example because a loss is not finite."""


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
