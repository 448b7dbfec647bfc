"""The exceptions raised for a user's mistake, which a command prints as one line."""


class InputError(ValueError):
    """A file, option, array or checkpoint from outside is not what the work needs.

    The message is one line that names the file or option, what was found, and what would be right.
    Commands print it and exit non-zero; every other exception is a bug and keeps its traceback.
    """


class TrainingError(InputError):
    """Training cannot go on, for example because a loss is not finite."""
