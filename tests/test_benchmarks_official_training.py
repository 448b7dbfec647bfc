"""Training steps from an official checkpoint equal those of PyTorch, and official training goes on with the result.

The PyTorch side is the reference of the benchmarks, which equals the golden files of the official code. One program
is compiled for all tests: a discriminator with spectral norm and keypoint heatmaps, and a detector that is not trained.
"""

import copy
import dataclasses
import shutil

import numpy as np
import pytest
import torch
import yaml

from benchmarks import torch_fomm, torch_fomm_training
from converters import convert_fomm, export_fomm
from converters.convert_fomm import ConvertFOMMConfig
from converters.export_fomm import ExportFOMMConfig
from converters.fomm_state import dump_fomm_state
from experiments.configs import TrainFOMMConfig
from tests.support.official import write_official, write_videos
from tests.support.official_training import BATCH, MODEL, TRAINING, Ours, batch
from vidcomp_jax import load_fomm
from vidcomp_jax.errors import InputError
from vidcomp_jax.storage.checkpoint import Checkpoints
from vidcomp_jax.storage.config import CONFIG_FILE, load_config
from vidcomp_jax.storage.steps import CHECKPOINTS

PARTS = {"generator": 0, "kp_detector": 1, "discriminator": 2}
"""The optimizer of each part of a checkpoint, by its place among those of `torch_fomm_training.Training`."""
TERMS = {
    "pyramid": "perceptual",
    "generator_gan": "gen_gan",
    "discriminator_gan": "disc_gan",
    "feature_matching": "feature_matching",
    "equivariance_position": "equivariance_value",
    "equivariance_jacobian": "equivariance_jacobian",
}


class Official:
    """Training with PyTorch, and its checkpoints; a rate of 0 keeps the detector."""

    def __init__(self, content=None, dtype=torch.float32):
        torch.manual_seed(4)
        params = torch_fomm_training.TrainParams(scales=(1, 0.5), feature_matching=(10.0, 10.0))
        networks = torch_fomm.networks(MODEL)
        self.training = torch_fomm_training.Training(MODEL, params, networks, None, (2e-4, 0.0, 2e-4))
        detector = self.training.detector
        with torch.no_grad():
            detector.jacobian.weight.normal_(0, 0.01)
            detector.jacobian.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 1.0] * 3))
        training = self.training
        self.networks = {"generator": training.generator, "kp_detector": detector}
        self.networks["discriminator"] = training.discriminator
        if content is not None:
            for part, place in PARTS.items():
                self.networks[part].load_state_dict(content[part])
                training.optimizers[place].load_state_dict(copy.deepcopy(content[f"optimizer_{part}"]))
        training.to(dtype)
        for optimizer in training.optimizers:
            for state in optimizer.state.values():
                state.update({key: value.to(dtype) for key, value in state.items() if key != "step"})
        self.dtype = dtype

    def resume(self, epoch):
        """Set the learning rates as the published code does when it goes on at an epoch."""
        for optimizer in self.training.optimizers:
            torch.optim.lr_scheduler.MultiStepLR(optimizer, [2], 0.1, last_epoch=epoch - 1)

    def step(self, seed):
        source, driving, affine, control = (torch.from_numpy(x).to(self.dtype) for x in batch(seed))
        warp = torch_fomm_training.RandomWarp(affine, control[:, None])
        return self.training.step(source.permute(0, 3, 1, 2), driving.permute(0, 3, 1, 2), warp)

    def content(self, epoch):
        content = {part: network.state_dict() for part, network in self.networks.items()}
        for part, place in PARTS.items():
            content[f"optimizer_{part}"] = self.training.optimizers[place].state_dict()
            for group in content[f"optimizer_{part}"]["param_groups"]:
                group["initial_lr"] = 0.0 if part == "kp_detector" else 2e-4
        return copy.deepcopy({**content, "epoch": epoch})

    def weights(self):
        return {
            f"{part}.{key}": value.detach().double().numpy().copy()
            for part, network in self.networks.items()
            for key, value in network.state_dict().items()
        }


@pytest.fixture(autouse=True)
def one_thread():
    """Use one thread: on busy cores, networks this small spend most of their time waiting for other threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the YAML file of a training whose epochs have one step, and its videos."""
    folder = tmp_path_factory.mktemp("official")
    write_videos(folder / "data", train=BATCH)
    changes = {f"train_params__{key}": value for key, value in TRAINING.items()}
    changes |= {"dataset_params__root_dir": str(folder / "data"), "dataset_params__frame_shape": [32, 32, 1]}
    write_official(folder / "tiny.yaml", "kth-128", model_params=MODEL, **changes)
    return folder


@pytest.fixture(scope="module")
def content():
    """An official checkpoint after two steps."""
    torch.set_num_threads(1)
    official = Official()
    for seed in range(2):
        official.step(seed)
    return official.content(epoch=1)


