"""PyTorch files to model folders and back: golden predictions, bitwise round trips, one clear line for what is bad."""

import collections
import dataclasses
import itertools
import json
import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import golden
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import yaml
from flax import nnx

import vidcomp_jax
from converters import convert_fomm, convert_motion, convert_vgg19, export_fomm
from converters.convert_fomm import ConvertFOMMConfig
from converters.convert_motion import ConvertMotionConfig
from converters.convert_vgg19 import ConvertVGG19Config
from converters.export_fomm import ExportFOMMConfig
from converters.fomm_state import dump_fomm_state, fomm_config, fomm_differences
from converters.official import RELEASED, official_config
from converters.torch_files import read_torch_file, write_torch_file
from experiments.configs import tiny
from vidcomp_jax import InputError, Keypoints
from vidcomp_jax.data import Pair
from vidcomp_jax.motion.clips import MotionClips
from vidcomp_jax.motion.model_files import load_motion_model
from vidcomp_jax.objectives import TrainingNetworks, fomm_objective
from vidcomp_jax.perceptual import load_vgg19
from vidcomp_jax.train import fit

ROOT = Path(__file__).parent.parent
RELEASED_NAMES = [name for name in golden.layouts() if re.fullmatch(r"[a-z-]+(256|128)", name)]


def write_yaml(path, name):
    path.write_text(yaml.safe_dump({"model_params": golden.layouts()[name]["model_params"]}))
    return str(path)


def convert(checkpoint, name, output, **options):
    config = name if name in RELEASED else write_yaml(output.with_suffix(".yaml"), name)
    convert_fomm.main(ConvertFOMMConfig(checkpoint=checkpoint, config=config, output=output, **options))
    return output


def recipe_file(path, name, file_format="legacy", **more):
    write_torch_file(path, {**golden.recipe_state(name), "epoch": 99, **more}, file_format)
    return path


def hollow_checkpoint(name):
    """The keys and shapes of a checkpoint, at no cost; the blur kernels are true."""
    layout = golden.layouts()[name]
    return {
        part: {
            key: golden.make_checkpoint.gaussian_kernel(layout["scale_factor"], shape)
            if key.endswith("down.weight")
            else np.broadcast_to(np.float32(0), shape)
            for key, shape in keys.items()
        }
        for part, keys in layout["state"].items()
    }


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


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
    cases = [(name, kind) for name in golden.TINY for kind in ("legacy", "zip")]
    cases += [("bair-256", "legacy"), ("kth-128", "zip")]
    jobs = []
    for name, kind in cases:
        checkpoint = recipe_file(tmp_path / "checkpoint.pth.tar", name, kind)
        assert zipfile.is_zipfile(checkpoint) == (kind == "zip")
        folder = convert(checkpoint, name, tmp_path / f"{name}-{kind}")
        checkpoint.unlink()
        images = golden.FOLDER / f"forward-{name}.npz"
        jobs.append([str(folder), str(images), str(tmp_path / f"{name}-{kind}.npy")])
    subprocess.run([sys.executable, "-c", _PREDICT, json.dumps(jobs)], check=True, cwd=ROOT)
    for name, kind in cases:
        expected = golden.arrays(f"forward-{name}")["align1/prediction"]
        np.testing.assert_allclose(np.load(tmp_path / f"{name}-{kind}.npy"), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", golden.TINY)
def test_round_trip_is_bitwise(tmp_path, name):
    kinds = itertools.cycle(["legacy", "zip"])
    checkpoint = recipe_file(tmp_path / "in.pth.tar", name, next(kinds))
    folder = convert(checkpoint, name, tmp_path / "model")
    export_fomm.main(ExportFOMMConfig(fomm=folder, output=tmp_path / "out.pth.tar", format=next(kinds)))
    before, after = (torch.load(tmp_path / f"{x}.pth.tar", weights_only=True) for x in ("in", "out"))
    layout = golden.layouts()[name]["state"]
    assert {part for part in after if part != "epoch"} == set(layout)
    for part, keys in layout.items():
        assert {key: list(value.shape) for key, value in after[part].items()} == keys
        for key, value in before[part].items():
            assert after[part][key].dtype == value.dtype and torch.equal(after[part][key], value), key


def test_model_trained_here_exports_and_imports_to_equal_predictions(tmp_path):
    training = tiny(workdir=tmp_path / "run")
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
                "num_bottleneck_blocks": 2,
                "estimate_occlusion_map": True,
                "dense_motion_params": {**_sizes(fomm.dense_motion), "scale_factor": 0.5},
            },
            "discriminator_params": _sizes(fomm.discriminator),
        },
        "dataset_params": {"frame_shape": [32, 32, 1]},
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
    # Training moved the statistics and their count, and both came back.
    weights = [dump_fomm_state(model)["generator"] for model in (trained, back)]
    assert weights[0]["first.norm.num_batches_tracked"] == weights[1]["first.norm.num_batches_tracked"] == 3


