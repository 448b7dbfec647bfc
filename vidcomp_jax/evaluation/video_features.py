"""Features of clips for the Fréchet video distance, from the published I3D networks run by TensorFlow or PyTorch.

Input: clips in [0, 1]. Output: the 400 logits of Kinetics-400 for each clip. The network is a SavedModel (the module
`deepmind/i3d-kinetics-400/1` of TensorFlow Hub, which Unterthiner et al., 2018, use) or the TorchScript file that came
with StyleGAN-V (Skorokhodov et al., 2022). Each gets its clips as in its published evaluation: RGB, resized to 224 x
224 pixels, in [-1, 1].
"""

import warnings
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from vidcomp_jax.data.lazy_tensorflow import import_tensorflow
from vidcomp_jax.errors import InputError, one_line
from vidcomp_jax.inbetween.tfhub import find_module, load_saved_model
from vidcomp_jax.storage.checksums import checksum_of
from vidcomp_jax.storage.untrusted import reading

SIZE = 224
NUM_FEATURES = 400
MIN_FRAMES = 9
"""The shortest clip that leaves a frame after the network's pooling over time."""
_BATCH_SIZE = 4
_SIGNATURE = "default"

Clips = Float[np.ndarray, "_b _t _h _w _c"]


@runtime_checkable
class VideoFeatures(Protocol):
    """Computes the features of clips.

    Attributes:
        name: name of the network within the name of the distance, such as `i3d400`.
        resizing: how clips are resized, in words.
        checksum: sixteen hexadecimal digits that identify the network's files.
    """

    name: str
    resizing: str
    checksum: str

    def __call__(self, clips: Clips) -> Float[np.ndarray, "b 400"]:
        """Features of clips of at least 9 gray or RGB frames, in [0, 1]; raises an `InputError` for shorter clips."""
        ...


def open_i3d(source: str) -> VideoFeatures:
    """Open an I3D network.

    Args:
        source: a SavedModel folder, a TensorFlow Hub handle such as `deepmind/i3d-kinetics-400/1`, or a TorchScript
            file.

    Raises:
        InputError: it cannot be found or loaded, or has another signature.
    """
    path = Path(source)
    if path.is_file():
        return _TorchScript(path)
    if path.suffix in (".pt", ".pth"):
        raise InputError(f"{path}: no such file; a TorchScript file of I3D was expected")
    return _SavedModel(find_module(source))


class _SavedModel:
    """I3D as a SavedModel; attributes and calls are those of `VideoFeatures`."""

    name = "i3d400"
    resizing = "bilinear, corners at the edges as in TensorFlow 1"

    def __init__(self, folder: Path):
        self._tf = import_tensorflow()
        self._loaded = load_saved_model(folder)
        signatures = self._loaded.signatures
        if _SIGNATURE not in signatures:
            raise InputError(f"{folder} is not I3D: it has the signatures {sorted(signatures)}, not {_SIGNATURE!r}")
        self._run = signatures[_SIGNATURE]
        inputs, outputs = self._run.structured_input_signature[1], self._run.structured_outputs
        fits = (
            len(inputs) == 1
            and next(iter(inputs.values())).shape.is_compatible_with((None, 16, SIZE, SIZE, 3))
            and _SIGNATURE in outputs
            and outputs[_SIGNATURE].shape.is_compatible_with((None, NUM_FEATURES))
        )
        if not fits:
            shapes = [{name: str(spec.shape) for name, spec in specs.items()} for specs in (inputs, outputs)]
            raise InputError(
                f"{folder} is not I3D: it takes {shapes[0]} and gives {shapes[1]}, where clips (None, None, {SIZE}, "
                f"{SIZE}, 3) to {_SIGNATURE!r} (None, {NUM_FEATURES}) are needed"
            )
        self._input = next(iter(inputs))
        self.checksum = checksum_of(folder)

    def __call__(self, clips: Clips) -> Float[np.ndarray, "b 400"]:
        """See `VideoFeatures`."""
        tf = self._tf

        def features(part: np.ndarray) -> np.ndarray:
            b, t = part.shape[:2]
            frames = tf.constant(part.reshape(-1, *part.shape[2:]), tf.float32)
            resized = tf.compat.v1.image.resize_bilinear(frames, (SIZE, SIZE))
            pixels = tf.reshape(2 * resized - 1, (b, t, SIZE, SIZE, 3))
            return self._run(**{self._input: pixels})[_SIGNATURE].numpy()

        return _in_parts(clips, features)


class _TorchScript:
    """I3D as a TorchScript file; attributes and calls are those of `VideoFeatures`."""

    name = "i3d400_torchscript"
    resizing = "bilinear, corners at the pixel centers as in PyTorch"

    def __init__(self, path: Path):
        try:
            import torch
        except ImportError:
            raise InputError(
                f"{path}: a TorchScript file needs PyTorch; install it with `pip install 'vidcomp_jax[torch]'`"
            ) from None
        self._torch, self._path = torch, path
        quiet = warnings.catch_warnings(action="ignore", category=DeprecationWarning)  # TorchScript itself
        with reading(path, "not a TorchScript file"), quiet:
            self._network = torch.jit.load(str(path), map_location="cpu").eval()
        self.checksum = checksum_of(path)

    def __call__(self, clips: Clips) -> Float[np.ndarray, "b 400"]:
        """See `VideoFeatures`."""
        torch = self._torch

        def features(part: np.ndarray) -> np.ndarray:
            b, t, *_ = part.shape
            frames = torch.from_numpy(np.array(part)).flatten(0, 1).permute(0, 3, 1, 2)
            resized = torch.nn.functional.interpolate(frames, (SIZE, SIZE), mode="bilinear", align_corners=False)
            pixels = (2 * resized - 1).reshape(b, t, 3, SIZE, SIZE).transpose(1, 2)
            try:
                with torch.no_grad():
                    found: Any = self._network(pixels, rescale=False, resize=False, return_features=True)
            except RuntimeError as error:
                raise InputError(
                    f"{self._path} is not I3D: it does not take clips (b, 3, t, {SIZE}, {SIZE}) with rescale, resize "
                    f"and return_features ({one_line(error)[:160]})"
                ) from None
            shape = tuple(getattr(found, "shape", ()))
            if shape != (b, NUM_FEATURES):
                raise InputError(f"{self._path} is not I3D: it gives {shape}, where ({b}, {NUM_FEATURES}) is needed")
            return found.numpy()

        return _in_parts(clips, features)


def _in_parts(clips: Clips, features) -> Float[np.ndarray, "b 400"]:
    """Features of all clips as RGB, a few at a time, because clips of 224 pixels are large."""
    if clips.shape[1] < MIN_FRAMES:
        raise InputError(f"clips of {clips.shape[1]} frames; I3D needs at least {MIN_FRAMES}")
    found = []
    for start in range(0, len(clips), _BATCH_SIZE):
        part = np.asarray(clips[start : start + _BATCH_SIZE], np.float32)
        found.append(np.asarray(features(np.broadcast_to(part, (*part.shape[:-1], 3))), np.float32))
    return np.concatenate(found)
