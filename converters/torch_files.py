"""Reads and writes PyTorch's `.pth` and `.pth.tar` files as nested dicts of NumPy arrays.

Only data is read; files that would run code are refused. Both of PyTorch's formats are supported, the legacy one
(before 1.6, used by the official checkpoints) and the zip one, which is memory-mapped.
PyTorch is required; the extra `torch` installs it.
"""

import contextlib
import itertools
import pickle
import pickletools
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np

from vidcomp_jax.errors import InputError, one_line, printable
from vidcomp_jax.storage.atomic import new_file
from vidcomp_jax.storage.untrusted import check_file, check_memory, reading

Format = Literal["legacy", "zip"]

_LEGACY_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # preceded by two bytes of the pickle protocol
_FOREIGN = {
    b"version https://git-lfs": "a Git LFS pointer, not the file itself; fetch it with `git lfs pull`",
    b"\x1f\x8b": "compressed with gzip; unpack it first",
    b"\x89HDF": "an HDF5 file; a PyTorch checkpoint was expected",
}


def read_torch_file(path: Path) -> dict[str, Any]:
    """Read the dict in a PyTorch file, with all tensors, at any depth, as NumPy arrays.

    Arrays in a zip file are backed by the file, and read when they are used.

    Raises:
        InputError: PyTorch is missing; or the file is missing, has another format, is truncated, or is not only data.
    """
    zipped = _is_zip(path)
    torch = _import_torch()
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            reading(path, "cut off or damaged", "download it again, compare its size", passing=pickle.UnpicklingError),
        ):
            # The legacy format must be read sequentially, so the file cannot be memory-mapped.
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        called = re.search(r"(?:GLOBAL|Unsupported class) ([\w.]*\w)", str(error))
        if called is not None and (zipped or _is_whole_legacy(path)):
            raise InputError(_refused(path, called[1])) from None
        raise InputError(_damaged(path, str(error).split("WeightsUnpickler error:")[-1])) from None
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: holds a {type(content).__name__}; a dict of tensors was expected")
    with reading(path, "cut off or damaged", "download it again, compare its size"):
        return _arrays(content, torch, str(path))


def write_torch_file(path: Path, content: Mapping[str, Any], file_format: Format = "legacy") -> None:
    """Write nested dicts of NumPy arrays as tensors; the file appears whole or not at all, replacing an old one.

    Raises:
        InputError: PyTorch is missing, or `path` cannot be written.
        OSError: writing fails, for example because the disk is full.
    """
    torch = _import_torch()
    try:
        with new_file(path) as temporary, temporary.open("wb") as file:
            torch.save(_tensors(content, torch), file, _use_new_zipfile_serialization=file_format == "zip")
    except RuntimeError as error:  # how PyTorch's zip writer reports a full disk
        raise OSError(f"{path}: cannot be written ({one_line(error)})") from None


