"""The locked versions of all dependencies: `make lock` writes requirements.lock, `make check-lock` checks it.

The lock holds one version of each package for every supported platform and Python, with markers where a package is
not needed everywhere. Installing uses it as constraints: pip installs what setup.cfg asks for, in the versions of the
lock, so that a build of PyTorch without CUDA brings no CUDA packages.

`check` makes sure that the lock still is what setup.cfg asks for, and that pip finds a wheel of everything for each
platform, Python and set of extras. It resolves with uv and installs nothing.
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
"""A package in pure Python, needed by tensorflow-datasets, that is published as source alone."""
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
                continue  # NVIDIA's packages are for Linux
            for python in PYTHONS:
                error = resolve(PLATFORMS[platform], python, extras, pins(lock))
                name = ", ".join(("run time", *extras))
                print(f"{platform:12}  Python {python}  {name:28}  {error or 'ok'}", flush=True)
                failures += bool(error)
    print(f"{failures} failed" if failures else "the lock resolves everywhere")
    return 1 if failures else 0


def compile_lock(*, upgrade: bool = False) -> str:
    """Return the lock that setup.cfg asks for; versions of the present lock are kept where they satisfy it."""
    with tempfile.TemporaryDirectory() as folder:
        new = Path(folder) / LOCK.name
        if LOCK.exists() and not upgrade:
            new.write_bytes(LOCK.read_bytes())
        run_uv(
            *("pip", "compile", "--quiet", "--universal", "--all-extras", "--no-header", "--no-annotate"),
            *("--python-version", PYTHONS[0], "--output-file", str(new), "setup.cfg"),
        )
        return HEADER + new.read_text(encoding="utf-8")


def resolve(platform: str, python: str, extras: tuple[str, ...], locked: set[str]) -> str | None:
    """Resolve for a platform that this machine need not be; return what is wrong, or None."""
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
    """Return the `name==version` of every line of a lock."""
    return set(re.findall(r"^([\w.-]+==[^\s;]+)", lock, re.MULTILINE))


def run_uv(*arguments: str) -> str:
    """Run uv from the environment of this interpreter, on the index that pip uses; return all that it printed.

    Raises:
        RuntimeError: it failed.
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
    """Return the package index that pip is set to use in place of PyPI, if any; uv does not read pip's settings."""
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
