"""Outputs of commands: checked before the work begins, written aside, and put in place whole.

A file or folder that exists is replaced only on request, and a folder only if it is of the kind that is written.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from vidcomp_jax.errors import InputError


def check_output(path: Path, *, overwrite: bool, option: str = "--output") -> None:
    """Raise an `InputError` unless `path` may be written: its folder exists, and it does not, or may be replaced."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InputError(f"{option}={path}: the folder {folder} does not exist")
    if not os.access(folder, os.W_OK):
        raise InputError(f"{option}={path}: the folder {folder} cannot be written to")
    if path.exists() and not overwrite:
        raise InputError(f"{option}={path}: exists; give another name, or --overwrite to replace it")


def check_output_file(path: Path, *, overwrite: bool, option: str = "--output") -> None:
    """`check_output` for a file."""
    if path.is_dir():
        raise InputError(f"{option}={path}: a folder, where a file is to be written")
    check_output(path, overwrite=overwrite, option=option)


def check_output_folder(path: Path, *, overwrite: bool, holds: str, option: str = "--output") -> None:
    """`check_output` for a folder; only a folder that holds an entry like `holds`, a pattern, is replaced."""
    check_output(path, overwrite=overwrite, option=option)
    if path.exists() and (not path.is_dir() or path.is_symlink()):
        raise InputError(f"{option}={path}: not a folder; it is not replaced by one")
    if path.exists() and any(path.iterdir()) and not any(path.glob(holds)):
        raise InputError(f"{option}={path}: holds other things than this command writes; it is not replaced")


def temporary_name(path: Path) -> Path:
    """A hidden name beside `path` that nobody else writes to."""
    path = path.absolute()
    return path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")


@contextlib.contextmanager
def folder_put_in_place(path: Path) -> Iterator[Path]:
    """Gives the name of a folder to write beside `path`, which becomes `path` when the block ends without an error.

    A folder that stood there is removed after that, and stays as it was if anything fails before.
    """
    path = path.absolute()
    new, old = temporary_name(path), temporary_name(path)
    try:
        yield new
        if path.exists():
            path.rename(old)
            try:
                new.rename(path)
            except BaseException:
                old.rename(path)
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            new.rename(path)
    finally:
        shutil.rmtree(new, ignore_errors=True)
