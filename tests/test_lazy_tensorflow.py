"""TensorFlow and PyTorch work in one process in either order, with or without Triton; each case has its own process."""

import importlib.util
import pathlib
import subprocess
import sys

import msgspec
import pytest

ROOT = pathlib.Path(__file__).parent.parent

TENSORFLOW = (
    "from vidcomp_jax.data import import_tensorflow; tf = import_tensorflow(); assert int(tf.constant(1) + 1) == 2"
)
PYTORCH = (
    "import torch; weight = torch.ones(1, requires_grad=True); optimizer = torch.optim.Adam([weight], lr=0.5); "
    "weight.sum().backward(); optimizer.step(); assert abs(weight.item() - 0.5) < 1e-3"
)
BLOCK_TRITON = "import sys; sys.modules['triton'] = None"


def run(*statements: str, path: pathlib.Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run statements in a new interpreter, with `path` in front of its module search path."""
    code = "\n".join(["import sys", f"sys.path[:0] = {[str(path)] if path else []}", *statements])
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)


# Where Triton is not installed, it is absent in either case.
@pytest.mark.parametrize("triton", ["as installed", "absent"] if importlib.util.find_spec("triton") else ["absent"])
@pytest.mark.parametrize("order", [(TENSORFLOW, PYTORCH), (PYTORCH, TENSORFLOW)], ids=["tf-torch", "torch-tf"])
def test_tensorflow_and_pytorch_in_one_process(order: tuple[str, str], triton: str):
    done = run(*([BLOCK_TRITON] if triton == "absent" else []), *order, "print('both work')")
    assert (done.returncode, done.stdout) == (0, "both work\n"), done.stderr


def installed(folder: pathlib.Path, library: bytes) -> pathlib.Path:
    """Create a package named triton with this native library in `folder`."""
    (folder / "triton" / "_C").mkdir(parents=True)
    (folder / "triton" / "__init__.py").touch()
    (folder / "triton" / "_C" / "libtriton.so").write_bytes(library)
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="Triton exists for Linux only")
def test_triton_is_loaded_before_tensorflow_but_not_imported(tmp_path):
    some_library = pathlib.Path(msgspec._core.__file__)
    path = installed(tmp_path, some_library.read_bytes())
    loaded = f"open('/proc/self/maps').read().count({str(tmp_path)!r}) > 0"
    watch = (
        "class Watch:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == 'tensorflow': print('at the import', {loaded})\n"
        "sys.meta_path.insert(0, Watch())"
    )
    done = run(watch, f"print('before', {loaded})", TENSORFLOW, "print('triton' in sys.modules)", path=path)
    assert done.stdout.split("\n")[:3] == ["before False", "at the import True", "False"], done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="Triton exists for Linux only")
def test_a_damaged_triton_does_not_stop_tensorflow(tmp_path):
    done = run(TENSORFLOW, path=installed(tmp_path, b"no library"))
    assert done.returncode == 0, done.stderr