def _sizes(config):
    return {"block_expansion": config.width, "max_features": config.max_width, "num_blocks": config.num_blocks}


def test_what_official_files_hold_besides(tmp_path, capsys):
    """Prefixes of data-parallel training, optimizer states, vectors that PyTorch 1.0 did not store."""
    name = "tiny-rgb-sn"
    state = golden.recipe_state(name)
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
    state = golden.recipe_state("tiny-gray")
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


def test_another_configuration_is_named(tmp_path):
    checkpoint = hollow_checkpoint("taichi-adv-256")
    with pytest.raises(InputError) as error:
        convert_fomm.convert(checkpoint, RELEASED["taichi-256"], name="taichi-256", path=Path("x.pth"))
    message = str(error.value)
    assert "x.pth: does not fit --config=taichi-256" in message and "\n" not in message
    assert "it fits --config=vox-adv-256 or --config=taichi-adv-256; 1 differences" in message
    assert "discs.1.down_blocks.0.conv.weight has shape (64, 13, 4, 4), expected (64, 3, 4, 4)" in message
    blurred = hollow_checkpoint("kth-128")
    blurred["kp_detector"]["down.weight"] = blurred["kp_detector"]["down.weight"] * 0.9
    skeleton = convert_fomm._skeleton(RELEASED["kth-128"].fomm)
    assert fomm_differences(skeleton, blurred) == [
        "kp_detector: down.weight is not the Gaussian blur this model computes"
    ]


