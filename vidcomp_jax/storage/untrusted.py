"""The one place where bytes from outside become values, or one `InputError`.

Every file that this project did not just write itself may be cut off, damaged, or something else under a wrong name,
and parsers answer with exceptions of many kinds. `reading` turns all of them into an error that names the file and the
reason. Sizes are limited before memory is asked for. No other module catches exceptions broadly.
"""

import contextlib
import json
import logging
import math
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vidcomp_jax.errors import InputError, one_line

MAX_TEXT = 64 * 2**20
"""Greatest size of a text file that is read whole, such as a configuration or a list, in bytes."""
_MAX_DEPTH = 100
_log = logging.getLogger(__name__)


@contextlib.contextmanager
def reading(
    path: Path | str,
    problem: str = "cannot be read",
    advice: str = "",
    *,
    passing: type[Exception] | tuple[type[Exception], ...] = (),
) -> Iterator[None]:
    """Turn any exception of the block, which parses the file `path`, into one `InputError`.

    Args:
        path: the file, for the message.
        problem: what it means that parsing failed, such as "not a motion file".
        advice: what the user can do, if anything.
        passing: exceptions that the caller explains itself.

    Raises:
        InputError: "PATH: PROBLEM (REASON); ADVICE", or an `InputError` of the block, unchanged.
    """
    try:
        yield
    except Exception as error:
        # A violated annotation, which the tests check, is a mistake of this project and not of a file.
        annotation = type(error).__module__.partition(".")[0] in ("jaxtyping", "beartype")
        if annotation or isinstance(error, InputError) or (passing and isinstance(error, passing)):
            raise
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else one_line(error)
        raise InputError(f"{path}: {problem} ({reason}){f'; {advice}' * bool(advice)}") from error


def check_file(path: Path) -> None:
    """Raise an `InputError` unless `path` is a file. Opening a pipe would wait for ever, and a device never ends."""
    with reading(path, "cannot be opened"):  # its name may be too long, or a folder not be accessible
        if path.is_dir():
            raise InputError(f"{path}: is a folder; a file was expected")
        if not path.exists():
            raise InputError(f"{path}: no such file")
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path}: a pipe, socket or device; a file was expected")


def check_name(name: Path | str) -> None:
    """Raise an `InputError` unless the name of a file is UTF-8, as everything is that stores or prints it."""
    try:
        str(name).encode()
    except UnicodeEncodeError:
        raise InputError(f"{ascii(str(name))[1:-1]}: not UTF-8; rename the file or folder") from None


class Visited:
    """The folders of a search, so that none is read twice, however links run.

    Args:
        root: where the search begins; a link to it, or to a folder above it, is no new folder either.
    """

    def __init__(self, root: Path):
        root = root.resolve()
        self._seen = {_identity(folder) for folder in (root, *root.parents)}

    def is_new(self, folder: Path) -> bool:
        """Whether `folder` was not visited yet; from now on, it was."""
        check_name(folder)
        if _identity(folder) in self._seen:
            _log.warning("%s: left out, a link to a folder that is read already", folder)
            return False
        self._seen.add(_identity(folder))
        return True


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def read_bytes(path: Path, limit: int = MAX_TEXT) -> bytes:
    """The content of a file of at most `limit` bytes; `InputError` if it is missing, no file, or longer."""
    check_file(path)
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise InputError(f"{path}: has {path.stat().st_size} bytes; at most {limit} were expected")
    return content


def read_text(path: Path, problem: str = "not a text file") -> str:
    """The content of a text file in UTF-8; `InputError` as for `read_bytes`, or if it is no text."""
    content = read_bytes(path)
    with reading(path, problem):
        return content.decode("utf-8-sig")


def read_json(path: Path) -> Any:
    """The value in a JSON file; `InputError` as for `read_bytes`, if it is not JSON, or nested more than 100 deep."""
    text = read_text(path, "not JSON")
    with reading(path, "not JSON"):
        value = json.loads(text)
        check_depth(value)
    return value


def check_depth(value: Any, depth: int = _MAX_DEPTH) -> None:
    """Raise a `RecursionError` if lists and mappings are nested more than `depth` deep, before other code fails."""
    level = [value]
    for _ in range(depth):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise RecursionError


def read_npz(path: Path, problem: str, advice: str = "") -> dict[str, np.ndarray]:
    """The arrays of a NumPy archive, by name.

    Nothing in it is run, and no array is allocated before its size was compared with that of the file's content.

    Raises:
        InputError: the file is missing, no such archive, damaged, or larger than the memory that is free.
    """
    check_file(path)
    arrays = {}
    with reading(path, problem, advice), zipfile.ZipFile(path) as archive:
        check_memory(sum(info.file_size for info in archive.infolist()), f"{path}")
        for info in archive.infolist():
            with archive.open(info) as member:
                version = np.lib.format.read_magic(member)
                read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                shape, _, dtype = read[version](member)
            if dtype.hasobject:
                raise InputError(f"{path}: {problem} ({info.filename} holds Python objects, which are not read)")
            if math.prod(shape) * dtype.itemsize > info.file_size:
                raise InputError(f"{path}: {problem} ({info.filename} holds less than its header says)")
            with archive.open(info) as member:
                arrays[info.filename.removesuffix(".npy")] = np.lib.format.read_array(member, allow_pickle=False)
    return arrays


def free_memory() -> float:
    """Bytes of memory that can be asked for, of the machine and of the container; infinity if it cannot be told."""
    free = [math.inf]
    with contextlib.suppress(OSError, ValueError, IndexError, StopIteration):
        line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if "MemAvailable" in line)
        free.append(float(line.split()[1]) * 1024)
    with contextlib.suppress(OSError, ValueError, KeyError):
        group = Path("/sys/fs/cgroup")
        used = float((group / "memory.current").read_text())
        # Cached files count as used, but make room when memory is asked for.
        cached = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())["file"]
        free.append(float((group / "memory.max").read_text()) - used + float(cached))
    return max(min(free), 0.0)


def check_memory(num_bytes: int | float, what: str) -> None:
    """Raise an `InputError` if `what` needs more memory than is free; the message says how much of both."""
    free = free_memory()
    if num_bytes > free:
        raise InputError(f"{what}: takes {num_bytes / 2**30:.3g} GiB of memory, {free / 2**30:.3g} GiB are free")
