"""Downloads the published files of a data set over HTTP, and verifies them.

A file is written under its name with `.part` at the end, beside a note of which version of it the server has, and gets
its own name once it is complete and verified. A download that broke off goes on where it stopped (RFC 9110, section
14.2, with `If-Range`), unless the server has another version by then.
"""

import http.client
import json
import shutil
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from vidcomp_jax.data.bair_files import DOWNLOAD
from vidcomp_jax.data.kth_files import ARCHIVES, SEQUENCES
from vidcomp_jax.errors import InputError, one_line
from vidcomp_jax.storage.atomic import full_disk, full_disk_named, new_file
from vidcomp_jax.storage.folders import new_folder
from vidcomp_jax.storage.untrusted import read_json, reading

BLOCK = 2**20
RETRIES = 5
"""Number of times in a row that a request is repeated although it brings nothing new."""
_PART = ".part"
_TIMEOUT = 30
_WAIT = 1.0


class Published(NamedTuple):
    """The files of a data set and where they are published.

    Attributes:
        url: folder of the files on their server.
        files: their names.
    """

    url: str
    files: tuple[str, ...]


PUBLISHED = {
    "kth": Published("https://www.csc.kth.se/cvap/actions", (*ARCHIVES, SEQUENCES)),
    "bair": Published(
        "http://rail.eecs.berkeley.edu/datasets",
        ("bair_robot_pushing_dataset_v0.tar",),
    ),
}
"""Data sets that can be downloaded, by name. KTH: Schuldt et al., 2004; BAIR: Ebert et al., 2017."""


class Remote(NamedTuple):
    """A file on a server.

    Attributes:
        url: its address.
        size: in bytes; None if the server does not say.
        version: what the server identifies the content by, an `ETag` or a date; empty if it does not.
    """

    url: str
    size: int | None
    version: str


def look_up(url: str) -> Remote:
    """Ask a server about a file.

    Raises:
        InputError: the server cannot be reached, has no such file, or answers with a web page.
    """
    try:
        try:
            answer = _answer(url, method="HEAD")
        except (InputError, http.client.HTTPException):  # some servers refuse to tell without sending
            answer = _answer(url)
        with answer:
            return _remote(url, answer)
    except (OSError, http.client.HTTPException) as error:
        raise InputError(f"{url}: {_reason(error)}; check the network, or give the `url` of a mirror") from error


def download(remote: Remote, path: Path, progress: Callable[[int], None] = lambda count: None) -> None:
    """Download a file to `path`, verify it, and go on with what an earlier try has left.

    Args:
        remote: the file.
        path: where to write it; an existing file is replaced.
        progress: called with numbers of bytes, first with that of an earlier try, as they are there.

    Raises:
        InputError: the connection broke more than `RETRIES` times in a row, the server sent something else than it
            announced, the content is damaged, or the disk is full. All but damaged content is kept for the next try.
    """
    part, note = part_of(path), _note_of(path)
    failures, told, farthest = 0, 0, 0
    with full_disk_named(path):
        while True:
            have = bytes_of_earlier_try(remote, path)
            progress(have - told)
            told, farthest = have, max(have, farthest)
            if have and have == remote.size:
                break
            if not have:
                part.unlink(missing_ok=True)
                with new_file(note) as temporary:
                    temporary.write_text(json.dumps({"version": remote.version, "size": remote.size}))
            try:
                for count in _append(remote, part, have):
                    told += count
                    if told > farthest:
                        failures, farthest = 0, told
                    progress(count)
                if remote.size is None or part.stat().st_size == remote.size:
                    break
                error: Exception = http.client.IncompleteRead(b"")
            except (OSError, http.client.HTTPException) as problem:
                if full_disk(problem) or getattr(problem, "filename", None) is not None:  # not of the network
                    raise
                error = problem
            failures += 1
            if failures > RETRIES:
                raise InputError(
                    f"{remote.url}: the connection broke {failures} times in a row ({_reason(error)}); the same "
                    f"command goes on from {part.stat().st_size if part.exists() else 0:,} bytes"
                ) from error
            time.sleep(_WAIT * min(2 ** (failures - 1), 16))
    try:
        verify(part, path.name)
    except InputError as error:
        part.unlink()
        note.unlink(missing_ok=True)
        raise InputError(
            f"{error}; what was downloaded from {remote.url} is removed, try again or give another `url`"
        ) from None
    part.replace(path)
    note.unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """The unfinished download of `path`."""
    return path.with_name(f"{path.name}{_PART}")


def _note_of(path: Path) -> Path:
    return path.with_name(f"{path.name}{_PART}.json")


def bytes_of_earlier_try(remote: Remote, path: Path) -> int:
    """Number of bytes of an unfinished download that still belong to what the server has; 0 if there are none."""
    part = part_of(path)
    if not part.exists():
        return 0
    try:
        noted = read_json(_note_of(path))
    except InputError:
        return 0
    same = noted == {"version": remote.version, "size": remote.size}
    size = part.stat().st_size
    return size if same and remote.version and remote.size is not None and size <= remote.size else 0