def to_run(folder, content, name):
    """Convert an official checkpoint to a run folder."""
    path, run = folder / f"{name}.pth.tar", folder / name
    torch.save(content, path)
    shutil.rmtree(run, ignore_errors=True)
    options = {"config": str(folder / "tiny.yaml"), "cache_dir": folder / "cache"}
    convert_fomm.main(ConvertFOMMConfig(checkpoint=path, output=run, training=True, **options))
    return run


@pytest.fixture(scope="module")
def ours(folder, content):
    return Ours(to_run(folder, content, "first"))


def gradient_norms(official):
    names = {"generator": "generator", "detector": "kp_detector", "discriminator": "discriminator"}
    for name, value in official.training.named_parameters():
        if value.grad is not None:
            first, rest = name.split(".", 1)
            yield f"{names[first]}.{rest}", float(value.grad.norm())


# The reduced learning rate begins at epoch 2; here, an epoch is one step.
@pytest.mark.parametrize("epoch", [1, 2])
def test_a_step_equals_pytorch(folder, content, ours, epoch):
    content = {**content, "epoch": epoch}
    official = Official(content)
    official.resume(epoch)
    losses = official.step(seed=2)
    run = to_run(folder, content, f"epoch{epoch}")
    state = ours.load(run)
    assert int(state.step) == epoch
    before, (state, metrics) = ours.weights(state), ours.step(state, seed=2)
    for term, name in TERMS.items():
        np.testing.assert_allclose(metrics[term], losses[name], rtol=1e-4, err_msg=term)
    gradients = ours.under_official_keys(state.opt_state[1], state.batch_stats)
    for key, norm in gradient_norms(official):
        # The gradient of a bias before a batch norm is zero except for rounding errors, and that of the occlusion's
        # bias is a sum over all pixels that nearly cancels.
        np.testing.assert_allclose(np.linalg.norm(gradients[key]), norm, rtol=1e-3, atol=5e-4, err_msg=key)
    rate = 2e-4 if epoch < 2 else 2e-5
    found, expected = ours.weights(state), official.weights()
    moved = {key: np.abs(found[key] - before[key]).max() for key in found if key.endswith(("weight", "weight_orig"))}
    for key, value in expected.items():
        if key.endswith(("running_mean", "running_var", "weight_u", "weight_v")):
            # Batch statistics move even where the learning rate is 0, and spectral norms iterate four times a step.
            np.testing.assert_allclose(found[key], value, rtol=1e-4, atol=1e-5, err_msg=key)
            assert value.size == 1 or (found[key] != before[key]).any(), key
        elif key.startswith("kp_detector") and key in moved:
            np.testing.assert_array_equal(found[key], before[key], err_msg=key)
        elif key in moved and not key.endswith("down.weight"):
            assert 0.2 * rate < moved[key] < 1.5 * rate, key
            # Adam divides by the size of the gradient, so rounding errors show where the gradient is almost zero.
            np.testing.assert_allclose(found[key], value, atol=0.1 * rate, err_msg=key)
            assert np.quantile(np.abs(found[key] - value), 0.99) < 0.02 * rate, key


def relative(a, b, start):
    """Return how far `a` is from `b`, relative to how far that moved from `start`, over all trained weights."""
    trained = [key for key in b if key.endswith(("weight", "bias", "weight_orig")) and "kp_detector" not in key]
    apart = np.sqrt(sum(np.square(a[key] - b[key]).sum() for key in trained))
    return apart / np.sqrt(sum(np.square(b[key] - start[key]).sum() for key in trained))


def test_three_steps_here_and_back_are_three_steps_there(folder, content, ours, capsys):
    run = to_run(folder, content, "round")
    state = ours.load(run)
    exact, plain = Official(content, torch.float64), Official(content)
    start = plain.weights()
    plain.resume(1), exact.resume(1)
    for i, seed in enumerate((2, 3, 4), start=1):
        for official in (plain, exact):
            for optimizer in official.training.optimizers[::2]:
                optimizer.param_groups[0]["lr"] = 2e-4 if i < 2 else 2e-5
            official.step(seed)
        state, _ = ours.step(state, seed)
    with Checkpoints(run / CHECKPOINTS) as checkpoints:
        checkpoints.save(int(state.step), state._replace(opt_state=state.opt_state[0]))
    export_fomm.main(ExportFOMMConfig(fomm=run, output=folder / "back.pth.tar", overwrite=True))

    back = torch.load(folder / "back.pth.tar", weights_only=True)
    assert back["epoch"] == 4 and back["optimizer_generator"]["state"][0]["step"] == 5
    assert back["optimizer_generator"]["param_groups"][0]["lr"] == pytest.approx(2e-5)
    resumed = Official(back)  # loads strictly
    scatter = relative(plain.weights(), exact.weights(), start)
    found = relative(resumed.weights(), exact.weights(), start)
    with capsys.disabled():
        print(f"\nthree steps: PyTorch in float32 is {scatter:.1%} of the way from float64, this code {found:.1%}")
    assert 0 < scatter < 0.1 and found < 1.5 * scatter
    resumed.resume(4)
    assert resumed.training.optimizers[0].param_groups[0]["lr"] == pytest.approx(2e-5)
    # The published code accepts the YAML file, and it says the same as the one that the training began with.
    first, last = (yaml.safe_load((folder / f"{name}.yaml").read_text()) for name in ("tiny", "back"))
    assert last["train_params"] == first["train_params"]
    assert last["dataset_params"] == first["dataset_params"] | {"random_seed": 0}
    # It names scales after their text, so that 1.0 would be another one.
    assert [str(scale) for scale in last["train_params"]["scales"]] == ["1", "0.5"]
    assert last["model_params"]["common_params"] == MODEL["common_params"]
    assert str(last["model_params"]["discriminator_params"]["scales"]) == "[1]"