def unwrap(state: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of a state dict, without the prefix `module.` that data-parallel training adds to every key."""
    arrays = {key: value for key, value in state.items() if isinstance(value, np.ndarray)}
    if arrays and all(key.startswith("module.") for key in arrays):
        arrays = {key.removeprefix("module."): value for key, value in arrays.items()}
    return arrays


def _is_zip(path: Path) -> bool:
    """Whether a file has the zip format rather than the legacy one; `InputError` if it has neither."""
    if path.is_dir():
        raise InputError(f"{path}: a folder, where a PyTorch file is expected")
    check_file(path)
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        raise InputError(f"{path}: an empty file; download it again")
    if re.match(rb"\s*(<\?xml|<!doctype|<html|<head|<!--)", start, re.IGNORECASE):
        raise InputError(f"{path}: a web page, not a checkpoint; the download link led to a page, open it in a browser")
    for magic, meaning in _FOREIGN.items():
        if start.startswith(magic):
            raise InputError(f"{path}: {meaning}")
    if start.startswith(b"PK"):
        damaged = reading(path, "cut off or damaged", "download it again, compare its size")
        with damaged, zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if not any(name.endswith("data.pkl") for name in names):
            raise InputError(f"{path}: a zip archive of other files ({', '.join(names[:3])}); unpack it first")
        if any(name.endswith("constants.pkl") for name in names):
            raise InputError(f"{path}: a TorchScript program; a checkpoint of state dicts was expected")
        return True
    if start[257:262] == b"ustar":
        raise InputError(f"{path}: a tar archive; unpack it first (official .pth.tar files are no archives)")
    if start[2 : 2 + len(_LEGACY_MAGIC)] != _LEGACY_MAGIC:
        if called := _called_by_pickle(path):
            raise InputError(_refused(path, called))
        if start.startswith(b"\x80") and len(start) < len(_LEGACY_MAGIC) + 2:
            raise InputError(_damaged(path, "it ends after a few bytes"))
        raise InputError(f"{path}: not a PyTorch file (it begins with {start[:12]!r})")
    return False


def _called_by_pickle(path: Path) -> str:
    """The first function that a Python pickle names, found without running it; empty if there is none."""
    words: list[str] = []
    with path.open("rb") as file, contextlib.suppress(ValueError, IndexError, AttributeError):
        for code, argument, _ in itertools.islice(pickletools.genops(file), 10_000):
            if code.name in ("GLOBAL", "INST"):
                return str(argument).replace(" ", ".")
            if code.name == "STACK_GLOBAL":
                return ".".join(words[-2:])
            if isinstance(argument, str):
                words.append(argument)
    return ""


def _is_whole_legacy(path: Path) -> bool:
    """Whether the pickles before the tensor data of the legacy format are complete; if not, a name may be cut off."""
    try:
        with path.open("rb") as file:
            for _ in range(4):  # magic number, version, system and content
                for _ in pickletools.genops(file):
                    pass
    except (ValueError, IndexError, AttributeError):  # all that pickletools raises
        return False
    return True


def _refused(path: Path, called: str) -> str:
    return (
        f"{path}: refused, and nothing of it was run: it is not weights alone but would call {called}; "
        "take the checkpoint from its publisher, or save its state dicts alone"
    )


def _damaged(path: Path, reason: str) -> str:
    reason = one_line(reason or "it ends too early")
    return f"{path}: cut off or damaged ({reason}); download it again, compare its size"


def _arrays(value: Any, torch: ModuleType, name: str) -> Any:
    if isinstance(value, torch.Tensor):
        return _array(value.detach(), torch, name)
    if isinstance(value, Mapping):
        return {str(key): _arrays(entry, torch, f"{name}: {key}") for key, entry in value.items()}
    return value


def _array(tensor: Any, torch: ModuleType, name: str) -> np.ndarray:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        kind = "quantized" if tensor.is_quantized else f"{tensor.layout} on {tensor.device}".removeprefix("torch.")
        raise InputError(f"{printable(name)}: a tensor that is {kind}; dense tensors were expected")
    # A damaged tensor may claim more elements than its storage has, all of them the same one.
    if tensor.numel() * tensor.element_size() > max(tensor.untyped_storage().nbytes(), 1) and tensor.numel() > 2**20:
        check_memory(tensor.numel() * tensor.element_size(), printable(name))
    tensor = tensor.resolve_conj().resolve_neg()
    wide = tensor.dtype.is_floating_point and tensor.dtype not in (torch.float16, torch.float32, torch.float64)
    return (tensor.float() if wide else tensor).numpy()


def _tensors(value: Any, torch: ModuleType) -> Any:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value if value.flags.writeable else value.copy())
    if isinstance(value, Mapping):
        return OrderedDict((key, _tensors(entry, torch)) for key, entry in value.items())
    return value


def _import_torch() -> ModuleType:
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"reading and writing PyTorch files needs PyTorch, which cannot be imported ({one_line(error)}); install "
            "it with `pip install 'vidcomp_jax[torch]'`"
        ) from None
    return torch
