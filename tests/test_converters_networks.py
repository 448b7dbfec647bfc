"""Converted VGG19 and motion networks reproduce the golden outputs."""

import collections
import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from converters import convert_motion, convert_vgg19
from converters.convert_motion import ConvertMotionConfig
from converters.convert_vgg19 import ConvertVGG19Config
from converters.torch_files import write_torch_file
from tests.support import golden
from tools.make_checkpoint import recipe_state
from vidcomp_jax import InputError, Keypoints
from vidcomp_jax.fomm.perceptual import load_vgg19
from vidcomp_jax.motion.loading import load_motion_model
from vidcomp_jax.motion.motion_file import MotionClips


def test_vgg19(tmp_path, capsys):
    state = recipe_state("vgg19")["vgg19"]
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
    state, values = recipe_state("wgan"), golden.arrays("motion-wgan")
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
    state, values = recipe_state("autoregressive")["model"], golden.arrays("motion-autoregressive")
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
    state = recipe_state("wgan")
    write_torch_file(tmp_path / "netG.pth", state["generator"])
    write_torch_file(tmp_path / "netD.pth", state["critic"])
    short = collections.OrderedDict(state["generator"])
    del short["linear.0.bias"]
    write_torch_file(tmp_path / "short.pth", short)

    def options(**changes):
        given = {"checkpoint": tmp_path / "netG.pth", "output": tmp_path / "out"} | changes
        return ConvertMotionConfig(**given)

    few, _ = motion_file(tmp_path / "few.npz", num_keypoints=4)
    dataclasses.replace(MotionClips.load(few), split="test").save(tmp_path / "test.npz")
    for changes, message in (
        ({"checkpoint": tmp_path / "netD.pth"}, "given as --critic"),
        ({"critic": tmp_path / "netG.pth"}, "a generator; --critic takes"),
        ({"checkpoint": tmp_path / "short.pth"}, "missing linear.0.bias"),
        ({"motion": few}, "for 10 keypoints; .*few.npz has 4"),
        ({"motion": tmp_path / "test.npz"}, "of the test split; give that of the train split"),
        ({"motion": few, "jacobian_limits": (0.0, 1.0)}, "left out where `motion` is given"),
        ({"jacobian_limits": (1.0, 1.0)}, "the first below the second"),
    ):
        with pytest.raises(InputError, match=message):
            convert_motion.main(options(**changes))
        assert not (tmp_path / "out").exists()
