"""Invalid inputs to the converters: one-line errors, and no output left behind; the YAML files they read."""

import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
import yaml

import vidcomp_jax
from converters import convert_fomm, export_fomm
from converters.convert_fomm import ConvertFOMMConfig
from converters.export_fomm import ExportFOMMConfig
from converters.fomm_state import fomm_differences
from converters.official import RELEASED, official_config
from converters.torch_files import read_torch_file
from tests.support import golden
from tests.support.conversion import ROOT, convert, files_in, hollow_checkpoint, recipe_file
from vidcomp_jax import InputError


def test_another_configuration_is_named(tmp_path):
    checkpoint = hollow_checkpoint("taichi-adv-256")
    with pytest.raises(InputError) as error:
        convert_fomm.convert(checkpoint, RELEASED["taichi-256"].fomm, name="taichi-256", path=Path("x.pth"))
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
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def bad_files(folder):
    """Write invalid files to `folder`; return the expected error message for each name."""
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


@pytest.mark.parametrize(
    "content,message",
    [
        ("a: [", "not YAML"),
        ("[1, 2]", "no entry model_params"),
        ("train_params: {}", "no entry model_params"),
        ("model_params: {common_params: {num_kp: 3}}", "model_params.common_params.num_channels: missing"),
        ("model_params: {networks: 3}", "model_params.networks: unknown key"),
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
        entries = {"model_params": params}
        if shape:
            entries["dataset_params"] = {"root_dir": "data", "frame_shape": shape}
        path.write_text(yaml.safe_dump(entries))
        assert official_config(str(path)).data.size == size
    narrow = {"root_dir": "data", "frame_shape": [128, 64, 1]}
    path.write_text(yaml.safe_dump({"model_params": params, "dataset_params": narrow}))
    with pytest.raises(InputError, match="must be square"):
        official_config(str(path))


def test_output_is_replaced_only_on_request_and_only_by_its_kind(tmp_path):
    gray = recipe_file(tmp_path / "gray.pth", "tiny-gray")
    with pytest.raises(InputError, match=r"the folder .*no does not exist"):
        convert(gray, "kth-128", tmp_path / "no" / "model")
    folder = convert(gray, "tiny-gray", tmp_path / "model")
    with pytest.raises(InputError, match=r"`output` is .*model: exists; .*`overwrite`"):
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
    with pytest.raises(InputError, match="something other than an earlier output"):
        convert(gray, "tiny-gray", other, overwrite=True)
    exported = tmp_path / "out.pth"
    exported.touch()
    with pytest.raises(InputError, match="exists"):
        export_fomm.main(ExportFOMMConfig(fomm=folder, output=exported))
    export_fomm.main(ExportFOMMConfig(fomm=folder, output=exported, overwrite=True))
    parts = {"generator", "kp_detector", "discriminator"}
    assert set(read_torch_file(exported)) == {*parts, *(f"optimizer_{part}" for part in parts), "epoch"}
    with pytest.raises(InputError, match="a folder, where a file"):
        export_fomm.main(ExportFOMMConfig(fomm=folder, output=other, overwrite=True))
    expected = {
        "gray.pth",
        "cut.pth",
        "rgb.pth",
        "model",
        "model.yaml",
        "letters",
        "letters.yaml",
        "out.pth",
        "out.yaml",
    }
    assert set(files_in(tmp_path)) == expected
