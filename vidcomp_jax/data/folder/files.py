"""Finds the videos of a folder, and splits them into train and test."""

from collections.abc import Iterator
from pathlib import Path

from vidcomp_jax.data.clips import Split
from vidcomp_jax.data.folder.config import FolderConfig
from vidcomp_jax.data.sources import Source, held_out, natural_order, subject_of
from vidcomp_jax.errors import InputError
from vidcomp_jax.media.images import IMAGE_SUFFIXES
from vidcomp_jax.media.video import VIDEO_SUFFIXES
from vidcomp_jax.storage.untrusted import Visited, check_name


def split_sources(data_dir: Path, split: Split, config: FolderConfig) -> list[Source]:
    """The videos of one split, ordered by name; the splits of a random division share no subject."""
    folders = [data_dir / name for name in ("train", "test")]
    if any(folder.is_dir() for folder in folders):
        if not (data_dir / split).is_dir():
            raise InputError(f"{data_dir}: has {'test' if split == 'train' else 'train'}/ but no {split}/")
        return find_sources(data_dir / split)
    sources = find_sources(data_dir)
    subjects = sorted({subject_of(source.name) for source in sources})
    if len(subjects) < 2:
        raise InputError(
            f"{data_dir}: a single subject ({subjects[0]}); a split into train and test needs at least two"
        )
    test = held_out(subjects, config.test_fraction, config.seed)
    return [source for source in sources if (subject_of(source.name) in test) == (split == "test")]


def find_sources(folder: Path) -> list[Source]:
    """Videos below `folder`: video files at any depth, folders of images, and images (strips) in `folder` itself."""
    found = sorted(_search(folder, folder, Visited(folder)), key=lambda source: natural_order(source.name))
    if not found:
        endings = " ".join(VIDEO_SUFFIXES)
        raise InputError(f"{folder}: no videos here ({endings}), no folders of frames and no strips of frames (.png)")
    return found


def _search(folder: Path, root: Path, visited: Visited) -> Iterator[Source]:
    images = []
    for path in folder.iterdir():
        suffix = path.suffix.lower()
        if path.name.startswith("."):
            continue
        check_name(path)
        if path.is_dir():
            if visited.is_new(path):
                yield from _search(path, root, visited)
        elif suffix in VIDEO_SUFFIXES:
            yield Source(path.relative_to(root).as_posix(), path, (path,))
        elif suffix in IMAGE_SUFFIXES:
            images.append(path)
    if folder == root:
        yield from (Source(path.name, path, (path,)) for path in images)
    elif images:
        files = tuple(sorted(images, key=lambda path: natural_order(path.name)))
        yield Source(folder.relative_to(root).as_posix(), folder, files)
