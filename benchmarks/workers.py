"""Worker processes of the First Order Motion Model benchmark, one for JAX and one for PyTorch.

Separate processes keep memory and threads apart; each imports only its own framework. Both use the same weights and
frames.
"""

import contextlib
import ctypes
import gc
import multiprocessing
import os
import resource
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from benchmarks.recipes import frame_size, model_params
from tools.make_checkpoint import recipe_state

Work = Callable[[], dict[str, np.ndarray]]
Measured = tuple[str, bool, int]
"""Name of the device, whether it is a GPU, and the peak memory in bytes."""


class Case(NamedTuple):
    """One benchmark case.

    Attributes:
        config: name of a configuration, such as `kth-128`.
        work: `step` (one training step) or `frame` (rendering, detection of the driving keypoints included).
        batch: pairs of a training step, or frames rendered in one call.
        torch_batch: the same for PyTorch; must divide `batch`, which then takes several calls.
        perceptual: train with the VGG19 perceptual loss instead of the pyramid loss.
        precision, remat, accumulate: options of our training step, as those of `experiments.train_fomm`.
    """

    config: str
    work: str
    batch: int
    torch_batch: int
    perceptual: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    remat: bool = False
    accumulate: int = 1


class Report(NamedTuple):
    """Device and memory of one side, sent after its last run.

    Attributes:
        device: name of the processor it ran on.
        is_gpu: whether that is a GPU.
        peak_memory: in bytes, of the GPU if there is one, otherwise of the process, compilation included.
        work_memory: the same of the measured rounds alone, on Linux; elsewhere, and on a GPU, it is `peak_memory`.
    """

    device: str
    is_gpu: bool
    peak_memory: int
    work_memory: int


RUN, FORGET = "run", "forget"
"""Messages to `serve`: run the case once, and begin to measure the memory of the rounds that follow."""


def serve(connection: Connection, framework: str, case: Case, one_core: bool = False) -> None:
    """Run one case for each message `RUN` received, until one is `None`.

    Sends (seconds, results by name) after each run and a `Report` at the end; `FORGET` has no reply. With `one_core`,
    the process is pinned to one core and CPU time is measured instead of wall time.
    """
    clock = time.process_time if one_core else time.perf_counter
    if one_core:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    work, report = {"jax": _jax, "torch": _torch}[framework](case)
    before = 0
    while (message := connection.recv()) is not None:
        if message == FORGET:
            before = forget_peak()
            continue
        start = clock()
        result = work()
        connection.send((clock() - start, result))
    device, is_gpu, peak = report()
    work_peak = peak if is_gpu else peak_memory()
    connection.send(Report(device, is_gpu, peak if is_gpu else max(peak, before), work_peak))


def start(framework: str, case: Case, one_core: bool = False) -> tuple[Connection, BaseProcess]:
    """Start a process that runs a case; see `serve` for the messages that its connection takes."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, framework, case, one_core), daemon=True)
    process.start()
    theirs.close()  # so that `recv` raises EOFError if the other process dies
    return ours, process


def finish(connection: Connection, process: BaseProcess) -> Report:
    """End a process that `start` started, and return its report."""
    connection.send(None)
    report = connection.recv()
    process.join()
    return report


def frames(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Return source and driving frames [b, h, w, c] in [0, 1]: smooth patterns, the same for both sides."""
    size, channels = frame_size(case.config), model_params(case.config)["common_params"]["num_channels"]
    y, x = np.mgrid[:size, :size] / size
    phase = np.arange(2 * case.batch * channels).reshape(2, case.batch, 1, 1, channels)
    pattern = 0.5 + 0.5 * np.sin(9 * x[..., None] + phase) * np.cos(7 * y[..., None] - 0.5 * phase)
    return tuple(pattern.astype(np.float32))


