"""The PyTorch side of the benchmark equals the official code, so that timings compare the same network."""

import json
import pathlib

import numpy as np
import pytest
import torch

from benchmarks import torch_fomm, torch_fomm_training

GOLDEN = pathlib.Path(__file__).parent / "data" / "golden"
TINY = ("tiny-gray", "tiny-rgb-sn", "tiny-rgb-kp-multiscale", "tiny-zero-order")


@pytest.fixture(autouse=True)
def one_thread():
    """Use one thread: on busy cores, networks this small spend most of their time waiting for other threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def frames(array: np.ndarray) -> torch.Tensor:
    """Convert stored frames, uint8 NHWC, to float NCHW in [0, 1]."""
    return torch.from_numpy(array).permute(0, 3, 1, 2).float() / 255


def channels_last(x: torch.Tensor) -> np.ndarray:
    return x.movedim(-3, -1).numpy() if x.dim() > 3 else x.numpy()


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("name", TINY)
def test_forward_equals_golden(name: str, align_corners: bool):
    with np.load(GOLDEN / f"forward-{name}.npz") as file:
        golden = dict(file)
    model = torch_fomm.build(name, align_corners=align_corners)
    source, driving = frames(golden["source"]), frames(golden["driving"])
    with torch.no_grad():
        source_kp, driving_kp = model.detector(source), model.detector(driving)
        rendered = model.generator(source, source_kp, driving_kp)
    for part, kp in (("kp_source", source_kp), ("kp_driving", driving_kp)):
        np.testing.assert_allclose(kp.position, golden[f"{part}/value"], atol=1e-5)
        if kp.jacobian is not None:
            np.testing.assert_allclose(kp.jacobian, golden[f"{part}/jacobian"], atol=1e-5)
    prefix = f"align{int(align_corners)}/"
    for key in (key for key in golden if key.startswith(prefix)):
        value = getattr(rendered, key.removeprefix(prefix))
        value = value.numpy() if key.endswith("/deformation") else channels_last(value)
        np.testing.assert_allclose(value, golden[key], atol=1e-4, err_msg=key)


@pytest.mark.parametrize(
    ("name", "gan", "tolerances"),
    [("tiny-gray", 0, (1e-4, 1e-2)), ("tiny-rgb-kp-multiscale", 1, (1e-4,))],  # one per step
)
def test_training_steps_equal_golden(name: str, gan: float, tolerances: tuple[float, ...]):
    with np.load(GOLDEN / f"train-{name}.npz") as file:
        golden = dict(file)
    run = json.loads((GOLDEN / f"train-{name}.json").read_text())
    vgg = torch_fomm_training.VGG19()
    torch_fomm.load_recipe(vgg, "vgg19", "vgg19")
    params = torch_fomm_training.TrainParams(scales=(1, 0.5, 0.25), generator_gan=gan, feature_matching=(10.0,) * 3)
    training = torch_fomm_training.Training.of_recipe(name, params, torch_fomm.build(name), vgg)
    for step, tolerance in enumerate(tolerances):
        data = {key: golden[f"step{step}/{key}"] for key in ("source", "driving", "theta", "control_params")}
        theta, control = (torch.from_numpy(data[key]) for key in ("theta", "control_params"))
        warp = torch_fomm_training.RandomWarp(theta, control)
        losses = training.step(frames(data["source"]), frames(data["driving"]), warp)
        expected = run["losses_per_step"][step]
        assert losses.keys() == expected.keys()
        for key, value in expected.items():
            np.testing.assert_allclose(losses[key], value, rtol=tolerance, err_msg=f"{key} at step {step}")
