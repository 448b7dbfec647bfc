"""Every reader, on damaged files: a success or one `InputError`."""

import functools
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.robustness.damage import CASES, damaged, problem_of, whole
from tests.robustness.readers import KINDS

FEW = settings(max_examples=6, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))


class Drawn:
    """Random numbers that hypothesis draws, and makes smaller when it looks for the simplest example."""

    def __init__(self, draw):
        self._draw = draw

    def randrange(self, start: int, stop: int) -> int:
        return self._draw(st.integers(start, stop - 1))


@functools.cache
def content(kind: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return whole(kind, Path(folder))


@pytest.mark.parametrize("kind", KINDS)
@FEW
@given(data=st.data())
def test_a_damaged_file_gives_one_line(kind, data):
    assert not problem_of(kind, damaged(content(kind), Drawn(data.draw)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_file_is_read(kind, tmp_path):
    whole(kind, tmp_path)
    KINDS[kind].read(tmp_path / KINDS[kind].name)


@pytest.mark.parametrize("case", sorted(path.name for path in CASES.glob("*.bin")))
def test_what_was_found_once_stays_mended(case):
    assert not problem_of(case.rpartition("-")[0], (CASES / case).read_bytes())
