"""Checkpoints, model folders and config files: round trips, and errors that name the problem."""

import dataclasses
import os
import pathlib
import resource
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vidcomp_jax.errors import InputError, require_positive
from vidcomp_jax.nn.layers import BatchNorm, Constant
from vidcomp_jax.storage import steps
from vidcomp_jax.storage.checkpoint import Checkpoints, load_weights, save_model
from vidcomp_jax.storage.config import load_config, save_config
from vidcomp_jax.storage.folders import MARKER
from vidcomp_jax.storage.steps import best_step, latest_step


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    rate: float = 0.1
    sizes: tuple[int, ...] = (1, 2)

    def __post_init__(self):
        require_positive(self, "rate")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    width: int = 4
    folder: pathlib.Path = pathlib.Path("data")
    part: Part = Part()


class Net(nnx.Module):
    def __init__(self, config: Config, seed: int = 0):
        rngs = nnx.Rngs(seed)
        self.layers = nnx.List([nnx.Linear(3, config.width, rngs=rngs), nnx.Linear(config.width, 1, rngs=rngs)])
        self.norm = BatchNorm(config.width)
        self.norm.mean[...] += seed
        self.frozen = Constant(jnp.full(2, float(seed)))


class Whole(nnx.Module):
    def __init__(self, config: Config, seed: int = 0):
        self.net = Net(config, seed)
        self.critic = nnx.Linear(2, 2, rngs=nnx.Rngs(seed))


def numbers(seed: int = 0) -> dict:
    random = np.random.default_rng(seed)
    return {
        "layers": {0: random.normal(size=(64, 3)).astype(np.float32), 1: jnp.ones(3, jnp.bfloat16)},
        "count": jnp.asarray(7, jnp.int32),
    }


def same(a, b) -> bool:
    return jax.tree.all(jax.tree.map(lambda x, y: np.array_equal(x, y) and x.dtype == y.dtype, a, b))


def test_last_and_best_stay(tmp_path):
    scores = {1: 0.5, 2: 0.1, 3: float("nan"), 4: 0.3, 5: float("inf")}
    with Checkpoints(tmp_path, keep_last=2) as checkpoints:
        for step, score in scores.items():
            checkpoints.save(step, numbers(step), score)
        assert same(checkpoints.restore(numbers()), numbers(5))
        assert same(checkpoints.restore(numbers(), step=2), numbers(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "4", "5"]
    assert (latest_step(tmp_path), best_step(tmp_path)) == (5, 2)


def test_saved_state_may_be_donated_at_once(tmp_path):
    change = jax.jit(lambda x: x * 0, donate_argnums=0)
    array = jnp.arange(1000.0)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"a": array})
        change(array)
        np.testing.assert_array_equal(checkpoints.restore({"a": jnp.zeros(1000)})["a"], np.arange(1000))


