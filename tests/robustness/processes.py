"""Kills one of the two processes of a run, and looks at the other: `make torture` does it at the end.

Run as a program, it is one of the two: `python -m tests.robustness.processes --coordinator=HOST:PORT ...`.
"""

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from experiments.commands import run
from tests.robustness.contents import content
from tests.support import toy_training
from vidcomp_jax.devices import initialize_distributed
from vidcomp_jax.storage.steps import CHECKPOINTS, latest_step

ROOT = Path(__file__).parents[2]
_TIMEOUT = 20
_STEPS = 40


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessConfig:
    """One process of a run that takes a few seconds."""

    coordinator: str
    """HOST:PORT of process 0."""
    process_id: int
    """Number of this process."""
    workdir: Path
    """Folder of the run."""
    pause: float = 0.05
    """Seconds that every batch takes to read."""


def main(config: ProcessConfig) -> int:
    """Train as one of two processes."""
    initialize_distributed(config.coordinator, 2, config.process_id, timeout=_TIMEOUT)

    def batches(*arguments):
        for batch in toy_training.batches(*arguments):
            time.sleep(config.pause)
            yield batch

    settings = toy_training.config(num_steps=_STEPS, checkpoint_every=5)
    return toy_training.run(config.workdir, batches=batches, devices=None, config=settings).exit_code


def start(workdir: Path, slow: int | None = None) -> list[subprocess.Popen]:
    """Start both processes; the number `slow` takes ten times as long for every batch."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    command = [
        sys.executable,
        "-m",
        "tests.robustness.processes",
        f"--coordinator={coordinator}",
        f"--workdir={workdir}",
    ]
    return [
        subprocess.Popen(
            [*command, f"--process-id={i}", f"--pause={0.5 if i == slow else 0.05}"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]


def problems_of_processes(folder: Path, patience: float = 4 * _TIMEOUT) -> list[str]:
    """Kill each process in turn; print how the other ends, and return what is wrong."""
    expected, problems = _undisturbed(folder / "undisturbed"), []
    for victim in range(2):
        workdir = folder / f"killed{victim}"
        processes = start(workdir)
        end = time.monotonic() + 300
        while (latest_step(workdir / CHECKPOINTS) or 0) < 5 and time.monotonic() < end:
            time.sleep(0.01)
        processes[victim].send_signal(signal.SIGKILL)
        killed, other = time.monotonic(), processes[1 - victim]
        try:
            _, errors = other.communicate(timeout=patience)
            said = (errors.strip().splitlines() or ["nothing"])[-1][:200]
            print(
                f"process {victim} killed: the other ends with {other.returncode} after "
                f"{time.monotonic() - killed:.0f} s: {said}",
                flush=True,
            )
            if other.returncode != 2 or "does not answer" not in said:
                problems.append(f"process {victim} killed: the other ends with {other.returncode} and says {said}")
        except subprocess.TimeoutExpired:
            problems.append(f"process {victim} killed: the other still runs after {patience:.0f} s")
        for process in processes:
            process.kill()
            process.communicate()
        problems += _finish(workdir, expected, f"after process {victim} was killed")
    return problems + _finish(folder / "slow", expected, "with a slow process", slow=1)


def _undisturbed(workdir: Path) -> dict:
    assert not _finish(workdir, None, "undisturbed")
    return content(workdir)


def _finish(workdir: Path, expected: dict | None, when: str, slow: int | None = None) -> list[str]:
    processes = start(workdir, slow)
    ended = [process.communicate(timeout=600)[1] for process in processes]
    if any(process.returncode for process in processes):
        return [f"{when}: the run does not go on: {' '.join(errors[-300:] for errors in ended)}"]
    same = expected is None or content(workdir)[CHECKPOINTS] == expected[CHECKPOINTS]
    return [] if same else [f"{when}: the run differs from an undisturbed one"]


if __name__ == "__main__":
    run(main, ProcessConfig)
