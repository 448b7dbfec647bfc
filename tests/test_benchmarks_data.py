"""The data benchmark runs, and its readers return the counts they claim."""

import importlib.machinery
import sys
import types

import pytest

from benchmarks import data, feed
from tools.bair_records import write_download
from vidcomp_jax.data import DataConfig, open_clips
from vidcomp_jax.errors import InputError


@pytest.fixture
def clips(tmp_path):
    write_download(tmp_path, train=[2, 1], test=[1], draw=False)
    return open_clips(DataConfig(name="bair", data_dir=tmp_path, num_channels=3), "train")


def test_all_readers_read_every_trajectory(clips, capsys):
    readers = data.record_readers(clips)
    assert len(readers) == 8
    assert [read() for read in readers.values()] == [3] * 8
    data.print_records(clips, data.Options(rounds=1))
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 10 and all(line.count("|") == 5 for line in table)


def test_pairs_and_clips_are_counted(clips, capsys):
    options = data.Options(rounds=1, batch=4)
    data.print_pairs(clips, options)
    data.print_cache(options)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| 1 |") and lines[2].endswith("| 1.00 |") and lines[3].startswith("| 8 |")
    assert "clips/s of 16 frames" in lines[-1]


def test_ratios_are_medians_over_the_rounds():
    rates = data.take_turns({"one": lambda: 1, "two": lambda: 2}, 3)
    assert [len(values) for values in rates.values()] == [3, 3]
    assert data.ratio([4.0, 9.0, 2.0], [2.0, 3.0, 2.0]) == 2.0
    with pytest.raises(InputError, match="`pairs_per_record` is 0"):
        data.Options(pairs_per_record=0)


def test_all_kinds_are_fed_beside_other_readers(clips, capsys, monkeypatch):
    monkeypatch.setattr(feed, "_KINDS", {"kth-128": "kth", "bair-256": "bair"})
    monkeypatch.setattr(feed, "_NOISE", {"kth": 2})
    monkeypatch.setattr(feed, "WORKERS", (0, 1))
    feed.print_feed(clips, data.feed_readers(clips), rounds=1, seconds=0.01)
    lines = capsys.readouterr().out.splitlines()
    kinds = [line for line in lines if line.startswith(("| kth-128 | 50 |", "| bair-256 | 36 |"))]
    assert len(kinds) == 2 and all(float(cell) > 0 for line in kinds for cell in line.split("|")[3:5])
    assert {"nothing parsed", "example generator", "two frames parsed"} <= {
        name for line in lines for name in ("nothing parsed", "example generator", "two frames parsed") if name in line
    }
    assert any("Grain" in line for line in lines)
    assert lines[-1].startswith("memory of all 3 processes after one round")


def test_grain_is_compared_where_it_is_installed(clips, capsys, monkeypatch):
    read = []
    grain = types.ModuleType("grain")
    grain.__spec__ = importlib.machinery.ModuleSpec("grain", None)
    grain.experimental = types.SimpleNamespace(TFRecordIterDataset=lambda file: read.append(file) or [b""])
    monkeypatch.setitem(sys.modules, "grain", grain)
    readers = data.feed_readers(clips)
    assert "not installed" not in capsys.readouterr().out
    assert [readers[name]() for name in readers if "Grain" not in name] == [3] * 4
    assert [readers[name]() for name in readers if "Grain" in name] == [2] and len(read) == 2