def test_moments_survive_bit_for_bit(folder, content):
    content = {**content, "epoch": 2}
    run = to_run(folder, content, "moments")
    export_fomm.main(ExportFOMMConfig(fomm=run, output=folder / "moments-back.pth.tar", format="zip", overwrite=True))
    back = torch.load(folder / "moments-back.pth.tar", weights_only=True)
    assert set(back) == set(content) and back["epoch"] == content["epoch"]
    for part in PARTS:
        assert back[part].keys() == content[part].keys()
        assert all(torch.equal(value, content[part][key]) for key, value in back[part].items())
        before, after = (x[f"optimizer_{part}"] for x in (content, back))
        assert after["param_groups"][0]["params"] == before["param_groups"][0]["params"]
        assert after["state"].keys() == before["state"].keys() and len(after["state"]) > 5
        for number, state in before["state"].items():
            assert int(state["step"]) == after["state"][number]["step"] == 2
            for name in ("exp_avg", "exp_avg_sq"):
                assert torch.equal(after["state"][number][name], state[name]), (part, number, name)
    # The milestone at this epoch counts once, although the scheduler multiplies the stored rate when it begins there.
    resumed = Official(back)
    resumed.resume(2)
    assert resumed.training.optimizers[0].param_groups[0]["lr"] == pytest.approx(2e-5)


def test_a_plain_checkpoint_goes_on_adversarially(folder, content, capsys):
    plain = {key: value for key, value in content.items() if "discriminator" not in key}
    run = to_run(folder, plain, "plain")
    assert "no discriminator in the file: it starts anew" in capsys.readouterr().out
    other = copy.deepcopy(content)
    other["discriminator"].pop("discs.1.conv.weight_u")
    run = to_run(folder, other, "other")
    assert "the discriminator in the file has other sizes; it starts anew" in capsys.readouterr().out
    weights = dump_fomm_state(load_fomm(run))
    for part in ("generator", "kp_detector"):
        assert all(np.array_equal(weights[part][key], value) for key, value in content[part].items())
    export_fomm.main(ExportFOMMConfig(fomm=run, output=folder / "anew.pth.tar", overwrite=True))
    anew = torch.load(folder / "anew.pth.tar", weights_only=True)
    assert anew["optimizer_discriminator"]["state"] == {} and anew["optimizer_generator"]["state"]


def test_optimizers_of_another_model_are_named(folder, content):
    def changed(change):
        bad = copy.deepcopy(content)
        change(bad)
        return bad

    def shorter(bad):
        bad["optimizer_generator"]["param_groups"][0]["params"].pop()

    def misshapen(bad):
        bad["optimizer_kp_detector"]["state"][0]["exp_avg"] = torch.zeros(2)

    cases = [
        (lambda bad: bad.pop("optimizer_generator"), "holds no optimizer_generator"),
        (lambda bad: bad.pop("epoch"), "epoch is None"),
        (shorter, r"optimizer_generator has \d+ parameters, generator has \d+; it belongs to another model"),
        (misshapen, r"optimizer_kp_detector.state.0.exp_avg is \(2,\), kp_detector.predictor.* another model"),
        (lambda bad: bad["optimizer_generator"]["param_groups"][0].update(betas=(0.9, 0.99)), "not Adam with betas"),
        (lambda bad: bad["optimizer_generator"].pop("state"), "not the state of one Adam optimizer"),
    ]
    for change, message in cases:
        with pytest.raises(InputError, match=message) as error:
            to_run(folder, changed(change), "bad")
        assert "bad.pth.tar" in str(error.value) and "\n" not in str(error.value)
        assert not (folder / "bad").exists()
    config = dataclasses.replace(load_config(folder / "first" / CONFIG_FILE, TrainFOMMConfig))
    assert config.schedule.steps_per_epoch == 1
