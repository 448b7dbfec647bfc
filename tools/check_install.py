"""Builds the wheel and the sdist, installs them as users do, and runs them outside the clone: `make check-install`.

Works on a copy of the sources in temporary folders, so that the clone is not changed. Needs network access.
"""

import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FORWARD = """
import sys
import numpy as np
from flax import nnx
import vidcomp_jax
from vidcomp_jax import FirstOrderMotionModel, FOMMConfig

assert "site-packages" in vidcomp_jax.__file__, vidcomp_jax.__file__
model = FirstOrderMotionModel(FOMMConfig(num_channels=3), rngs=nnx.Rngs(0))
frames = np.random.default_rng(0).uniform(size=(2, 64, 64, 3)).astype(np.float32)
keypoints = model.detect(frames)
rendered = model.render(frames[0], type(keypoints)(*(field[0] for field in keypoints)), keypoints)
assert rendered.prediction.shape == (2, 64, 64, 3), rendered.prediction.shape
assert "tensorflow" not in sys.modules
print("forward pass:", rendered.prediction.shape)
"""
COMMANDS = ("experiments.train_fomm", "experiments.complete", "experiments.animate", "converters.convert_fomm")


def main() -> int:
    """Build, install and run everything; return the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        sources, built, elsewhere = work / "sources", work / "built", work / "elsewhere"
        elsewhere.mkdir()
        copy_sources(sources)
        step("build the sdist, and the wheel from it")
        run(sys.executable, "-m", "build", "--outdir", built, sources)
        wheel, sdist = next(built.glob("*.whl")), next(built.glob("*.tar.gz"))
        check_files(sources, wheel)
        for name, requirement, use_torch in (
            ("pip install .", sources, False),
            ("pip install '.[torch]'", f"{sources}[torch]", True),
            (f"pip install {wheel.name}", wheel, False),
            (f"pip install {sdist.name}", sdist, False),
        ):
            step(name)
            environment = work / "environment"
            venv.create(environment, with_pip=True)
            python = environment / "bin" / "python"
            run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement, cwd=elsewhere)
            run(python, "-c", FORWARD, cwd=elsewhere)
            for command in COMMANDS:
                run(python, "-m", command, "--help", cwd=elsewhere, quiet=True)
            if use_torch:
                run(python, "-c", "import torch, yaml; print('torch', torch.__version__)", cwd=elsewhere)
            shutil.rmtree(environment)
    print("all installations work")
    return 0


def copy_sources(folder: Path) -> None:
    """Copy all files that git tracks."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def check_files(sources: Path, wheel: Path) -> None:
    """Exit with an error unless the wheel contains every file of the packages, including data files."""
    held = set(zipfile.ZipFile(wheel).namelist())
    packages = ("vidcomp_jax", "experiments", "converters")
    files = {str(path.relative_to(sources)) for package in packages for path in (sources / package).rglob("*.*")}
    if missing := sorted(files - held):
        sys.exit(f"error: {wheel.name} lacks {', '.join(missing)}")


def step(name: str) -> None:
    """Print a heading for the next step."""
    print(f"== {name}", flush=True)


def run(*command: str | Path, cwd: Path | None = None, quiet: bool = False) -> None:
    """Run a command and print its last line of output, unless `quiet`; if it fails, exit with all of its output."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, text=True, capture_output=True)
    if done.returncode:
        sys.exit(f"error: {' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    if not quiet and done.stdout.strip():
        print(done.stdout.strip().splitlines()[-1], flush=True)


if __name__ == "__main__":
    sys.exit(main())