def verify(path: Path, name: str) -> None:
    """Read an archive to its end.

    Args:
        path: the file.
        name: its final name, whose ending says what it is; files other than archives must only not be web pages.

    Raises:
        InputError: it is damaged, cut off or something else.
    """
    with path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html")):
        raise InputError(f"{name}: a web page, where a file was expected")
    with reading(name, "damaged"):
        if name.endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
            if damaged is not None:
                raise InputError(f"{name}: damaged in {damaged!r}")
        elif name.endswith(".tar"):
            unpacked_size(path)


def unpacked_size(tar: Path) -> int:
    """Number of bytes of all files of BAIR in the archive; reads the archive to its end.

    Raises:
        InputError: it holds none, or is cut off.
    """
    total = 0
    with tarfile.open(tar, "r:") as archive:
        for member in archive:
            total += member.size if member.name.lstrip("./").startswith(f"{DOWNLOAD}/") else 0
            if member.isfile() and member.offset_data + member.size > tar.stat().st_size:
                raise InputError(f"{tar.name.removesuffix(_PART)}: cut off in {member.name!r}")
    if not total:
        raise InputError(f"{tar.name.removesuffix(_PART)}: holds no {DOWNLOAD}")
    return total


def unpack_bair(tar: Path, folder: Path) -> None:
    """Unpack `softmotion30_44k` of BAIR's archive into `folder`, all of it or nothing.

    Raises:
        InputError: there is too little space, or a member cannot be unpacked safely.
    """
    target = folder / DOWNLOAD
    check_space(folder, unpacked_size(tar), f"to unpack {tar.name}")
    with new_folder(target, "data") as new, tarfile.open(tar, "r:") as archive:
        for member in archive:
            place = member.name.lstrip("./")
            if member.isfile() and place.startswith(f"{DOWNLOAD}/"):
                member.name = place.partition("/")[2]
                try:
                    archive.extract(member, new, filter="data")
                except tarfile.FilterError as error:
                    raise InputError(f"{tar}: {one_line(error)}") from error


def free_space(folder: Path) -> int:
    """Number of bytes that are free in the file system of a folder."""
    return shutil.disk_usage(folder).free


def check_space(folder: Path, needed: int, purpose: str) -> None:
    """Raise an `InputError` unless the file system of `folder` has `needed` bytes free."""
    free = free_space(folder)
    if needed > free:
        raise InputError(f"{folder}: {readable(needed)} are needed {purpose}, but {readable(free)} are free")


def readable(count: int) -> str:
    """A number of bytes, such as `1.5 GB`."""
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"


def _append(remote: Remote, part: Path, have: int) -> Iterator[int]:
    """Append what is missing to `part`, and yield the sizes of the blocks."""
    headers = {"Range": f"bytes={have}-", "If-Range": remote.version} if have else {}
    with _answer(remote.url, headers) as answer:
        if _remote(remote.url, answer) != remote:
            raise InputError(f"{remote.url}: the server has another version of it now; run the same command again")
        going_on = answer.status == http.client.PARTIAL_CONTENT
        if going_on and not str(answer.headers.get("Content-Range", "")).startswith(f"bytes {have}-"):
            raise InputError(f"{remote.url}: the server sent another part than was asked for")
        with part.open("ab" if going_on else "wb") as file:
            if have and not going_on:
                yield -have
            while block := answer.read(BLOCK):
                if remote.size is not None and file.tell() + len(block) > remote.size:
                    raise InputError(f"{remote.url}: the server sends more than the {remote.size:,} bytes it announced")
                file.write(block)
                yield len(block)


def _answer(url: str, headers: dict[str, str] | None = None, method: str = "GET") -> http.client.HTTPResponse:
    scheme = urllib.parse.urlsplit(url).scheme
    if scheme not in ("http", "https"):
        raise InputError(f"`url` is {url}; it must start with http:// or https://")
    request = urllib.request.Request(url, headers={"User-Agent": "vidcomp_jax", **(headers or {})}, method=method)
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise http.client.HTTPException(f"the server answers {error.code} {error.reason}") from error
        raise InputError(f"{url}: the server answers {error.code} {error.reason}") from error
    return answer


def _remote(url: str, answer: http.client.HTTPResponse) -> Remote:
    if answer.headers.get_content_type() == "text/html":
        raise InputError(f"{url}: answered by a web page, where a file was expected; give another `url`")
    total = answer.headers.get("Content-Length")
    if answer.status == http.client.PARTIAL_CONTENT:
        total = str(answer.headers.get("Content-Range", "")).rpartition("/")[2]
    version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    if version.startswith("W/"):  # a weak tag does not promise the same bytes
        version = answer.headers.get("Last-Modified") or ""
    return Remote(url, int(total) if total is not None and total.isdecimal() else None, version)


def _reason(error: Exception) -> str:
    if isinstance(error, http.client.IncompleteRead):
        return "the server ended it early"
    return one_line(getattr(error, "reason", None) or error)
