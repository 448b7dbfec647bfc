"""Files and folders that appear whole or not at all, and checks that outputs can be written before the work begins.

What is written goes to a temporary name beside its place and is renamed when it is complete. A file or folder that
exists is replaced only on request, and a folder only if it is of the kind that is written.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from vidcomp_jax.errors import InputError


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what the block writes there becomes `path`, replacing a file there.

    After an error in the block the temporary file is removed and `path` is as it was.

    Raises:
        InputError: as `check_new_file`.
    """
    check_new_file(path)
    temporary = _temporary(path)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, which becomes `path` when the block ends without an error.

    After an error the temporary folder is removed and `path` is as it was.

    Args:
        path: the folder; those above it are made if they are missing.
        replace: a folder at `path` is replaced when the new one is complete. Otherwise only an empty one is.

    Raises:
        FileExistsError: a folder with something in it is at `path` in the end, and `replace` is not set.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new, old = _temporary(path), _temporary(path)
    new.mkdir()
    try:
        yield new
        if replace and path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except BaseException as error:
            if old.exists():
                old.rename(path)
            if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def check_new_file(path: Path) -> None:
    """Raise an `InputError` unless the file `path` can be written: its folder can be, and `path` is no folder."""
    if problem := _problem_of_folder(path):
        raise InputError(f"{path}: {problem}")
    if path.is_dir():
        raise InputError(f"{path}: a folder, where a file is to be written")


def check_output(path: Path, *, overwrite: bool, field: str = "output") -> None:
    """Raise an `InputError` unless the setting `field`, a path, can be written: it is new, or may be replaced."""
    if problem := _problem_of_folder(path):
        raise InputError(f"`{field}` is {path}: {problem}")
    if path.exists() and not overwrite:
        raise InputError(f"`{field}` is {path}: exists; give another name, or `overwrite` to replace it")


def check_output_file(path: Path, *, overwrite: bool, field: str = "output") -> None:
    """`check_output` for a file."""
    if path.is_dir():
        raise InputError(f"`{field}` is {path}: a folder, where a file is to be written")
    check_output(path, overwrite=overwrite, field=field)


def check_output_folder(path: Path, *, overwrite: bool, holds: str, field: str = "output") -> None:
    """`check_output` for a folder; only a folder that holds an entry like `holds`, a pattern, is replaced."""
    check_output(path, overwrite=overwrite, field=field)
    if path.exists() and (not path.is_dir() or path.is_symlink()):
        raise InputError(f"`{field}` is {path}: not a folder; it is not replaced by one")
    if path.exists() and any(path.iterdir()) and not any(path.glob(holds)):
        raise InputError(f"`{field}` is {path}: holds other things than are written there; it is not replaced")


def _problem_of_folder(path: Path) -> str:
    folder = path.absolute().parent
    if not folder.is_dir():
        return f"the folder {folder} does not exist"
    return "" if os.access(folder, os.W_OK) else f"the folder {folder} cannot be written to"


def _temporary(path: Path) -> Path:
    """A hidden name beside `path` that nobody else writes to."""
    path = path.absolute()
    return path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
