"""Writes files that appear whole or not at all, and checks outputs before the work begins.

Output is written under a temporary name in the same folder and renamed when it is complete. `folders.py` does the same
for folders, and says which of them may be replaced.
"""

import contextlib
import errno
import functools
import hashlib
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from vidcomp_jax.errors import InputError

_STALE_SECONDS = 24 * 3600
_LONGEST_NAME = 255
_TEMPORARY = re.compile(r"\..*\.(?:(?P<machine>[0-9a-f]{8})-)?(?P<process>\d{1,10})-[0-9a-f]{8}\.tmp", re.DOTALL)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; the file that the block writes there becomes `path`, replacing any old one.

    If the block raises an error, the temporary file is removed and `path` is left unchanged.

    Raises:
        InputError: see `check_new_file`; or the disk is full.
    """
    check_new_file(path)
    temporary = temporary_beside(path)
    try:
        with full_disk_named(path), final_name_in_errors(temporary, path):
            yield temporary
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_new_file(path: Path) -> None:
    """Raise an `InputError` unless a file can be written at `path`: no folder is there, and its parent is writable."""
    if problem := problem_of_place(path):
        raise InputError(f"{path}: {problem}")
    if path.is_dir():
        raise InputError(f"{path}: a folder, where a file is to be written")


def check_output(path: Path, *, overwrite: bool, field: str = "output") -> None:
    """Raise an `InputError` unless `path`, from the setting `field`, can be written: it is new, or may be replaced.

    What a process that was killed has left of an earlier try is removed.
    """
    if problem := problem_of_place(path):
        raise InputError(f"`{field}` is {path}: {problem}")
    remove_leftovers(path)
    if path.exists() and not overwrite:
        raise InputError(f"`{field}` is {path}: exists; give another name, or `overwrite` to replace it")


def check_output_file(path: Path, *, overwrite: bool, field: str = "output") -> None:
    """Like `check_output`, for a file."""
    if path.is_dir():
        raise InputError(f"`{field}` is {path}: a folder, where a file is to be written")
    check_output(path, overwrite=overwrite, field=field)


def problem_of_place(path: Path) -> str:
    """Why nothing can be written under the name `path`, whatever is there; empty if it can."""
    folder = path.absolute().parent
    if not folder.is_dir():
        return f"the folder {folder} does not exist"
    length, limit = len(os.fsencode(path.name)), longest_name(folder)
    if length > limit:
        return f"its name has {length} bytes; this file system allows {limit}"
    return "" if os.access(folder, os.W_OK) else f"the folder {folder} cannot be written to"


def longest_name(folder: Path) -> int:
    """Number of bytes that the name of a file in `folder` may have."""
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError):
        return _LONGEST_NAME


def name_of_file(name: str, ending: str = "") -> str:
    """`name` and `ending` as the name of a file: with dashes for slashes, and shortened if it is too long for one.

    A shortened name ends in a checksum of the whole one, so that different names stay different.
    """
    name = re.sub(r"[/\0]", "-", name)
    room = 200 - len(os.fsencode(ending))
    if len(os.fsencode(name)) > room:
        digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
        name = f"{_cut(name, room - 9)}-{digest}"
    return name + ending


def temporary_beside(path: Path) -> Path:
    """A unique hidden path in the folder of `path`, which says which process uses it."""
    path = path.absolute()
    return path.with_name(f"{_hidden(path)}{_machine()}-{os.getpid()}-{os.urandom(4).hex()}.tmp")


def remove_leftovers(path: Path) -> None:
    """Delete unfinished copies of the file or folder `path` that a killed process left behind.

    Those of a process on this machine are deleted as soon as the process is gone, others a day after the last change.
    """
    path = path.absolute()
    _remove_leftovers(path.parent, _hidden(path))


def remove_all_leftovers(folder: Path) -> None:
    """Like `remove_leftovers`, for whatever is written directly in `folder`."""
    _remove_leftovers(folder, ".")


def is_temporary(name: str) -> bool:
    """Whether `name` is the name of an unfinished file or folder, of this or an earlier version."""
    return _TEMPORARY.fullmatch(name) is not None


def remove_any(path: Path) -> None:
    """Delete a file or a folder; nothing happens if it is not there or cannot be deleted."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


@contextlib.contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Convert the different errors that a full disk causes to one `InputError` that names `path`."""
    try:
        yield
    except Exception as error:
        reason = full_disk(error)
        if reason is None or isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: cannot be written to: {reason.lower()}; what was complete there is intact. "
            "Make room and run the same command again"
        ) from error


def full_disk(error: BaseException | None) -> str | None:
    """The system's message for a full disk if `error` or a cause of it is one. Libraries may keep only the text."""
    while error is not None:
        for code in _FULL:
            if getattr(error, "errno", None) == code or os.strerror(code) in str(error):
                return os.strerror(code)
        error = error.__cause__ or error.__context__
    return None


@contextlib.contextmanager
def final_name_in_errors(temporary: Path, path: Path) -> Iterator[None]:
    """Name `path` in place of `temporary`, which is gone when the error is read, in the errors of the block."""
    try:
        yield
    except InputError as error:
        if str(temporary) not in str(error):
            raise
        raise type(error)(str(error).replace(str(temporary), str(path))) from error
    except OSError as error:
        if not isinstance(error.filename, str | Path) or not str(error.filename).startswith(str(temporary)):
            raise
        named = str(error.filename).replace(str(temporary), str(path))
        raise type(error)(error.errno, error.strerror, named) from error


def _remove_leftovers(folder: Path, start: str) -> None:
    try:
        names = [name for name in os.listdir(folder) if name.startswith(start)]
    except OSError:
        return
    for name in names:
        if found := _TEMPORARY.fullmatch(name):
            ours_and_gone = found["machine"] == _machine() and not _is_running(int(found["process"]))
            with contextlib.suppress(OSError):
                if ours_and_gone or time.time() - _last_change(folder / name) > _STALE_SECONDS:
                    remove_any(folder / name)


def _last_change(path: Path) -> float:
    inside = path.iterdir() if path.is_dir() and not path.is_symlink() else ()
    return max(entry.lstat().st_mtime for entry in [path, *inside])


def _hidden(path: Path) -> str:
    """The start of the names of unfinished copies of `path`; long names are cut, so that the whole still fits."""
    return f".{_cut(path.name, longest_name(path.parent) - 60)}."


def _cut(name: str, length: int) -> str:
    return os.fsencode(name)[:length].decode(errors="ignore")


@functools.cache
def _machine() -> str:
    """Eight hexadecimal digits for this machine since it was started; processes of other containers have others."""
    parts = [socket.gethostname()]
    for read in (lambda: Path("/proc/sys/kernel/random/boot_id").read_text(), lambda: os.readlink("/proc/self/ns/pid")):
        with contextlib.suppress(OSError):
            parts.append(read().strip())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
