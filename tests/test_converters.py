"""PyTorch files to model folders and back: golden predictions, bitwise round trips, additional contents."""

import dataclasses
import itertools
import json
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
import yaml
from flax import nnx

import vidcomp_jax
from converters import convert_fomm, export_fomm
from converters.convert_fomm import ConvertFOMMConfig
from converters.export_fomm import ExportFOMMConfig
from converters.fomm_state import dump_fomm_state, fomm_differences, parameter_names
from converters.official import RELEASED
from converters.torch_files import write_torch_file
from tests.support import golden
from tests.support.conversion import ROOT, convert, hollow_checkpoint, recipe_file
from tests.support.tiny_fomm import tiny
from tools.make_checkpoint import recipe_state
from vidcomp_jax import Keypoints
from vidcomp_jax.data import Pair
from vidcomp_jax.fomm.losses import FOMMLossConfig, TrainingNetworks, fomm_objective
from vidcomp_jax.fomm.official import fomm_config
from vidcomp_jax.storage.arrays import read_arrays
from vidcomp_jax.storage.checkpoint import WEIGHTS
from vidcomp_jax.training.loop import fit

RELEASED_NAMES = [name for name in golden.layouts() if re.fullmatch(r"[a-z-]+(256|128)", name)]


def test_nine_configurations_are_released():
    assert sorted(RELEASED_NAMES) == sorted(RELEASED) and len(RELEASED) == 9


@pytest.mark.parametrize("name", RELEASED_NAMES)
def test_released_configuration_has_the_official_keys_and_shapes(name):
    assert RELEASED[name].fomm == fomm_config(golden.layouts()[name]["model_params"])
    assert RELEASED[name].data.size == int(name.rsplit("-", 1)[1])
    skeleton = convert_fomm._skeleton(RELEASED[name].fomm)
    assert fomm_differences(skeleton, hollow_checkpoint(name)) == []
    without = hollow_checkpoint(name)
    del without["kp_detector"]["kp.bias"], without["generator"]["dense_motion_network.mask.bias"]
    assert len(fomm_differences(skeleton, without)) == 2


@pytest.mark.parametrize("name", [*RELEASED_NAMES, *golden.TINY])
def test_parameters_are_in_the_order_of_the_official_optimizers(name):
    layout = golden.layouts()[name]
    model = convert_fomm._skeleton(fomm_config(layout["model_params"]))
    buffers = (".running_mean", ".running_var", ".num_batches_tracked", ".weight_u", ".weight_v", "down.weight")
    expected = {part: [key for key in keys if not key.endswith(buffers)] for part, keys in layout["state"].items()}
    assert parameter_names(model) == expected


_PREDICT = """
import json, sys
import numpy as np
import vidcomp_jax
for folder, images, output in json.loads(sys.argv[1]):
    model = vidcomp_jax.load_fomm(folder)
    with np.load(images) as file:
        source, driving = (file[name].astype(np.float32) / 255 for name in ("source", "driving"))
    found = model.detect(np.stack([source, driving]))
    ends = [type(found)(*(x[i] for x in found)) for i in range(2)]
    np.save(output, model.render(source, *ends).prediction)
"""


def test_converted_folders_give_the_golden_predictions_in_a_fresh_process(tmp_path):
    cases = dict.fromkeys(golden.TINY, ("legacy", "zip")) | {"bair-256": ("legacy",), "kth-128": ("zip",)}
    jobs = []
    for name, kinds in cases.items():
        weights = []
        for kind in kinds:
            checkpoint = recipe_file(tmp_path / "checkpoint.pth.tar", name, kind)
            assert zipfile.is_zipfile(checkpoint) == (kind == "zip")
            folder = convert(checkpoint, name, tmp_path / f"{name}-{kind}")
            checkpoint.unlink()
            weights.append(read_arrays(folder / WEIGHTS))
        # Both kinds give the same folder, bit for bit, so that predictions with one of them are enough.
        for one in weights[1:]:
            assert one.keys() == weights[0].keys()
            assert all(np.array_equal(one[key], value) for key, value in weights[0].items())
        images = golden.FOLDER / f"forward-{name}.npz"
        jobs.append([str(folder), str(images), str(tmp_path / f"{name}.npy")])
    subprocess.run([sys.executable, "-c", _PREDICT, json.dumps(jobs)], check=True, cwd=ROOT)
    for name in cases:
        expected = golden.arrays(f"forward-{name}")["align1/prediction"]
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", golden.TINY)
def test_round_trip_is_bitwise(tmp_path, name):
    kinds = itertools.cycle(["legacy", "zip"])
    checkpoint = recipe_file(tmp_path / "in.pth.tar", name, next(kinds))
    folder = convert(checkpoint, name, tmp_path / "model")
    export_fomm.main(ExportFOMMConfig(fomm=folder, output=tmp_path / "out.pth.tar", format=next(kinds)))
    before, after = (torch.load(tmp_path / f"{x}.pth.tar", weights_only=True) for x in ("in", "out"))
    layout = golden.layouts()[name]["state"]
    optimizers = {f"optimizer_{part}" for part in layout}
    assert set(after) == {*layout, *optimizers, "epoch"} and not any(after[name]["state"] for name in optimizers)
    for part, keys in layout.items():
        assert [(key, list(value.shape)) for key, value in after[part].items()] == list(keys.items())
        for key, value in before[part].items():
            assert after[part][key].dtype == value.dtype and torch.equal(after[part][key], value), key


