"""Finds the record files of BAIR robot pushing, their records, and those that are damaged.

The download unpacks to `softmotion30_44k/{train,test}/*.tfrecords`. TensorFlow Datasets converts it to
`bair_robot_pushing_small/VERSION/bair_robot_pushing_small-{train,test}.tfrecord-NNNNN-of-NNNNN`.
"""

import itertools
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vidcomp_jax.data.cache import key_of
from vidcomp_jax.data.clips import Split
from vidcomp_jax.data.sources import Source, in_parallel
from vidcomp_jax.data.tfrecord import Record, find_records
from vidcomp_jax.errors import InputError
from vidcomp_jax.storage.atomic import new_file
from vidcomp_jax.storage.untrusted import check_name, read_json, reading

DOWNLOAD = "softmotion30_44k"
"""The folder that the published archive unpacks to."""
_PREPARED = "bair_robot_pushing_small"


def name_of(record: Record) -> str:
    """The name of a trajectory, as TensorFlow Datasets forms it."""
    return f"{record.path.name}_{record.number}"


def find_files(data_dir: Path, split: Split) -> list[Path]:
    """The record files of one split, ordered by name; `data_dir` is `softmotion30_44k` or its parent."""
    folder = next((path for path in (data_dir / DOWNLOAD / split, data_dir / split) if path.is_dir()), None)
    if folder is None:
        raise InputError(f"{data_dir}: no {DOWNLOAD}/{split} here; BAIR unpacks to {DOWNLOAD}/{{train,test}}")
    files = sorted(path for path in folder.iterdir() if path.suffix == ".tfrecords" and path.name[0] != ".")
    if not files:
        raise InputError(f"{folder}: no .tfrecords files here")
    for file in files:
        check_name(file)
    return files


def find_prepared(data_dir: Path, split: Split) -> list[Path]:
    """The record files that TensorFlow Datasets prepared for one split; `data_dir` is its data folder."""
    infos = sorted(data_dir.glob(f"{_PREPARED}/*/dataset_info.json"))
    if not infos:
        raise InputError(f"{data_dir}: no {_PREPARED}/VERSION/dataset_info.json here; prepare {_PREPARED} with TFDS")
    folder = infos[-1].parent
    info = read_json(infos[-1])
    with reading(infos[-1], "not a dataset_info.json as TFDS writes it"):
        form = info.get("fileFormat", "tfrecord")
        found = [entry["shardLengths"] for entry in info["splits"] if entry["name"] == split]
        if not found:
            raise InputError(f"{infos[-1]}: has no split {split}")
        count = len(found[0])
    if form != "tfrecord":
        raise InputError(f"{folder}: prepared as {form}; prepare it with file_format=tfrecord, which is read here")
    files = [folder / f"{_PREPARED}-{split}.tfrecord-{shard:05d}-of-{count:05d}" for shard in range(count)]
    for file in files:
        if not file.exists():
            raise InputError(
                f"{file}: no such file, but dataset_info.json lists {count} such files; prepare the data set again"
            )
    return files


def list_records(files: Sequence[Path], skip_unreadable: bool) -> tuple[list[Record], dict[str, str]]:
    """All records in order, and the reasons, by name, why others cannot be read.

    Raises:
        InputError: a file is damaged, and `skip_unreadable` is not set.
    """
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        found = list(pool.map(_records, files))
    errors = {path.name: error for path, (_, error) in zip(files, found, strict=True) if error is not None}
    if errors and not skip_unreadable:
        raise next(iter(errors.values()))
    records = list(itertools.chain.from_iterable(part for part, _ in found))
    return records, {name: str(error) for name, error in errors.items()}


def find_damaged(
    records: Sequence[Record], check: Callable[[Record], None], cache_dir: Path, label: str
) -> dict[str, str]:
    """Name and reason of every record for which `check` raises an InputError; the result is kept in `cache_dir`."""
    by_file = {path: list(group) for path, group in itertools.groupby(records, lambda record: record.path)}
    sources = [Source(path.name, path, (path,)) for path in by_file]
    known = cache_dir / f"{label}-{key_of(sources, {})}.json"
    if (kept := _kept(known)) is not None:
        return kept

    def damaged(source: Source) -> dict[str, str]:
        reasons = {}
        for record in by_file[source.path]:
            try:
                check(record)
            except InputError as error:
                reasons[name_of(record)] = str(error)
        return reasons

    found: dict[str, str] = {}
    for _, reasons in in_parallel(damaged, sources, f"checking {label}"):
        if isinstance(reasons, InputError):
            raise reasons
        found |= reasons
    cache_dir.mkdir(parents=True, exist_ok=True)
    with new_file(known) as temporary:
        temporary.write_text(json.dumps(found))
    return found


def _kept(known: Path) -> dict[str, str] | None:
    """The result of an earlier search; None if there is none, or its file is damaged."""
    try:
        found = read_json(known)
    except InputError:
        return None
    whole = isinstance(found, dict) and all(isinstance(reason, str) for reason in found.values())
    return found if whole else None


def _records(path: Path) -> tuple[list[Record], InputError | None]:
    records = []
    try:
        for record in find_records(path):
            records.append(record)
    except InputError as error:
        return records, error
    return records, None
