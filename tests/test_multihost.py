"""Two real processes with one device each equal one process with two devices."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from tests.robustness import processes
from tests.support import toy_training
from vidcomp_jax.devices import initialize_distributed
from vidcomp_jax.errors import InputError, LostProcessError
from vidcomp_jax.storage.steps import CHECKPOINTS, latest_step
from vidcomp_jax.training import loop

ROOT = pathlib.Path(__file__).parents[1]


def train_as_process(coordinator: str, process: str, workdir: str, num_steps: str, mode: str):
    """Train as one of the two processes that `start` runs."""
    from vidcomp_jax.devices import from_process_0

    initialize_distributed(coordinator, 2, int(process))
    assert (jax.process_count(), jax.local_device_count(), len(jax.devices())) == (2, 1, 2)

    def batches(*arguments):
        for step, batch in enumerate(toy_training.batches(*arguments)):
            if mode == "signal" and process == "1" and step == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    def no_clips():
        raise InputError("no clips")

    result = toy_training.run(
        pathlib.Path(workdir),
        batches=batches,
        devices=None,
        evaluate=lambda model: {"mean": float(model.layers[0].kernel[...].mean())},
        config=toy_training.config(num_steps=int(num_steps), evaluate_every=2),
    )
    try:
        from_process_0(no_clips, 0)
    except InputError as error:
        failure = str(error)
    weights = {name: value.tolist() for name, value in toy_training.weights_of(result.model).items()}
    print(json.dumps({"step": result.step, "weights": weights, "failure": failure}), flush=True)
    raise SystemExit(result.exit_code)


def start(workdir: pathlib.Path, num_steps: int, mode: str = "plain") -> list[tuple[int, str, str]]:
    """Run both processes to completion; return the exit code, output and errors of each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    code = "import sys; from tests.test_multihost import train_as_process; train_as_process(*sys.argv[1:])"
    # The compiler's flags stay those of this process, as Adam makes rounding errors large where a gradient is zero.
    environment = {**os.environ, "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, coordinator, str(i), str(workdir), str(num_steps), mode],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=60) for process in running]
    finally:
        for process in running:
            process.kill()
    return [(process.returncode, *output) for process, output in zip(running, outputs, strict=True)]


def test_two_processes_equal_two_devices(tmp_path):
    ended = start(tmp_path / "two", 10_000, "signal")
    assert [code for code, _, _ in ended] == [143, 143], [errors for _, _, errors in ended]
    stopped = {result["step"] for result in map(result_of, ended)}
    assert len(stopped) == 1  # one process got the signal, and both stopped at the same step
    num_steps = stopped.pop() + 3
    assert "stopped by SIGTERM" in ended[0][2] and "stopped by" not in ended[1][2]

    ended = start(tmp_path / "two", num_steps)
    assert [code for code, _, _ in ended] == [0, 0], [errors for _, _, errors in ended]
    assert f"step {num_steps}/{num_steps}" in ended[0][2] and f"{num_steps}/" not in ended[1][2]
    expected = toy_training.run(tmp_path / "one", config=toy_training.config(num_steps=num_steps))
    for result in map(result_of, ended):
        assert result["step"] == num_steps
        for name, value in toy_training.weights_of(expected.model).items():
            np.testing.assert_allclose(result["weights"][name], value, atol=1e-5, err_msg=name)
    one, two = (toy_training.lines_of(tmp_path / name) for name in ("one", "two"))
    for a, b in zip(one, [line for line in two if "loss" in line], strict=True):
        assert a == pytest.approx(b, abs=1e-5)
    assert result_of(ended[0])["failure"] == "no clips"
    assert result_of(ended[1])["failure"] == "process 0 failed; its output says why"


def test_a_killed_process_ends_the_other_one_with_one_line(tmp_path):
    survivor, victim = processes.start(tmp_path / "run")
    try:
        end = time.monotonic() + 60
        while not latest_step(tmp_path / "run" / CHECKPOINTS) and time.monotonic() < end:
            time.sleep(0.05)
        victim.kill()
        _, errors = survivor.communicate(timeout=60)
    finally:
        for process in (survivor, victim):
            process.kill()
            process.communicate()
    assert survivor.returncode == 2
    *progress, last = errors.splitlines()
    assert re.fullmatch("error: another process of this run does not answer .*; start all of them again, .*", last)
    assert all(line.startswith("step ") for line in progress)


@pytest.mark.parametrize("kind", [ValueError, jax.errors.JaxRuntimeError])
def test_either_error_of_a_collective_means_a_lost_process(kind):
    reason = "UNKNOWN: Gloo all-reduce failed: Connection reset by peer"
    with pytest.raises(LostProcessError, match=r"does not answer \(UNKNOWN: Gloo"), loop._errors_of_devices(2):
        raise kind(reason)
    with pytest.raises(ValueError, match=r"^a batch of 3"), loop._errors_of_devices(2):
        raise ValueError("a batch of 3 examples")


def result_of(ended: tuple[int, str, str]) -> dict:
    return json.loads(ended[1].splitlines()[-1])


def test_a_coordinator_that_does_not_answer_is_named(capsys):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"  # bound, but nothing listens
        with pytest.raises(
            InputError, match=f"`coordinator` is {address}: nothing answers there after 1 s .*start proc"
        ):
            initialize_distributed(address, 2, 1, timeout=1)
    assert capsys.readouterr().err.startswith(f"waiting up to 1 s for process 0 at {address} (")
