"""Damaged files in the folder of a run: scores and logs cost nothing, and damaged checkpoints can be left out."""

import json
import shutil

import numpy as np
import pytest

from tests.support.toy_training import config, lines_of, run, weights_of
from vidcomp_jax.errors import InputError
from vidcomp_jax.storage.steps import ARRAYS, CHECKPOINTS, best_step, steps_in
from vidcomp_jax.training.curves import read_scalars


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with the checkpoints 2 and 4, and the weights of one of 6 steps."""
    folder = tmp_path_factory.mktemp("trained")
    run(folder / "run", config=config(num_steps=4, checkpoint_every=2))
    return folder / "run", weights_of(run(folder / "whole", config=config(num_steps=6)).model)


@pytest.fixture
def workdir(trained, tmp_path):
    shutil.copytree(trained[0], tmp_path / "run")
    return tmp_path / "run"


def goes_on(workdir, trained, **settings):
    result = run(workdir, config=config(num_steps=6, **settings))
    for found, expected in zip(weights_of(result.model).values(), trained[1].values(), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("content", [b"", b"\xff\0garbage", b"5", b'{"score": "x"}', b"[" * 5000])
def test_a_score_that_cannot_be_read_costs_nothing(content, trained, workdir, caplog):
    for file in ("metrics/metrics", "_CHECKPOINT_METADATA"):
        (workdir / CHECKPOINTS / "2" / file).write_bytes(content)
    if content == b"":  # one whole run is enough, the others only open it
        goes_on(workdir, trained)
    else:
        run(workdir, config=config(num_steps=4))
    assert "checkpoints/2: its score cannot be read; it counts as not evaluated" in caplog.text
    with pytest.raises(InputError, match="was evaluated"):
        best_step(workdir / CHECKPOINTS)


def test_log_lines_that_cannot_be_read_are_left_out(workdir, caplog):
    log, odd = workdir / "metrics.jsonl", [b"5", b"{}", b"\xff", b'{"step": "x"}', b"[" * 5000, b'{"step": 1, "a": []}']
    lines = log.read_bytes().splitlines()
    log.write_bytes(b"\n".join([*odd, *lines]) + b"\n")
    assert {step for step, _ in read_scalars(log)["loss"]} == {1, 2, 3, 4}
    run(workdir, config=config(num_steps=4))
    assert [line["step"] for line in lines_of(workdir)] == [json.loads(line)["step"] for line in lines]
    assert f"6 of {6 + len(lines)} lines cannot be read and are left out" in caplog.text


def test_damaged_checkpoints_are_named_with_what_works(trained, workdir, caplog):
    (workdir / CHECKPOINTS / "4" / ARRAYS / "_METADATA").write_bytes(b"{")
    (workdir / CHECKPOINTS / "5").mkdir()
    for name in ("5", "4"):
        with pytest.raises(
            InputError, match=rf"checkpoints/{name}/{ARRAYS}: .*`from_last_good`.* or move .*/{name} away"
        ):
            run(workdir, config=config(num_steps=6))
        if name == "5":
            (workdir / CHECKPOINTS / "5").rename(workdir / "5")
    (workdir / "5").rename(workdir / CHECKPOINTS / "5")
    goes_on(workdir, trained, from_last_good=True, checkpoint_every=2)
    assert sorted(path.name for path in (workdir / "damaged").iterdir()) == ["4", "5"]
    assert steps_in(workdir / CHECKPOINTS) == [2, 4, 6] and "it was moved to" in caplog.text


def test_without_a_whole_checkpoint_all_stay_where_they_are(workdir):
    for step in steps_in(workdir / CHECKPOINTS):
        shutil.rmtree(workdir / CHECKPOINTS / str(step) / ARRAYS)
    with pytest.raises(InputError, match="none of the checkpoints 4, 2 can be read"):
        run(workdir, config=config(num_steps=6, from_last_good=True))
    assert steps_in(workdir / CHECKPOINTS) == [2, 4]