class RunsCode:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def bad_files(folder):
    """Name -> what the one line must say; the files are written to `folder`."""
    whole = {kind: recipe_file(folder / kind, "tiny-gray", kind).read_bytes() for kind in ("legacy", "zip")}
    damaged = bytearray(whole["legacy"])
    damaged[300:400] = bytes(100)
    with zipfile.ZipFile(folder / "other.zip", "w") as archive:
        archive.writestr("read.me", "x")
    code = {"generator": RunsCode(folder / "executed")}
    torch.save(code, folder / "code-zip")
    torch.save(code, folder / "code-legacy", _use_new_zipfile_serialization=False)
    torch.save([1], folder / "list")
    torch.save({"state_dict": {"a": torch.ones(2)}}, folder / "stranger")
    torch.save({"generator": 3, "kp_detector": {}}, folder / "number")
    contents = {
        "page": b"\n <!DOCTYPE html><html><title>Quota exceeded</title></html>",
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 250379556\n",
        "empty": b"",
        "text": b"epoch: 3",
        "cut-legacy": whole["legacy"][: len(whole["legacy"]) // 2],
        "cut-names": whole["legacy"][:300],
        "cut-start": whole["legacy"][:9],
        "cut-zip": whole["zip"][: len(whole["zip"]) // 2],
        "damaged": bytes(damaged),
        "code-pickle": pickle.dumps(code),
        "code-pickle-0": pickle.dumps(code, protocol=0),
        "gzip": b"\x1f\x8b\x08\x00",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    refused = "refused, and nothing of it was run.* would call .*(pathlib|getattr)"
    damage = "cut off or damaged .*download it again"
    return {
        "page": "a web page",
        "pointer": "Git LFS pointer",
        "empty": "an empty file",
        "text": "not a PyTorch file",
        "cut-legacy": damage,
        "cut-names": damage,
        "cut-start": damage,
        "cut-zip": damage,
        "damaged": damage,
        "gzip": "gzip; unpack it",
        "other.zip": "a zip archive of other files",
        "list": "holds a list; a dict",
        "stranger": "no FOMM checkpoint; found state_dict",
        "number": "generator is a int; a state dict",
        "no-such-file": "no such file",
        ".": "a folder",
    } | dict.fromkeys(["code-zip", "code-legacy", "code-pickle", "code-pickle-0"], refused)


def test_bad_files_are_one_clear_line_and_leave_nothing(tmp_path):
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    outputs.mkdir()
    for name, message in bad_files(inputs).items():
        with pytest.raises(InputError, match=message) as error:
            convert_fomm.main(ConvertFOMMConfig(checkpoint=inputs / name, config="kth-128", output=outputs / "model"))
        assert "\n" not in str(error.value) and str(inputs / name) in str(error.value)
        assert not files_in(outputs), name
    assert not (inputs / "executed").exists()


def test_command_ends_with_one_line_and_exit_code(tmp_path):
    (tmp_path / "vox-cpk.pth.tar").write_bytes(b"<html>")
    command = [sys.executable, "-m", "converters.convert_fomm", str(tmp_path / "vox-cpk.pth.tar"), "--config=vox-256"]
    done = subprocess.run([*command, f"--output={tmp_path / 'vox'}"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and not done.stdout
    assert re.fullmatch(r"error: .*vox-cpk.pth.tar: a web page.*\n", done.stderr)
    assert files_in(tmp_path) == ["vox-cpk.pth.tar"]


def test_without_pytorch_it_says_what_to_install(tmp_path, monkeypatch):
    recipe_file(tmp_path / "x.pth", "tiny-gray")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"needs PyTorch.*pip install 'vidcomp_jax\[torch\]'"):
        read_torch_file(tmp_path / "x.pth")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(InputError, match=r"PyYAML.*pip install 'vidcomp_jax\[torch\]'"):
        official_config(write_yaml(tmp_path / "x.yaml", "tiny-gray"))


@pytest.mark.parametrize(
    "content,message",
    [
        ("a: [", "not YAML"),
        ("[1, 2]", "no entry model_params"),
        ("train_params: {}", "no entry model_params"),
        ("model_params: {common_params: {num_kp: 3}}", "missing required field `num_channels` - at `common_params`"),
        ("model_params: {networks: 3}", "unknown field `networks`"),
    ],
)
def test_bad_configurations(tmp_path, content, message):
    (tmp_path / "x.yaml").write_text(content)
    with pytest.raises(InputError, match=message) as error:
        official_config(str(tmp_path / "x.yaml"))
    assert str(tmp_path / "x.yaml") in str(error.value) and "\n" not in str(error.value)


def test_unknown_configuration_names_the_known_ones():
    with pytest.raises(InputError, match=r"--config=vox: neither .*vox-256, vox-adv-256, .*kth-128"):
        official_config("vox")
    with pytest.raises(InputError, match="no such file"):
        official_config("missing.yaml")


def test_yaml_says_the_size_of_frames(tmp_path):
    params = golden.layouts()["kth-128"]["model_params"]
    path = tmp_path / "kth.yaml"
    for shape, size in (([128, 128, 1], 128), (None, 256)):
        entries = {"model_params": params} | ({"dataset_params": {"frame_shape": shape}} if shape else {})
        path.write_text(yaml.safe_dump(entries))
        assert official_config(str(path)).data.size == size
    path.write_text(yaml.safe_dump({"model_params": params, "dataset_params": {"frame_shape": [128, 64, 1]}}))
    with pytest.raises(InputError, match="must be square"):
        official_config(str(path))


def test_output_is_replaced_only_on_request_and_only_by_its_kind(tmp_path):
    gray = recipe_file(tmp_path / "gray.pth", "tiny-gray")
    with pytest.raises(InputError, match=r"the folder .*no does not exist"):
        convert(gray, "kth-128", tmp_path / "no" / "model")
    folder = convert(gray, "tiny-gray", tmp_path / "model")
    with pytest.raises(InputError, match=r"--output=.*model: exists; .*--overwrite"):
        convert(gray, "tiny-gray", folder)
    before = (folder / "config.json").read_bytes()
    (tmp_path / "cut.pth").write_bytes(gray.read_bytes()[:5000])
    with pytest.raises(InputError, match="cut off"):
        convert(tmp_path / "cut.pth", "tiny-gray", folder, overwrite=True)
    assert (folder / "config.json").read_bytes() == before
    convert(recipe_file(tmp_path / "rgb.pth", "tiny-rgb-sn"), "tiny-rgb-sn", folder, overwrite=True)
    assert vidcomp_jax.load_fomm(folder).config.num_channels == 3
    other = tmp_path / "letters"
    other.mkdir()
    (other / "letter.txt").touch()
    with pytest.raises(InputError, match="holds other things"):
        convert(gray, "tiny-gray", other, overwrite=True)
    exported = tmp_path / "out.pth"
    exported.touch()
    with pytest.raises(InputError, match="exists"):
        export_fomm.main(ExportFOMMConfig(fomm=folder, output=exported))
    export_fomm.main(ExportFOMMConfig(fomm=folder, output=exported, overwrite=True))
    assert set(read_torch_file(exported)) == {"generator", "kp_detector", "discriminator", "epoch"}
    with pytest.raises(InputError, match="a folder, where a file"):
        export_fomm.main(ExportFOMMConfig(fomm=folder, output=other, overwrite=True))
    expected = {"gray.pth", "cut.pth", "rgb.pth", "model", "model.yaml", "letters", "letters.yaml", "out.pth"}
    assert set(files_in(tmp_path)) == expected


def test_vgg19(tmp_path, capsys):
    state = golden.recipe_state("vgg19")["vgg19"]
    classifier = {"classifier.0.weight": np.zeros((2, 3), np.float32)}
    write_torch_file(tmp_path / "vgg19.pth", {**state, **classifier})
    convert_vgg19.main(ConvertVGG19Config(weights=tmp_path / "vgg19.pth", output=tmp_path / "vgg"))
    assert "1 arrays of the classifier" in capsys.readouterr().out
    vgg = load_vgg19(tmp_path / "vgg")
    for position in vgg.features:
        weight = state[f"features.{position}.weight"]
        np.testing.assert_array_equal(vgg.features[position].kernel[...], weight.transpose(2, 3, 1, 0))
        np.testing.assert_array_equal(vgg.features[position].bias[...], state[f"features.{position}.bias"])
    with pytest.raises(InputError, match="exists"):
        convert_vgg19.main(ConvertVGG19Config(weights=tmp_path / "vgg19.pth", output=tmp_path / "vgg"))
    del state["features.0.bias"]
    state["features.1.running_mean"] = np.zeros(64, np.float32)
    write_torch_file(tmp_path / "bn.pth", state)
    with pytest.raises(InputError, match=r"missing features.0.bias \(64,\); unexpected features.1.running_mean"):
        convert_vgg19.main(ConvertVGG19Config(weights=tmp_path / "bn.pth", output=tmp_path / "new"))


def motion_file(path, num_keypoints=10):
    rng = np.random.default_rng(0)
    position = rng.uniform(-1, 1, (20, num_keypoints, 2)).astype(np.float32)
    jacobian = rng.uniform(-2, 3, (20, num_keypoints, 2, 2)).astype(np.float32)
    clips = MotionClips(("a",), np.array([20]), Keypoints(position, jacobian), 25.0, "0123456789abcdef", "train")
    clips.save(path)
    return path, jacobian


def test_motion_gan(tmp_path, capsys):
    state, values = golden.recipe_state("wgan"), golden.arrays("motion-wgan")
    wrapped = {"epoch": 3, "model_state_dict": state["generator"], "optimizer_state_dict": {"param_groups": []}}
    write_torch_file(tmp_path / "netG_epoch_3.pth", wrapped)
    write_torch_file(tmp_path / "netD_epoch_3.pth", {f"module.{k}": v for k, v in state["critic"].items()})
    motion, jacobian = motion_file(tmp_path / "motion.npz")
    convert_motion.main(
        ConvertMotionConfig(
            checkpoint=tmp_path / "netG_epoch_3.pth",
            critic=tmp_path / "netD_epoch_3.pth",
            output=tmp_path / "gan",
            motion=motion,
        )
    )
    assert capsys.readouterr().out.splitlines()[1:] == ["  left out: optimizer_state_dict"]
    gan, trained_on = load_motion_model(tmp_path / "gan")
    assert trained_on.fingerprint == "0123456789abcdef" and trained_on.num_keypoints == 10
    assert (gan.scaling.lower[...], gan.scaling.upper[...]) == (jacobian.min(), jacobian.max())
    real = values["real"][0]
    fake = gan.generator(*map(jnp.asarray, (real[:, 0], real[:, -1], values["noise"][0, 0])))
    np.testing.assert_allclose(fake, values["generator_output"], atol=1e-5)
    np.testing.assert_allclose(gan.critic(jnp.asarray(real)), values["critic_output"], atol=1e-5)


def test_next_frame_network(tmp_path, capsys):
    state, values = golden.recipe_state("autoregressive")["model"], golden.arrays("motion-autoregressive")
    write_torch_file(tmp_path / "net.pth", state, "zip")
    convert_motion.main(ConvertMotionConfig(checkpoint=tmp_path / "net.pth", output=tmp_path / "net"))
    said = capsys.readouterr().out
    assert "its keypoint model is not known" in said and "the range of its Jacobians is not known" in said
    motion, trained_on = load_motion_model(tmp_path / "net")
    assert trained_on.method == "autoregressive" and motion.scaling.order == "jacobian-first"
    joined = motion.join(*(jnp.asarray(values["motion"][:, i]) for i in (0, -1)), 16)
    np.testing.assert_allclose(joined.forward, values["forward"], atol=1e-4)
    np.testing.assert_array_equal(joined.meeting_frame, values["meeting_frame"])


def test_bad_motion_files(tmp_path):
    state = golden.recipe_state("wgan")
    write_torch_file(tmp_path / "netG.pth", state["generator"])
    write_torch_file(tmp_path / "netD.pth", state["critic"])
    short = collections.OrderedDict(state["generator"])
    del short["linear.0.bias"]
    write_torch_file(tmp_path / "short.pth", short)

    def options(**changes):
        given = {"checkpoint": tmp_path / "netG.pth", "output": tmp_path / "out"} | changes
        return ConvertMotionConfig(**given)

    few, _ = motion_file(tmp_path / "few.npz", num_keypoints=4)
    for changes, message in (
        ({"checkpoint": tmp_path / "netD.pth"}, "given as --critic"),
        ({"critic": tmp_path / "netG.pth"}, "a generator; --critic takes"),
        ({"checkpoint": tmp_path / "short.pth"}, "missing linear.0.bias"),
        ({"motion": few}, "for 10 keypoints; .*few.npz has 4"),
        ({"motion": few, "jacobian_limits": (0.0, 1.0)}, "leave these out"),
        ({"jacobian_limits": (1.0, 1.0)}, "the first must be below"),
    ):
        with pytest.raises(InputError, match=message):
            convert_motion.main(options(**changes))
        assert not (tmp_path / "out").exists()
