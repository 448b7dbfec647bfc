"""Pairs of a source video and a driving video, for animation across the videos of a data set.

Input: a pairs list of the published First Order Motion Model code, or a number of pairs. Output: indices of clips.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vidcomp_jax.errors import InputError
from vidcomp_jax.storage.untrusted import read_text, reading

_SHOWN = 5


class VideoPair(NamedTuple):
    """A pair of clips.

    Attributes:
        source: index of the clip whose first frame is animated.
        driving: index of the clip whose motion it gets.
    """

    source: int
    driving: int


def read_pairs(path: Path, names: Sequence[str], num_pairs: int) -> list[VideoPair]:
    """The first `num_pairs` pairs of a CSV file with the columns `source` and `driving`; further columns are ignored.

    Raises:
        InputError: the file is missing or damaged, lacks a column, or names a video that is not among `names`.
    """
    text = read_text(path, "not a list of pairs")
    with reading(path, "not a list of pairs"):
        reader = csv.DictReader(io.StringIO(text, newline=""))
        rows = [(reader.line_num, row) for row in reader]
        columns = reader.fieldnames or []
    for column in VideoPair._fields:
        if column not in columns:
            raise InputError(f"{path}: has no column {column}; found {', '.join(columns) or 'nothing'}")
    places = {name: place for place, name in enumerate(names)}
    absent = [
        f"line {line}: {column} {row[column]}"
        for line, row in rows
        for column in VideoPair._fields
        if row[column] not in places
    ]
    if absent:
        more = f" and {len(absent) - _SHOWN} more" if len(absent) > _SHOWN else ""
        raise InputError(
            f"{path}: names videos that are not in the split, {'; '.join(absent[:_SHOWN])}{more}; the split has "
            f"{', '.join(names[:2])}{', ...' if len(names) > 2 else ''}"
        )
    if not rows:
        raise InputError(f"{path}: holds no pair")
    return [VideoPair(places[row["source"]], places[row["driving"]]) for _, row in rows[:num_pairs]]


def random_pairs(count: int, num_pairs: int, seed: int = 0) -> list[VideoPair]:
    """Different random pairs of the first `num_pairs` of `count` clips, drawn as in the published code.

    A clip may drive itself. For the same number of clips, the pairs are the same as there.
    """
    most = min(num_pairs, count)
    grid = np.mgrid[:most, :most].reshape(2, -1).T
    chosen = np.random.RandomState(seed).choice(len(grid), min(num_pairs, len(grid)), replace=False)
    return [VideoPair(source=int(source), driving=int(driving)) for driving, source in grid[chosen]]
