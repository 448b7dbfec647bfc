"""Finds the videos of the KTH actions, and the ranges of their frames that show the action.

The download consists of six archives (`walking.zip` and so on) of files `personNN_<action>_dM_uncomp.avi`, and
`00sequences.txt`, whose lines list the frames that show the action: `person01_walking_d1  frames  1-75, 152-225`,
counted from 1, both ends included. Videos are read from the archives, or from files that are already unpacked.
"""

import contextlib
import re
import shutil
import tempfile
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from vidcomp_jax.data.sources import Source
from vidcomp_jax.errors import InputError
from vidcomp_jax.storage.atomic import full_disk_named
from vidcomp_jax.storage.untrusted import check_file, check_name, read_bytes, reading

_LARGEST = 2**30
SEQUENCES = "00sequences.txt"
ARCHIVES = tuple(
    f"{action}.zip" for action in ("walking", "jogging", "running", "boxing", "handwaving", "handclapping")
)
"""The archives of the six actions."""
_NAME = re.compile(r"(?P<stem>person(?P<person>\d\d)_(?P<action>[a-z]+)_d\d)_uncomp\.avi")
_LINE = re.compile(r"\s*(?P<stem>person(?P<person>\d\d)_(?P<action>[a-z]+)_d\d)\b(?P<rest>.*)")
_RANGE = re.compile(r"\s*(\d{1,9})\s*-\s*(\d{1,9})\s*")
_EXPECTED = "<action>/personNN_<action>_dM_uncomp.avi, such as walking/person01_walking_d1_uncomp.avi, or <action>.zip"


class Sequences(NamedTuple):
    """The ranges that `00sequences.txt` lists for one video.

    Attributes:
        where: file and line, for messages.
        ranges: first frame and the one after the last, counted from 0.
    """

    where: str
    ranges: list[tuple[int, int]]


def stem_of(source: Source) -> str:
    """`personNN_<action>_dM` of a video."""
    return source.path.name.removesuffix("_uncomp.avi")


def find_videos(data_dir: Path, persons: Collection[int], *, skip_unreadable: bool = False) -> list[Source]:
    """The videos of some persons anywhere below `data_dir`, ordered by their names `<action>/<file>`.

    The path of a video in an archive is the path of the archive followed by that of the member. With
    `skip_unreadable`, an archive that cannot be read is itself an entry of the list, so that it is counted.

    Raises:
        InputError: there are no videos, none of these persons, or an archive is damaged.
    """
    archives = sorted(path for path in data_dir.rglob("*.zip") if path.is_file())
    files = sorted(path for path in data_dir.rglob("*.avi") if path.is_file())
    for path in (*archives, *files):
        check_name(path)
    sources = {path.name: Source(path.relative_to(data_dir).as_posix(), path, (path,)) for path in reversed(files)}
    damaged = []
    for archive in archives:
        try:
            members = _members(archive)
        except InputError:
            if not skip_unreadable:
                raise
            damaged.append(Source(archive.relative_to(data_dir).as_posix(), archive, (archive,)))
            continue
        for member in members:
            name = f"{archive.stem}/{Path(member).name}"
            sources.setdefault(Path(member).name, Source(name, archive / member, (archive,)))
    named = {name: match for name in sources if (match := _NAME.fullmatch(name))}
    if not sources and not damaged:
        raise InputError(f"{data_dir}: no AVI files here; KTH unpacks to {_EXPECTED}")
    if not named and not damaged:
        first = min(source.path.name for source in sources.values())
        raise InputError(f"{data_dir}: {len(sources)} AVI files, none with a name of KTH, {_EXPECTED}; found {first}")
    chosen = [sources[name] for name, match in named.items() if int(match["person"]) in persons]
    if not chosen:
        shown = f"{min(persons)} to {max(persons)}" if len(persons) > 1 else str(min(persons))
        raise InputError(f"{data_dir}: none of {len(named)} videos shows persons {shown}, as this split needs")
    return sorted(chosen, key=lambda source: source.name) + damaged


def read_sequences(data_dir: Path) -> dict[str, Sequences]:
    """The contents of `00sequences.txt` by `personNN_<action>_dM`; empty if there is no such file.

    Raises:
        InputError: a line about a video is neither a list of ranges nor says that the video is missing.
    """
    path = data_dir / SEQUENCES
    if not path.exists():
        return {}
    found = {}
    for number, line in enumerate(read_bytes(path).decode(errors="replace").splitlines(), 1):
        match = _LINE.match(line)
        if match is None or "missing" in match["rest"]:  # explanations; the one video that never existed
            continue
        where = f"{path} line {number}"
        word, _, listed = match["rest"].strip().partition("frames")
        ranges = [_RANGE.fullmatch(part) for part in listed.split(",")]
        parts = [part for part in ranges if part is not None]
        if word or len(parts) < len(ranges) or any(not 0 < int(part[1]) <= int(part[2]) for part in parts):
            raise InputError(f"{where}: expected frames FIRST-LAST, ..., found {match['rest'].strip()[:80]!r}")
        found[match["stem"]] = Sequences(where, [(int(part[1]) - 1, int(part[2])) for part in parts])
    return found


def missing_videos(
    sequences: Mapping[str, Sequences], videos: Collection[Source], persons: Collection[int]
) -> dict[str, str]:
    """Videos that `sequences` lists but that do not exist, by name with the reason.

    Actions without any video are ignored, because not everybody downloads all six.
    """
    present = {stem_of(video) for video in videos}
    actions = {stem.split("_")[1] for stem in present if "_" in stem}
    missing = {}
    for stem, (where, _) in sequences.items():
        person, action, _ = stem.split("_")
        if stem not in present and action in actions and int(person.removeprefix("person")) in persons:
            name = f"{action}/{stem}_uncomp.avi"
            missing[name] = f"{where}: lists {name}, which does not exist"
    return missing


@contextlib.contextmanager
def unpacked(source: Source) -> Iterator[Path]:
    """The video as a file, unpacked to a temporary one if it is in an archive; messages name archive and member.

    Raises:
        InputError: the archive or the member is damaged.
    """
    archive = source.files[0]
    if archive == source.path and archive.suffix != ".zip":
        yield archive
        return
    _members(archive)
    with tempfile.NamedTemporaryFile(suffix=".avi") as file:
        name = source.path.relative_to(archive).as_posix()
        with full_disk_named(Path(file.name).parent), reading(source.path, "damaged in its archive"):
            with zipfile.ZipFile(archive) as stored:
                info = stored.getinfo(name)
                if info.flag_bits & 1:
                    raise InputError(f"{source.path}: cannot be unpacked (it is encrypted)")
                if info.file_size > _LARGEST:
                    raise InputError(
                        f"{source.path}: unpacks to {info.file_size} bytes; a video of KTH has less than {_LARGEST}"
                    )
                with stored.open(info) as member:
                    shutil.copyfileobj(member, file)
            file.flush()
        try:
            yield Path(file.name)
        except InputError as error:
            raise type(error)(str(error).replace(file.name, str(source.path))) from None


def _members(archive: Path) -> list[str]:
    """The AVI files in an archive."""
    check_file(archive)
    with reading(archive, "cut off or damaged, or not a zip archive"), zipfile.ZipFile(archive) as stored:
        names = stored.namelist()
    for name in names:
        check_name(f"{archive}: {name}")
    return sorted(name for name in names if name.endswith(".avi") and not Path(name).name.startswith("."))
