"""What the commands from frames to completed clips refuse, in one line, and what they leave out."""

import dataclasses
import json
import shutil
import zipfile

import numpy as np
import pytest
from flax import nnx

from experiments import train_autoregressive, train_flow, train_motion_gan
from tests.support.motion_commands import extract, make_runs, run_complete, train
from tests.support.tiny_fomm import tiny
from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.loading import save_fomm
from vidcomp_jax.fomm.model import FirstOrderMotionModel
from vidcomp_jax.media.images import write_image
from vidcomp_jax.motion.motion_file import MotionClips


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with a keypoint model, motion of both splits, and two training runs."""
    return make_runs(tmp_path_factory.mktemp("motion"), "gan", "next")


@pytest.fixture(scope="module")
def wrong(work, tmp_path_factory):
    """Inputs with one mistake each."""
    folder = tmp_path_factory.mktemp("wrong")
    save_fomm(folder / "other-fomm", FirstOrderMotionModel(tiny().fomm, rngs=nnx.Rngs(1)))

    shutil.copytree(work / "gan", folder / "no-mark")
    config = json.loads((work / "gan" / "config.json").read_text())
    config["trained_on"]["fingerprint"] = ""
    (folder / "no-mark" / "config.json").write_text(json.dumps(config))

    clips = MotionClips.load(work / "train.npz")
    few = clips.keypoints._replace(position=clips.keypoints.position[:, :2], jacobian=clips.keypoints.jacobian[:, :2])
    dataclasses.replace(clips, fingerprint="f").save(folder / "foreign.npz")
    dataclasses.replace(clips, keypoints=few).save(folder / "few.npz")

    write_image(folder / "small.png", np.zeros((32, 32, 1), np.uint8))
    write_image(folder / "large.png", np.zeros((64, 32, 1), np.uint8))
    (folder / "empty").mkdir()
    (folder / "one-image").mkdir()
    write_image(folder / "one-image" / "0.png", np.zeros((32, 32, 1), np.uint8))
    return folder


def refused(says, command, *arguments):
    with pytest.raises(InputError, match=says) as error:
        command(*arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("says", "arguments"),
    [
        ("method wgan needs `motion_model`=RUN", "--method=wgan"),
        ("given: autoregressive", "--method=wgan --motion-model={work}/next"),
        ("method flow needs `motion_model`=RUN", "--method=flow"),
        ("fingerprint", "--fomm={wrong}/other-fomm --method=wgan --motion-model={work}/gan"),
        ("no such file", "--method=wgan --motion-model={wrong}/none"),
        (
            "not known; convert it again together with the motion file",
            "--method=wgan --motion-model={wrong}/no-mark",
        ),
        ("--num-frames is 1; it must be at least 2", "--num-frames=1"),
        ("longest of 2 clips has 6", "--num-frames=7"),
        ("cubic", "--method=cubic"),
        ("--known is '0,x'; it must be frame numbers separated by commas", "--known=0,x"),
        ("--known is 3, 2; frame numbers must be in ascending order", "--known=3,2"),
        ("--known is 0, 6; a clip of 6 frames has frames 0 to 5", "--num-frames=6 --known=0,6"),
        ("--known is 3; at least two frames must be known", "--known=3"),
        (
            "`known` is 0, 3; method wgan needs two known frames, the first and the last: 0, 5",
            "--num-frames=6 --known=0,3 --method=wgan --motion-model={work}/gan",
        ),
        ("exists", "--output={work}"),
        ("none", "--fomm={wrong}/none"),
        ("first and the last frame", "--input {wrong}/small.png"),
        ("32x32 and 32x64 pixels; give `resize`=N", "--input {wrong}/small.png {wrong}/large.png"),
        ("no videos and no images", "--input {wrong}/empty"),
        ("one image", "--input {wrong}/one-image"),
    ],
)
def test_complete_refuses_in_one_line_and_writes_nothing(work, wrong, tmp_path, says, arguments):
    given = arguments.format(work=work, wrong=wrong).split()
    usual = {"--fomm": f"--fomm={work / 'fomm'}", "--output": f"--output={tmp_path / 'out'}"}
    refused(says, run_complete, *(text for name, text in usual.items() if name not in arguments), *given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("module", [train_motion_gan, train_autoregressive, train_flow])
@pytest.mark.parametrize(
    ("says", "arguments"),
    [
        ("--num-frames is 2; it must be at least 3", "--num-frames=2"),
        ("longest of 4 clips has 6", "--num-frames=7"),
        ("fingerprint", "--fomm={wrong}/other-fomm"),
        ("train split", "--motion={work}/test.npz"),
        ("no such file", "--motion={wrong}/none.npz"),
        ("validate on that of the test split", "--validation={work}/train.npz"),
        ("fingerprint f,", "--validation={wrong}/foreign.npz"),
        ("2 keypoints per frame; 3", "--validation={wrong}/few.npz"),
    ],
)
def test_motion_training_refuses_in_one_line_and_writes_nothing(work, wrong, tmp_path, module, says, arguments):
    usual = [] if "--motion=" in arguments else [f"--motion={work / 'train.npz'}"]
    given = arguments.format(work=work, wrong=wrong).split()
    refused(says, train, module, f"--workdir={tmp_path / 'run'}", *usual, *given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("says", "arguments"),
    [
        ("channels", "--fomm={work}/fomm --output={out}/motion.npz --num-channels=3"),
        ("exists; .*`overwrite`", "--fomm={wrong}/none --output={work}/train.npz"),
        ("does not exist", "--fomm={wrong}/none --output={out}/no/a.npz"),
    ],
)
def test_extraction_refuses_in_one_line_and_writes_nothing(work, wrong, tmp_path, says, arguments):
    refused(says, extract, *arguments.format(work=work, wrong=wrong, out=tmp_path).split())
    assert not list(tmp_path.iterdir())


def test_motion_is_extracted_from_the_data_of_the_training_and_replaced_on_request(work, tmp_path):
    run, output = tmp_path / "run", tmp_path / "motion.npz"
    shutil.copytree(work / "fomm", run)
    stored = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(stored | {"data": {"name": "synthetic", "size": 64}}))
    with pytest.raises(InputError, match="`size` is 32, the model was trained with 64"):
        extract(f"--fomm={run}", f"--output={output}", "--chunk=12")
    with pytest.raises(InputError, match="`size` is 32, the model was trained with 64"):
        run_complete(f"--fomm={run}", f"--output={tmp_path / 'completed'}")
    assert not output.exists() and not (tmp_path / "completed").exists()
    output.write_text("something else")
    extract(f"--fomm={run}", f"--output={output}", "--chunk=12", "--any-data", "--overwrite")
    assert len(MotionClips.load(output).names) == 4


def test_damaged_motion_files_are_named(work, tmp_path):
    content = (work / "train.npz").read_bytes()
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    with zipfile.ZipFile(work / "train.npz") as members:
        start = members.getinfo("position.npy").header_offset
    at = start + 30 + 20 + len("position.npy")
    (tmp_path / "data.npz").write_bytes(content[:at] + b"\xff" * 8 + content[at + 8 :])
    (tmp_path / "method.npz").write_bytes(with_method(content, b"position.npy", 99))
    for name in ("one.npz", "data.npz", "method.npz"):
        with pytest.raises(InputError, match=f"{name}: not a motion file") as error:
            MotionClips.load(tmp_path / name)
        assert "\n" not in str(error.value)


def with_method(content, member, method):
    """Return the bytes of a zip file whose directory names another compression method for `member`."""
    at = content.rindex(member) - 46 + 10
    return content[:at] + method.to_bytes(2, "little") + content[at + 2 :]


def test_short_clips_are_counted_and_left_out(work, tmp_path, capsys):
    clips = MotionClips.load(work / "train.npz")
    dataclasses.replace(clips, lengths=np.array([3, 9, 6, 6])).save(tmp_path / "motion.npz")
    train(
        *(train_autoregressive, f"--workdir={tmp_path / 'run'}", f"--motion={tmp_path / 'motion.npz'}"),
        "--autoregressive.hidden=4",
    )
    assert "1 of 4 clips are shorter than 5 frames and left out" in capsys.readouterr().out
