"""Writes files and folders that appear whole or not at all, and checks outputs before the work begins.

Output is written under a temporary name in the same folder and renamed when it is complete. Commands replace an
existing file or folder only on request, and a folder only if it holds the same kind of output.
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
    """Yield a temporary path beside `path`; the file that the block writes there becomes `path`, replacing any old one.

    If the block raises an error, the temporary file is removed and `path` is left unchanged.

    Raises:
        InputError: see `check_new_file`.
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

    If the block raises an error, the temporary folder is removed and `path` is left unchanged.

    Args:
        path: folder to write; missing parents are created.
        replace: replace an existing folder once the new one is complete; if False, only an empty one is replaced.

    Raises:
        FileExistsError: `path` is a folder that is not empty, and `replace` is False.
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
    """Raise an `InputError` unless a file can be written at `path`: no folder is there, and its parent is writable."""
    if problem := _problem_of_folder(path):
        raise InputError(f"{path}: {problem}")
    if path.is_dir():
        raise InputError(f"{path}: a folder, where a file is to be written")


def check_output(path: Path, *, overwrite: bool, field: str = "output") -> None:
    """Raise an `InputError` unless `path`, from the setting `field`, can be written: it is new, or may be replaced."""
    if problem := _problem_of_folder(path):
        raise InputError(f"`{field}` is {path}: {problem}")
    if path.exists() and not overwrite:
        raise InputError(f"`{field}` is {path}: exists; give another name, or `overwrite` to replace it")


def check_output_file(path: Path, *, overwrite: bool, field: str = "output") -> None:
    """Like `check_output`, for a file."""
    if path.is_dir():
        raise InputError(f"`{field}` is {path}: a folder, where a file is to be written")
    check_output(path, overwrite=overwrite, field=field)


def check_output_folder(path: Path, *, overwrite: bool, holds: str, field: str = "output") -> None:
    """Like `check_output`, for a folder; if not empty, it is replaced only if an entry matches the pattern `holds`."""
    check_output(path, overwrite=overwrite, field=field)
    if path.exists() and (not path.is_dir() or path.is_symlink()):
        raise InputError(f"`{field}` is {path}: not a folder; it is not replaced by one")
    if path.exists() and any(path.iterdir()) and not any(path.glob(holds)):
        raise InputError(f"`{field}` is {path}: contains something other than an earlier output; it is not replaced")


def _problem_of_folder(path: Path) -> str:
    folder = path.absolute().parent
    if not folder.is_dir():
        return f"the folder {folder} does not exist"
    return "" if os.access(folder, os.W_OK) else f"the folder {folder} cannot be written to"


def _temporary(path: Path) -> Path:
    """A unique hidden path in the folder of `path`."""
    path = path.absolute()
    return path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
