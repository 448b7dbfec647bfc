"""Public tf.data datasets as other programs use them: the lines of the pages, two processes, and the end of Python."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tools.bair_records import write_download
from vidcomp_jax.data import DataConfig, import_tensorflow, iterate_numpy, open_clips

ROOT = Path(__file__).parent.parent
KTH_LIKE = ROOT / "tests" / "data" / "kth_like"


@pytest.fixture(scope="module")
def download(tmp_path_factory):
    import_tensorflow()
    folder = tmp_path_factory.mktemp("bair")
    write_download(folder, train=[3, 2], test=[1])
    return folder


class Done(Exception):
    """Raised to leave a loop without end."""


@pytest.mark.parametrize("page", ["data.md", "python.md"])
def test_what_the_pages_show_runs(download, page, monkeypatch, tmp_path):
    seen = []

    def train(source, driving):
        seen.append((source.shape, driving.dtype))
        if len(seen) == 3:
            raise Done

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    blocks = [block for block in blocks if "_dataset(" in block or "tf." in block]
    for block in blocks:
        names = {"train": train, "Path": Path}
        folder = KTH_LIKE if '"kth"' in block else download
        try:
            exec(block.replace('"DIR"', f"Path({str(folder)!r})"), names)
        except Done:
            assert seen == [((32, 64, 64, 3), np.uint8)] * 3
        if "dataset" in names:
            element = next(iterate_numpy(names["dataset"]))
            shapes = [x.shape[-4:] for name, x in element.items() if name in ("frames", "image_main")]
            assert shapes in ([(16, 64, 64, 1)], [(30, 64, 64, 3)])
    assert len(blocks) == {"data.md": 2, "python.md": 1}[page]


SHARD = """
import json, sys
import vidcomp_jax.data as data
clips = data.open_clips(data.DataConfig(name="bair", data_dir=sys.argv[1], num_channels=3), "train")
dataset = data.trajectory_dataset(clips, seed=7, epochs=3, num_shards=2, index=int(sys.argv[2]))
print(json.dumps([clips.names[element["clip"]] for element in data.iterate_numpy(dataset.prefetch(2))]))
"""


def test_two_processes_read_every_record_once_an_epoch(download):
    started = [
        subprocess.Popen([sys.executable, "-c", SHARD, str(download), str(i)], stdout=subprocess.PIPE, text=True)
        for i in range(2)
    ]
    shards = [json.loads(process.communicate(timeout=120)[0]) for process in started]
    assert [len(shard) for shard in shards] == [8, 7]
    order = [shards[number % 2][number // 2] for number in range(15)]
    names = sorted(open_clips(DataConfig(name="bair", data_dir=download, num_channels=3), "train").names)
    assert len(names) == 5
    epochs = [order[0:5], order[5:10], order[10:15]]
    assert [sorted(epoch) for epoch in epochs] == [names] * 3
    assert len(set(map(tuple, epochs))) > 1


ENDING = """
import sys
if sys.argv[2] == "jax":
    import jax  # which sets TF_CPP_MIN_LOG_LEVEL
import numpy as np
import vidcomp_jax.data as data
data.pair_dataset, data.parse_bair, data.trajectory_dataset
assert "tensorflow" not in sys.modules
class Slow(data.ArrayClips):
    def frames(self, clip, indices):
        sum(range(300_000))
        return super().frames(clip, indices)
clips = Slow(np.zeros((40, 4, 4, 1), np.uint8), [10] * 4)
dataset = data.pair_dataset(clips, seed=0, epochs=None).batch(4).prefetch(8)
batches = iter(dataset) if sys.argv[1] == "plain" else data.iterate_numpy(dataset)
print(np.asarray(next(batches)["source"]).shape)
raise SystemExit(3)
"""


@pytest.mark.parametrize(("iterator", "before"), [("plain", "jax"), ("numpy", "nothing")])
def test_python_ends_quietly_while_elements_are_read_ahead(iterator, before, monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    command = [sys.executable, "-c", ENDING, iterator, before]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (shown.returncode, shown.stdout, shown.stderr) == (3, "(4, 4, 4, 1)\n", "")
