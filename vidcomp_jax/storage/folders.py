"""The folders that this project writes: each carries a marker of its kind, which says what may be replaced.

The marker is the hidden file `.vidcomp_jax.json`, with the kind of the folder, the version of its format, and the
files that were written. One rule holds for every command: a folder is replaced only if it has the marker of the same
kind and holds nothing else; a training run is never replaced. The old folder stays until the new one is complete.
"""

import contextlib
import ctypes
import errno
import fnmatch
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from vidcomp_jax.errors import InputError
from vidcomp_jax.storage.atomic import (
    check_output,
    final_name_in_errors,
    full_disk_named,
    is_temporary,
    new_file,
    remove_leftovers,
    temporary_beside,
)

MARKER = ".vidcomp_jax.json"
VERSION = 1
"""Version of the folders' format; a folder of a later one is neither read nor written."""

Kind = Literal[
    "demo",
    "run",
    "model",
    "completion",
    "evaluation",
    "reconstruction",
    "animations",
    "frames",
    "videos",
    "cache",
    "data",
    "module",
    "reference",
]
"""What a folder holds."""

_GROWING: dict[str, tuple[str, ...]] = {
    "evaluation": (
        *("clips/*.npz", "clips/config.json", "metrics.*", "table.*", "report.html", "plots/*", "panels/*"),
        ".replaced*/*",
    )
}
"""Patterns of the files in folders that are written bit by bit, whose markers do not list them."""
_DESCRIBED = {"run": "a training run", "evaluation": "an evaluation", "frames": "frames", "animations": "animations"}
_SWAP = 2  # RENAME_EXCHANGE of Linux and RENAME_SWAP of macOS
_HERE = -100 if sys.platform == "linux" else -2


class Marker(msgspec.Struct, kw_only=True):
    """The content of a marker.

    Attributes:
        kind: what the folder holds.
        version: version of its format.
        files: paths of the files in it, relative to it; None for a folder that is written bit by bit.
    """

    kind: str
    version: int
    files: list[str] | None = None


def marker_of(folder: Path) -> Marker | None:
    """The marker of a folder; None if there is none that can be read.

    Raises:
        InputError: a newer version wrote the folder.
    """
    try:
        marker = msgspec.json.decode((folder / MARKER).read_bytes(), type=Marker)
    except (OSError, ValueError, RecursionError):
        return None
    if marker.version > VERSION:
        raise InputError(
            f"{folder}: a newer version of vidcomp_jax wrote it, in format {marker.version}; this one knows formats up "
            f"to {VERSION}: update vidcomp_jax, or give another folder"
        )
    return marker


def mark(folder: Path, kind: Kind, *, growing: bool = False) -> None:
    """Write the marker of a folder, with the files that it holds now, unless it is `growing`."""
    marker = Marker(kind=kind, version=VERSION, files=None if growing else sorted(files_in(folder)))
    with new_file(folder / MARKER) as temporary:
        temporary.write_bytes(msgspec.json.encode(marker) + b"\n")


def files_in(folder: Path) -> Iterator[str]:
    """The paths of everything in a folder but folders and its marker, relative to it; links are not followed."""
    for parent, folders, names in os.walk(folder):
        here = Path(parent).relative_to(folder)
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        yield from ((here / name).as_posix() for name in [*names, *links] if here / name != Path(MARKER))


def check_output_folder(path: Path, kind: Kind, *, overwrite: bool, field: str = "output") -> None:
    """Raise an `InputError` unless a folder can be written at `path`, from the setting `field`.

    Args:
        path: new, or an existing folder, with `overwrite`.
        kind: of the folder to write.
        overwrite: replace a folder that `problem_of_replacing` allows to be replaced.
        field: name of the setting.
    """
    check_output(path, overwrite=overwrite, field=field)
    if path.exists() and (problem := problem_of_replacing(path, kind)):
        raise InputError(f"`{field}` is {path}: {problem}; it is not replaced, give another name")


def problem_of_replacing(path: Path, kind: Kind) -> str:
    """Why the folder at `path` must not be replaced by one of `kind`; empty if it may.

    Raises:
        InputError: a newer version wrote the folder.
    """
    if not path.is_dir() or path.is_symlink():
        return "not a folder"
    if not any(path.iterdir()):
        return ""
    marker = marker_of(path)
    if marker is None:
        return "contains something other than an earlier output, because it has no marker of vidcomp_jax"
    if marker.kind == "run":
        return "holds a training run, which nothing replaces"
    if marker.kind != kind:
        described = _DESCRIBED.get(marker.kind, f"a {marker.kind}")
        return f"contains something other than an earlier output of this command, {described}"
    known = set(marker.files or ())
    patterns = _GROWING.get(marker.kind, ()) if marker.files is None else ()
    for file in files_in(path):
        if is_temporary(file.rpartition("/")[2]):
            continue
        if file not in known and not any(fnmatch.fnmatch(file, pattern) for pattern in patterns):
            return f"contains something other than an earlier output, {file}"
    return ""


@contextlib.contextmanager
def new_folder(path: Path, kind: Kind, *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, which becomes `path` when the block ends without an error.

    If the block raises an error, the temporary folder is removed and `path` is left unchanged.

    Args:
        path: folder to write; missing parents are created.
        kind: what it holds, for its marker.
        replace: replace an existing folder once the new one is complete; if False, only an empty one is replaced.

    Raises:
        FileExistsError: `path` is a folder that is not empty, and `replace` is False.
        InputError: `path` must not be replaced, see `problem_of_replacing`; or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    new = temporary_beside(path)
    try:
        with full_disk_named(path), final_name_in_errors(new, path):
            new.mkdir()
            yield new
            mark(new, kind)
            if replace and path.exists():
                if problem := problem_of_replacing(path, kind):
                    raise InputError(f"{path}: {problem}; it is not replaced")
                _swap(new, path)
            else:
                _rename(new, path)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _rename(new: Path, path: Path) -> None:
    try:
        new.rename(path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        raise


def _swap(new: Path, path: Path) -> None:
    """Exchange two folders, in one step where the system can, so that `path` is there at any moment."""
    library = ctypes.CDLL(None, use_errno=True)
    exchange = getattr(library, "renameat2" if sys.platform == "linux" else "renameatx_np", None)
    if exchange is not None and exchange(_HERE, os.fsencode(new), _HERE, os.fsencode(path), _SWAP) == 0:
        return
    old = path.with_name(f"{new.name}.old")
    path.rename(old)
    try:
        new.rename(path)
    except BaseException:
        old.rename(path)
        raise
    old.rename(new)