def test_every_damaged_file_is_noticed(tmp_path, capfd):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, numbers())
        checkpoints.wait()
        folder = tmp_path / "1" / "arrays"
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        needed = [path for path in files if path.name != "commit_success.txt" and "ocdbt.process" not in path.parts[-2]]
        assert len(needed) >= 3
        for path in needed:
            content = path.read_bytes()
            flipped = bytearray(content)
            flipped[len(content) // 2] ^= 0xFF
            for damaged in (content[: len(content) // 2], None, bytes(flipped)):
                path.unlink()
                if damaged is not None:
                    path.write_bytes(damaged)
                try:
                    restored = checkpoints.restore(numbers())
                except InputError as error:
                    assert str(folder) in str(error) and "\n" not in str(error)
                else:
                    assert same(restored, numbers()), path
                path.write_bytes(content)
        (folder / "_METADATA").unlink()
        with pytest.raises(InputError, match="damaged or incomplete"):
            checkpoints.restore(numbers())
    assert "Traceback" not in capfd.readouterr().err


def test_flipped_bits_fail_the_checksum(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"a": np.arange(50_000, dtype=np.float32)})
        checkpoints.wait()
        path = max((path for path in tmp_path.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0x01
        path.write_bytes(content)
        with pytest.raises(InputError, match="damaged"):
            checkpoints.restore({"a": np.zeros(50_000, np.float32)})


def test_misfits_are_listed_together(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, {"a": jnp.ones(3), "b": jnp.ones(2), "c": jnp.ones(1)})
        with pytest.raises(InputError) as caught:
            checkpoints.restore(
                {"a": jnp.ones(3), "b": jnp.ones((2, 2)), "d": jnp.ones(1), "c": jnp.ones(1, jnp.int32)}
            )
    message = str(caught.value)
    assert "d is missing" in message
    assert "b is float32[2] there, float32[2, 2] in the model" in message
    assert "c is float32[1] there, int32[1] in the model" in message
    assert "a is" not in message


def test_no_checkpoint(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(InputError, match="no checkpoint there; found none"):
            checkpoints.restore(numbers())
        checkpoints.save(4, numbers())
        with pytest.raises(InputError, match="no checkpoint of step 5 there; found 4"):
            checkpoints.restore(numbers(), step=5)
    with pytest.raises(InputError, match="no checkpoint there was evaluated"):
        best_step(tmp_path)


def test_full_disk_keeps_what_was_written(tmp_path, capfd):
    """A limit on the file size is reached while the second checkpoint is written."""
    small, large = {"a": np.zeros(100, np.float32)}, {"a": np.random.default_rng(0).normal(size=300_000)}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(InputError, match="cannot be written to: file too large"), Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, small)
        checkpoints.wait()
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
            checkpoints.save(2, large)
            checkpoints.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == ["1"]
    with Checkpoints(tmp_path) as checkpoints:
        assert same(checkpoints.restore(small), small)
    assert "Traceback" not in capfd.readouterr().err


def test_an_unfinished_checkpoint_goes_even_if_a_thread_still_writes_into_it(tmp_path, monkeypatch):
    unfinished = tmp_path / "2.orbax-checkpoint-tmp"
    unfinished.mkdir()
    real, calls = steps.shutil.rmtree, []

    def written_into_meanwhile(path, **options):
        calls.append(path)
        real(path, **options)
        if len(calls) < 3:
            (path / "late").mkdir(parents=True)

    monkeypatch.setattr(steps.shutil, "rmtree", written_into_meanwhile)
    with Checkpoints(tmp_path):
        assert os.listdir(tmp_path) == []
    assert len(calls) == 3


def test_a_run_leaves_pythons_hooks_alone(tmp_path):
    hook = sys.unraisablehook
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, numbers())
        assert sys.unraisablehook is hook
    assert sys.unraisablehook is hook


def test_model_folder(tmp_path):
    config = Config(width=5, part=Part(sizes=(3,)))
    saved = Net(config, seed=1)
    save_model(tmp_path / "new" / "net", saved, config)
    assert sorted(os.listdir(tmp_path / "new" / "net")) == [MARKER, "config.json", "weights"]
    loaded_config = load_config(tmp_path / "new" / "net" / "config.json", Config)
    loaded = Net(loaded_config, seed=2)
    load_weights(loaded, tmp_path / "new" / "net")
    assert loaded_config == config
    for kind in (nnx.Param, nnx.BatchStat):
        assert same(nnx.to_pure_dict(nnx.state(saved, kind)), nnx.to_pure_dict(nnx.state(loaded, kind)))
    assert (loaded.frozen[...] == 2).all()
    with pytest.raises(InputError, match="exists; give a new folder"):
        save_model(tmp_path / "new" / "net", saved, config)
    other = Net(Config(width=6))
    before = jax.tree.map(np.array, nnx.to_pure_dict(nnx.state(other)))
    with pytest.raises(InputError, match=r"params\.layers\.0\.kernel is float32\[3, 5\] there, float32\[3, 6\]"):
        load_weights(other, tmp_path / "new" / "net")
    assert same(before, nnx.to_pure_dict(nnx.state(other)))
    with pytest.raises(InputError, match="neither weights/"):
        load_weights(other, tmp_path)
    with pytest.raises(InputError, match=r"config\.json: no such file"):
        load_config(tmp_path / "config.json", Config)


def test_part_of_a_module(tmp_path):
    save_model(tmp_path / "whole", Whole(Config(), seed=1), Config())
    net = Net(Config(), seed=2)
    load_weights(net, tmp_path / "whole", prefix="net")
    np.testing.assert_array_equal(net.layers[0].kernel[...], Net(Config(), seed=1).layers[0].kernel[...])
    with pytest.raises(InputError, match=r"params\.norm\.scale is missing"):
        load_weights(net, tmp_path / "whole", prefix="critic")


def test_failed_model_folder_leaves_nothing(tmp_path):
    with pytest.raises(NotImplementedError):
        save_model(tmp_path / "net", Net(Config()), Config(folder=object()))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "an object of settings was expected"),
        ('{"width": 4}', "missing entry folder, missing entry part"),
        (
            '{"width": 4.5, "folder": "x", "part": {"rate": 1, "sizes": []}}',
            r"Expected `int`, got `float` - at `\$.width`",
        ),
        (
            '{"width": 4, "folder": "x", "part": {"rate": 0, "sizes": []}}',
            r": part\.rate is 0\.0; it must be above 0",
        ),
        ('{"width": 4, "folder": "x", "part": {"rate": 1, "sizes": [], "more": 1}}', r"unknown entry part\.more"),
    ],
)
def test_bad_config_files(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_config(tmp_path / "config.json", Config)
    assert str(tmp_path / "config.json") in str(caught.value)


def test_config_file(tmp_path):
    config = Config(width=7, folder=pathlib.Path("/x/y"), part=Part(rate=1e-7, sizes=()))
    save_config(tmp_path / "a" / "config.json", config)
    assert load_config(tmp_path / "a" / "config.json", Config) == config
    assert os.listdir(tmp_path / "a") == ["config.json"]
