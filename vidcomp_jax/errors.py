"""The exceptions raised for a user's mistake, which a command prints as one line."""


class InputError(ValueError):
    """A file, setting, array or checkpoint from outside cannot be used.

    The message is one line that names the file or setting, what was found, and what would be right. A setting stands
    in backticks under the name that it has in Python, "`num_frames` is 1; a clip needs at least 2", and nested ones
    with a dot, "`kth.num_frames`"; commands put their options in place of these names. Commands print the message and
    exit non-zero; every other exception is a bug and keeps its traceback.
    """


class TrainingError(InputError):
    """Training cannot go on, for example because a loss is not finite."""
