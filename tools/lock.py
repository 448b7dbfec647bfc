"""Locks the versions of all dependencies: `make lock` writes requirements.lock, `make check-lock` checks it.

The lock lists one version of each package for all supported platforms and Python versions, with markers where a
package is not needed everywhere. It serves as a constraints file: pip installs what setup.cfg requires in the locked
versions, so that a PyTorch build without CUDA brings in no CUDA packages.

`check` verifies that the lock agrees with setup.cfg, and that all packages resolve to wheels for each platform, Python
version and set of extras. It resolves with uv and installs nothing.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.environment import read_requirements

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = {
    "Linux x86-64": "x86_64-manylinux_2_28",
    "Linux ARM": "aarch64-manylinux_2_28",
    "macOS 14 ARM": "aarch64-apple-darwin",
}
MACOS = "14.0"
"""The oldest macOS that PyTorch has wheels for."""
SOURCE_ONLY = "promise"
"""A pure Python dependency of tensorflow-datasets that is published only as source."""
EXTRAS: dict[str, tuple[str, ...]] = {
    "run time": (),
    "torch, test": ("torch", "test"),
    "docs": ("docs",),
    "tools": ("tools",),
    "cuda12": ("cuda12",),
    "cuda13": ("cuda13",),
    "cuda12, torch, test": ("cuda12", "torch", "test"),
    "cuda13, torch, test": ("cuda13", "torch", "test"),
}
HEADER = """\
# One version of every dependency, for Linux and macOS and Python 3.11 to 3.13. Written by `make lock`; do not edit.
"""


def main() -> int:
    """Write or check the lock; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("command", choices=["write", "check"])
    parser.add_argument("--upgrade", action="store_true", help="write: take the newest versions, not the locked ones")
    options = parser.parse_args()
    if options.command == "write":
        LOCK.write_text(compile_lock(upgrade=options.upgrade), encoding="utf-8")
        print(f"{LOCK.name}: {len(pins(LOCK.read_text(encoding='utf-8')))} packages")
        return 0
    return check()


def check() -> int:
    """Print a line for each combination of platform, Python and extras; return 1 if any does not resolve."""
    lock = LOCK.read_text(encoding="utf-8")
    failures = 0
    if compile_lock() != lock:
        print(f"{LOCK.name} does not agree with setup.cfg: run `make lock`")
        failures += 1
    for extras in EXTRAS.values():
        for platform in PLATFORMS:
            if platform.startswith("macOS") and any(extra.startswith("cuda") for extra in extras):
                continue  # NVIDIA's packages are for Linux only
            for python in PYTHONS:
                error = resolve(PLATFORMS[platform], python, extras, pins(lock))
                name = ", ".join(("run time", *extras))
                print(f"{platform:12}  Python {python}  {name:28}  {error or 'ok'}", flush=True)
                failures += bool(error)
    print(f"{failures} failed" if failures else "the lock resolves everywhere")
    return 1 if failures else 0


def compile_lock(*, upgrade: bool = False) -> str:
    """Return a lock for setup.cfg, which keeps the current lock's versions where they fit, unless `upgrade`."""
    every_extra = sorted({extra for extras in EXTRAS.values() for extra in extras})
    with tempfile.TemporaryDirectory() as folder:
        new, requirements = Path(folder) / LOCK.name, Path(folder) / "requirements.in"
        requirements.write_text("\n".join(read_requirements(every_extra)), encoding="utf-8")
        if LOCK.exists() and not upgrade:
            new.write_bytes(LOCK.read_bytes())
        run_uv(
            *("pip", "compile", "--quiet", "--universal", "--no-header", "--no-annotate"),
            *("--python-version", PYTHONS[0], "--output-file", str(new), str(requirements)),
        )
        return HEADER + new.read_text(encoding="utf-8")


def resolve(platform: str, python: str, extras: tuple[str, ...], locked: set[str]) -> str | None:
    """Resolve for any platform, whatever this machine is; return the problem, or None."""
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text("\n".join(read_requirements(extras)), encoding="utf-8")
        try:
            printed = run_uv(
                *("pip", "install", "--dry-run", "--target", str(Path(folder) / "site")),
                *("--only-binary", ":all:", "--no-binary", SOURCE_ONLY),
                *("--python-platform", platform, "--python-version", python),
                *("--constraint", str(LOCK), "--requirement", str(requirements)),
            )
        except RuntimeError as error:
            return str(error)
    found = set(re.findall(r"^ \+ (\S+)$", printed, re.MULTILINE))
    if not found:
        return "uv found nothing to install"
    missing = sorted(found - locked)
    return f"not in the lock: {', '.join(missing)}" if missing else None


def pins(lock: str) -> set[str]:
    """Return every `name==version` in a lock."""
    return set(re.findall(r"^([\w.-]+==[^\s;]+)", lock, re.MULTILINE))


def run_uv(*arguments: str) -> str:
    """Run this environment's uv with the package index that pip uses; return its output.

    Raises:
        RuntimeError: uv failed; the message is its error output.
    """
    environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": MACOS}
    if "UV_DEFAULT_INDEX" not in environment and (index := pip_index()):
        environment["UV_DEFAULT_INDEX"] = index
    command = [sys.executable, "-m", "uv", "--no-config", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(" ".join(re.sub(r"^Using .*\n", "", done.stderr).split())[:500])
    return done.stdout + done.stderr


def pip_index() -> str | None:
    """Return the package index that pip is configured to use instead of PyPI, if any; uv ignores pip's settings."""
    if "PIP_INDEX_URL" in os.environ:
        return os.environ["PIP_INDEX_URL"]
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() or None


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as error:
        sys.exit(f"error: {error}")