def test_model_trained_here_exports_and_imports_to_equal_predictions(tmp_path):
    loss = FOMMLossConfig(scales=(1.0,), generator_gan=0.0, equivariance_position=0.0, equivariance_jacobian=0.0)
    training = tiny(workdir=tmp_path / "run", loss=loss)
    rng = np.random.default_rng(0)
    pair = Pair(*rng.uniform(size=(2, 4, 32, 32, 1)).astype(np.float32))
    fit(
        TrainingNetworks(vidcomp_jax.FirstOrderMotionModel(training.fomm, rngs=nnx.Rngs(0)), training.loss),
        tx=training.optimizer.build(),
        objective=fomm_objective,
        batches=lambda *_: itertools.repeat(pair),
        config=dataclasses.replace(training.train, num_steps=3),
        workdir=training.workdir,
        run_config=training,
    )
    export_fomm.main(ExportFOMMConfig(fomm=tmp_path / "run", output=tmp_path / "model.pth.tar"))
    fomm = training.fomm
    official = {
        "model_params": {
            "common_params": {"num_kp": fomm.num_keypoints, "num_channels": 1, "estimate_jacobian": True},
            "kp_detector_params": {**_sizes(fomm.detector), "temperature": 0.1, "scale_factor": 0.5},
            "generator_params": {
                "block_expansion": fomm.generator.width,
                "max_features": fomm.generator.max_width,
                "num_down_blocks": 2,
                "num_bottleneck_blocks": fomm.generator.num_bottleneck_blocks,
                "estimate_occlusion_map": True,
                "dense_motion_params": {**_sizes(fomm.dense_motion), "scale_factor": 0.5},
            },
            "discriminator_params": _sizes(fomm.discriminator),
        },
        "dataset_params": {"root_dir": "data", "frame_shape": [32, 32, 1]},
    }
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(official))
    convert_fomm.main(
        ConvertFOMMConfig(
            checkpoint=tmp_path / "model.pth.tar", config=str(tmp_path / "x.yaml"), output=tmp_path / "back"
        )
    )
    assert json.loads((tmp_path / "back" / "config.json").read_text())["data"]["size"] == 32
    trained, back = vidcomp_jax.load_fomm(tmp_path / "run"), vidcomp_jax.load_fomm(tmp_path / "back")
    assert trained.config == back.config
    frames = np.random.default_rng(0).uniform(size=(2, 32, 32, 1)).astype(np.float32)
    predictions = []
    for model in (trained, back):
        found = model.detect(frames)
        ends = [Keypoints(*(x[i] for x in found)) for i in range(2)]
        predictions.append(np.asarray(model.render(frames[0], *ends).prediction))
    np.testing.assert_array_equal(*predictions)
    # Training updated the statistics and their count; the round trip preserves both.
    weights = [dump_fomm_state(model)["generator"] for model in (trained, back)]
    assert weights[0]["first.norm.num_batches_tracked"] == weights[1]["first.norm.num_batches_tracked"] == 3


def _sizes(config):
    return {"block_expansion": config.width, "max_features": config.max_width, "num_blocks": config.num_blocks}


def test_what_official_files_hold_besides(tmp_path, capsys):
    """Data-parallel prefixes, optimizer states, and spectral norm vectors that PyTorch 1.0 does not store."""
    name = "tiny-rgb-sn"
    state = recipe_state(name)
    whole = convert(recipe_file(tmp_path / "whole.pth", name), name, tmp_path / "whole")
    discriminator = {f"module.{k}": v for k, v in state["discriminator"].items() if not k.endswith("weight_v")}
    quotients = {k.removesuffix("_orig"): v / 2 for k, v in discriminator.items() if k.endswith("weight_orig")}
    checkpoint = {**state, "discriminator": {**discriminator, **quotients}, "epoch": 3}
    checkpoint["optimizer_generator"] = {"state": {0: {"exp_avg": np.zeros(3, np.float32)}}, "param_groups": []}
    write_torch_file(tmp_path / "old.pth", checkpoint)
    capsys.readouterr()
    convert(tmp_path / "old.pth", name, tmp_path / "old")
    said = capsys.readouterr().out
    assert "left out: optimizer_generator" in said and f"{len(quotients)} quotients" in said
    old, new = (dump_fomm_state(vidcomp_jax.load_fomm(folder)) for folder in (tmp_path / "old", whole))
    for part, keys in new.items():
        for key, value in keys.items():
            if key.endswith("weight_v"):
                stem = key.removesuffix("weight_v")
                weight = keys[f"{stem}weight_orig"].reshape(len(keys[f"{stem}weight_orig"]), -1)
                expected = weight.T @ keys[f"{stem}weight_u"]
                np.testing.assert_allclose(old[part][key], expected / np.linalg.norm(expected), atol=1e-6)
            else:
                np.testing.assert_array_equal(old[part][key], value)


def test_missing_discriminator_is_said_and_the_folder_is_whole(tmp_path, capsys):
    state = recipe_state("tiny-gray")
    del state["discriminator"]
    write_torch_file(tmp_path / "x.pth", state)
    convert(tmp_path / "x.pth", "tiny-gray", tmp_path / "model", align_corners=False)
    assert "no discriminator in the file" in capsys.readouterr().out
    model = vidcomp_jax.load_fomm(tmp_path / "model")
    assert not model.config.align_corners
    dumped = dump_fomm_state(model)
    assert all(np.isfinite(value).all() for value in dumped["discriminator"].values())
    for key, value in state["generator"].items():
        np.testing.assert_array_equal(dumped["generator"][key], value)