def peak_memory() -> int:
    """Return the largest resident memory of this process, in bytes, so far or since the last call of `forget_peak`."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except OSError:  # not Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def forget_peak() -> int:
    """Return freed memory to the system, begin the peak anew, and return the peak until now (Linux only)."""
    peak = peak_memory()
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak


def _torch(case: Case) -> tuple[Work, Callable[[], Measured]]:
    import torch

    from benchmarks import torch_fomm, torch_fomm_training

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    source, driving = (torch.from_numpy(x).permute(0, 3, 1, 2).contiguous().to(device) for x in frames(case))
    model = torch_fomm.build(case.config)
    for network in model:
        network.to(device)

    def report() -> Measured:
        if device.type == "cuda":
            return torch.cuda.get_device_name(), True, torch.cuda.max_memory_allocated()
        return f"CPU, {torch.get_num_threads()} threads", False, peak_memory()

    if case.work == "frame":
        with torch.no_grad():
            source_kp = model.detector(source[:1])
        source = source[:1].expand(case.torch_batch, -1, -1, -1)
        position, jacobian = (x if x is None else x.expand(case.torch_batch, *x.shape[1:]) for x in source_kp)
        assert position is not None  # for the type checker; only the Jacobian may be missing
        source_kp = torch_fomm.Keypoints(position, jacobian)

        def render() -> dict[str, np.ndarray]:
            calls = [torch_fomm.render(model, source, source_kp, d) for d in driving.split(case.torch_batch)]
            return {"prediction": torch.cat(calls).permute(0, 2, 3, 1).cpu().numpy()}

        return render, report

    vgg = None
    if case.perceptual:
        vgg = torch_fomm_training.VGG19()
        torch_fomm.load_recipe(vgg, "vgg19", "vgg19")
    params = torch_fomm_training.TrainParams(**_loss(case.config))
    training = torch_fomm_training.Training.of_recipe(case.config, params, model, vgg).to(device)

    def step() -> dict[str, np.ndarray]:
        warp = torch_fomm_training.RandomWarp.sample(case.batch, device)
        losses = training.step(source, driving, warp)
        return {key: value.cpu().numpy() for key, value in losses.items()}

    return step, report


def _jax(case: Case) -> tuple[Work, Callable[[], Measured]]:
    from experiments.tuning import tune_process

    tune_process()
    import jax
    from flax import nnx

    from converters.fomm_state import load_fomm_state
    from vidcomp_jax.fomm.model import FirstOrderMotionModel
    from vidcomp_jax.fomm.official import fomm_config

    device = jax.devices()[0]
    source, driving = frames(case)
    config = fomm_config(model_params(case.config))
    model = nnx.eval_shape(lambda: FirstOrderMotionModel(config, rngs=nnx.Rngs(0)))
    load_fomm_state(model, recipe_state(case.config))

    def report() -> Measured:
        if device.platform == "gpu":
            return device.device_kind, True, device.memory_stats()["peak_bytes_in_use"]
        return "CPU", False, peak_memory()

    if case.work == "frame":
        encoded = model.encode(source[0], model.detect(source[0]))

        def render() -> dict[str, np.ndarray]:
            rendered = model.render(encoded, None, model.detect(driving))
            return {"prediction": np.asarray(rendered.prediction)}

        return render, report
    return _jax_step(case, model, device, source, driving), report


def _jax_step(case: Case, model, device, source: np.ndarray, driving: np.ndarray) -> Work:
    import jax
    from flax import nnx

    from converters.weight_map import load_state
    from experiments.configs import OptimizerConfig
    from vidcomp_jax.devices import shard
    from vidcomp_jax.fomm.losses import FOMMLossConfig, TrainingNetworks, fomm_objective
    from vidcomp_jax.fomm.perceptual import VGG19
    from vidcomp_jax.nn.layers import freeze
    from vidcomp_jax.nn.precision import in_precision
    from vidcomp_jax.nn.remat import recomputed
    from vidcomp_jax.training.step import gradient_step, init_state, map_over_devices

    vgg = None
    if case.perceptual:
        vgg = nnx.eval_shape(lambda: VGG19(rngs=nnx.Rngs(0)))
        load_state(vgg, recipe_state("vgg19")["vgg19"])
        freeze(vgg)
    networks = TrainingNetworks(model, FOMMLossConfig(**_loss(case.config)), vgg)
    networks = in_precision(networks, case.precision)
    if case.remat:
        networks = recomputed(networks)
    optimizer = OptimizerConfig().build()
    graphdef, constants, state = init_state(networks, optimizer, [device])
    work = gradient_step(optimizer, fomm_objective, accumulate=case.accumulate)
    train_step = map_over_devices(graphdef, work, [device])
    batch = shard((source, driving), case.batch, [device])
    key = jax.random.key(0)

    def step() -> dict[str, np.ndarray]:
        nonlocal state
        state, metrics = jax.block_until_ready(train_step(state, constants, batch, key))
        return {name: np.asarray(value) for name, value in metrics.items()}

    return step


def _loss(config: str) -> dict[str, Any]:
    """Return the released loss weights.

    Gray models train without the adversarial terms. Scales smaller than the 16 pixels that VGG19 needs are left out.
    """
    params = model_params(config)
    gray = params["common_params"]["num_channels"] == 1
    return {
        "scales": tuple(scale for scale in (1.0, 0.5, 0.25, 0.125) if frame_size(config) * scale >= 16),
        "generator_gan": 0.0 if gray else 1.0,
        "feature_matching": (10.0,) * params["discriminator_params"]["num_blocks"],
    }
