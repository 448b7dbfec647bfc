"""Kills every command with SIGKILL at random moments, again and again: `make torture`.

Each command first runs undisturbed. Then it is started and killed, half of the times while something is being written,
and started again until it is done. Afterwards its output must be the same as that of the undisturbed run, bit for bit;
after each kill it must be whole or absent; and at the end no unfinished file may be left. The moments follow from the
seed; prints how many kills there were of which kind, and the exit code is 1 if anything differs.
"""

import argparse
import collections
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

from tests.robustness.contents import content, differences, unfinished
from tests.robustness.jobs import JOBS
from tests.robustness.processes import problems_of_processes

ROOT = Path(__file__).parents[2]
_PATIENCE = 600


class Torture:
    """Runs the jobs in `folder`, kills them, and collects what is wrong."""

    def __init__(self, folder: Path, random: Random):
        self._folder, self._random = folder, random
        self._seconds: dict[str, float] = {}
        self._expected: dict[str, Any] = {}
        self.kills: collections.Counter[str] = collections.Counter()
        self.problems: list[str] = []

    def command(self, name: str, output: Path) -> list[str]:
        """The command line of a job."""
        places = {"out": output, "base": self._folder / "base", "kth": ROOT / "tests" / "data" / "kth_like"}
        job = JOBS[name]
        return [sys.executable, "-m", job.module, *(argument.format(**places) for argument in job.arguments)]

    def undisturbed(self, name: str) -> Path:
        """Run a job to its end, twice, so that the second time tells how long it takes with compiled programs."""
        for attempt in ("first", "whole"):
            folder = self._folder / attempt / name
            folder.mkdir(parents=True)
            started = time.monotonic()
            self._finish(name, folder / JOBS[name].output)
            self._seconds[name] = time.monotonic() - started
        self._expected[name] = content(folder)
        if content(self._folder / "first" / name) != self._expected[name]:
            self.problems.append(f"{name}: two undisturbed runs differ")
        return folder / JOBS[name].output

    def killed(self, name: str, kills: int) -> None:
        """Start a job, kill it so many times, let it finish, and compare."""
        job, folder = JOBS[name], self._folder / "killed" / name
        folder.mkdir(parents=True)
        output = folder / job.output
        for _ in range(kills):
            if output.exists() and not job.resumes:
                shutil.rmtree(folder)  # it was done before the kill; begin again
                folder.mkdir()
            writing = self.kills.total() % 2 == 1
            self.kills["while writing" if self._kill(name, output, writing) else "at a random moment"] += 1
            if output.exists() and not job.resumes and (wrong := differences(content(folder), self._expected[name])):
                self.problems.append(f"{name}: after a kill, its output is neither whole nor absent: {wrong}")
        if not output.exists() or job.resumes:
            self._finish(name, output)
        if wrong := differences(content(folder), self._expected[name]):
            self.problems.append(f"{name}: differs from the undisturbed run: {wrong}")
        if left := unfinished(folder):
            self.problems.append(f"{name}: left behind: {', '.join(left)}")

    def _kill(self, name: str, output: Path, writing: bool) -> bool:
        """Start a job and kill it, at a random moment or a random one of the writes; return whether it was writing."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(self.command(name, output), cwd=ROOT, **quiet)
        try:
            end = time.monotonic() + self._random.uniform(0.2, 1.0) * self._seconds[name]
            skipped, seen = self._random.randrange(4), set()
            while process.poll() is None:
                now = set(unfinished(output.parent)) if writing else set()
                seen |= now
                if (now and len(seen) > skipped) or time.monotonic() > (end + self._seconds[name] * writing):
                    break
                time.sleep(0.002)
        finally:
            was_writing = bool(unfinished(output.parent)) and process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.wait()
        return was_writing

    def _finish(self, name: str, output: Path) -> None:
        done = subprocess.run(
            self.command(name, output), cwd=ROOT, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
        finished = "holds a finished evaluation" in done.stderr
        if done.returncode and not finished:
            raise SystemExit(f"{name}: exit code {done.returncode}\n{done.stdout[-500:]}\n{done.stderr[-3000:]}")


def main() -> int:
    """Kill all commands, print the counts, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=50, help="number of kills over all commands")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", nargs="*", choices=[*JOBS], default=[*JOBS], help="some of the commands alone")
    parser.add_argument(
        "--processes", action=argparse.BooleanOptionalAction, default=True, help="runs of two processes"
    )
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "base").mkdir()
        os.environ |= {"XDG_CACHE_HOME": str(folder / "cache"), "TF_CPP_MIN_LOG_LEVEL": "3"}
        torture = Torture(folder, Random(options.seed))
        needed = ["fomm", "extract", "export", *options.jobs]
        for name in [job for job in JOBS if job in needed]:
            output = torture.undisturbed(name)
            if name == "fomm":
                shutil.copytree(output, folder / "base" / "fomm")
                for split, file in (("train", "motion.npz"), ("test", "test.npz")):
                    command = torture.command("extract", folder / "base" / file)
                    subprocess.run([*command, f"--split={split}"], cwd=ROOT, check=True)
            if name == "export":
                for file in output.parent.iterdir():
                    shutil.copy(file, folder / "base")
        for i, name in enumerate(options.jobs):
            kills = options.kills // len(options.jobs) + (i < options.kills % len(options.jobs))
            before = len(torture.problems)
            torture.killed(name, kills)
            state = "differs" if len(torture.problems) > before else "ends as undisturbed"
            print(f"{name:15} {kills:3} kills, {state}, {time.monotonic() - started:.0f} s", flush=True)
        if options.processes:
            torture.problems += problems_of_processes(folder / "processes")
        for problem in torture.problems:
            print(problem)
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(torture.kills.items()))
    print(f"{torture.kills.total()} kills ({counts}) with seed {options.seed}, {len(torture.problems)} problems")
    return 1 if torture.problems else 0


if __name__ == "__main__":
    sys.exit(main())
