"""The in-betweening modules that Li, Roblek and Tagliasacchi published on TensorFlow Hub.

`google/tweening_conv3d_kth/1` and `google/tweening_conv3d_bair/1` (Li, Roblek and Tagliasacchi, 2019) have the
signature `default`, which maps floats [16, 2, 64, 64, 3] in [0, 255] to [16, 14, 64, 64, 3]. TensorFlow loads them
both in the TF1 hub format and as TF2 SavedModels. The package tensorflow_hub is not needed: modules are looked up in
its cache by the same naming rule and downloaded there if missing.
"""

import hashlib
import http.client
import logging
import os
import pathlib
import tarfile
import tempfile
import urllib.parse
import urllib.request

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from vidcomp_jax.data.lazy_tensorflow import import_tensorflow
from vidcomp_jax.devices import filled_up
from vidcomp_jax.errors import InputError, one_line
from vidcomp_jax.storage.folders import new_folder
from vidcomp_jax.storage.untrusted import read_bytes, reading

NUM_FRAMES = 16
BATCH_SIZE = 16
SIZE = 64
SIGNATURE = "default"
INPUT_SHAPE = (BATCH_SIZE, 2, SIZE, SIZE, 3)
OUTPUT_SHAPE = (BATCH_SIZE, NUM_FRAMES - 2, SIZE, SIZE, 3)
_ARCHIVE_QUERY = "tf-hub-format=compressed"
_MODEL_FILE = "saved_model.pb"

Frames = Float[np.ndarray, "_b _h _w _c"]  # sizes are checked by the functions, which raise an InputError


class HubModule:
    """A published in-betweening module, ready for inference.

    Attributes:
        num_frames: frames per generated clip, ends included.
        stochastic: False, because a module takes no random key, and so offers no choice of samples.
    """

    num_frames = NUM_FRAMES
    stochastic = False

    def __init__(self, module: str | pathlib.Path):
        """Load `module`, which is a folder, a handle such as google/tweening_conv3d_kth/1, or a web address.

        Raises:
            InputError: the module cannot be found or downloaded, is not a SavedModel, or has another signature.
        """
        self._folder = find_module(module)
        self._loaded = load_saved_model(self._folder)
        self._run, self._input = _check_signature(self._loaded, self._folder)

    def __call__(
        self, first: Frames, last: Frames, *, key: Key[Array, ""] | None = None
    ) -> Float[np.ndarray, "b t h w c"]:
        """Generate the clips between `first` and `last`.

        Gray frames are passed as three equal channels, and the generated channels are averaged. Frames that are not
        64x64 are resized for the module and back, with a warning in the log.

        Args:
            first, last: gray or RGB frames in [0, 1].
            key: not used; present so that this class and `InbetweenModel` are called alike.

        Returns:
            Clips of 16 frames in [0, 1]; their ends are exactly `first` and `last`.

        Raises:
            InputError: the two shapes differ, or the frames are neither gray nor RGB.
        """
        if first.shape != last.shape:
            raise InputError(f"first frames are {first.shape}, last frames {last.shape}; they must have the same shape")
        ends = np.stack([first, last], axis=1)
        count, _, height, width, channels = ends.shape
        if channels not in (1, 3):
            raise InputError(f"frames have {channels} channels; the module takes gray (1) or RGB (3)")
        if (height, width) != (SIZE, SIZE):
            message = "frames of %dx%d are resized to %dx%d for the module, and its frames back"
            logging.getLogger(__name__).warning(message, height, width, SIZE, SIZE)
        small = _resize(np.broadcast_to(ends, (*ends.shape[:-1], 3)), SIZE, SIZE)
        parts = [self._one_batch(small[start : start + BATCH_SIZE]) for start in range(0, count, BATCH_SIZE)]
        inner = _resize(np.concatenate(parts), height, width)
        if channels == 1:
            inner = inner.mean(axis=-1, keepdims=True)
        return np.concatenate([ends[:, :1], inner, ends[:, 1:]], axis=1)

    def _one_batch(self, ends: Float[np.ndarray, "b 2 h w 3"]) -> Float[np.ndarray, "b t h w 3"]:
        """Generate up to 16 clips; the module takes exactly 16, so the batch is padded with the last one."""
        count = len(ends)
        padded = filled_up(ends, BATCH_SIZE)
        tf = import_tensorflow()
        inner = self._run(**{self._input: tf.constant(padded * 255, tf.float32)})[SIGNATURE].numpy()
        return np.clip(inner[:count] / 255, 0, 1).astype(np.float32)


def find_module(module: str | pathlib.Path) -> pathlib.Path:
    """Find the folder of a module, downloading it into TensorFlow Hub's cache if necessary.

    Raises:
        InputError: the folder is not a SavedModel, or the handle is not valid or cannot be downloaded.
    """
    folder = pathlib.Path(module)
    if folder.is_dir():
        if not (folder / _MODEL_FILE).is_file():
            raise InputError(f"{folder} is not a SavedModel: it has no {_MODEL_FILE}")
        return folder
    handle = str(module)
    if "://" not in handle:
        if handle.startswith(("/", ".", "~")) or handle.count("/") != 2:
            raise InputError(
                f"{handle} is neither a folder nor a TensorFlow Hub handle such as google/tweening_conv3d_kth/1"
            )
        handle = f"https://tfhub.dev/{handle}"
    cache = pathlib.Path(os.environ.get("TFHUB_CACHE_DIR") or pathlib.Path(tempfile.gettempdir(), "tfhub_modules"))
    archive = _archive_url(handle)
    for name in (handle, archive):
        cached = cache / hashlib.sha1(name.encode()).hexdigest()
        if (cached / _MODEL_FILE).is_file():
            return cached
    return _fetch(handle, archive, cache / hashlib.sha1(handle.encode()).hexdigest())


def _archive_url(handle: str) -> str:
    parts = urllib.parse.urlparse(handle)
    return parts._replace(query="&".join(filter(None, [parts.query, _ARCHIVE_QUERY]))).geturl()


def _fetch(handle: str, archive: str, folder: pathlib.Path) -> pathlib.Path:
    """Download the archive of `handle` and unpack it as `folder`."""
    by_hand = (
        f"fetch it by hand, mkdir MODULE && curl -L '{archive}' | tar -xz -C MODULE, and give the folder MODULE instead"
    )
    if not archive.startswith(("http://", "https://")):
        raise InputError(f"{handle}: only http and https addresses can be fetched; {by_hand}")
    try:
        # An existing folder was just finished by another process, and can be replaced.
        with new_folder(folder, "module", replace=True) as unpacked:
            explained = (OSError, http.client.HTTPException, tarfile.TarError)
            with (
                reading(handle, "what was downloaded cannot be unpacked", by_hand, passing=explained),
                urllib.request.urlopen(archive, timeout=60) as reply,
                tarfile.open(fileobj=reply, mode="r|gz") as tar,
            ):
                tar.extractall(unpacked, filter="data")
            if not (unpacked / _MODEL_FILE).is_file():
                raise InputError(f"{handle}: what was downloaded has no {_MODEL_FILE}; {by_hand}")
    except (OSError, http.client.HTTPException, tarfile.TarError) as error:
        reason = one_line(error)
        raise InputError(f"{handle} is not in {folder.parent} and cannot be fetched ({reason}); {by_hand}") from error
    return folder


def load_saved_model(folder: pathlib.Path):
    """Load a SavedModel in the TF1 or TF2 format; raises an `InputError` if that fails."""
    tf = import_tensorflow()
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    with reading(folder, "cannot be loaded as a SavedModel"):
        saved.ParseFromString(read_bytes(folder / _MODEL_FILE, 2**31))
        variants = [sorted(graph.meta_info_def.tags) for graph in saved.meta_graphs]
        # A TF1 module has one graph without tags for inference, and often a second one for training.
        tags: list[str] | None = [] if [] in variants else None
        return tf.saved_model.load(str(folder), tags=tags)


def _check_signature(loaded, folder: pathlib.Path):
    """Return the function to call and the name of its argument, or raise an `InputError` if they do not fit."""
    if SIGNATURE not in loaded.signatures:
        raise InputError(
            f"{folder} is not an in-betweening module: it has the signatures "
            f"{sorted(loaded.signatures)}, not {SIGNATURE!r}"
        )
    run = loaded.signatures[SIGNATURE]
    inputs, outputs = run.structured_input_signature[1], run.structured_outputs
    found = (
        {name: tuple(spec.shape) if spec.shape.rank is not None else "any" for name, spec in specs.items()}
        for specs in (inputs, outputs)
    )
    takes, gives = found
    fits = (
        len(inputs) == 1
        and next(iter(inputs.values())).shape.is_compatible_with(INPUT_SHAPE)
        and SIGNATURE in outputs
        and outputs[SIGNATURE].shape.is_compatible_with(OUTPUT_SHAPE)
    )
    if not fits:
        raise InputError(
            f"{folder} is not an in-betweening module: it takes {takes} and returns {gives}; "
            f"{INPUT_SHAPE} and {SIGNATURE!r} {OUTPUT_SHAPE} were expected"
        )
    return run, next(iter(inputs))


def _resize(clips: Float[np.ndarray, "b t h w c"], height: int, width: int) -> Float[np.ndarray, "b t h2 w2 c"]:
    if clips.shape[2:4] == (height, width):
        return np.asarray(clips, np.float32)
    return np.asarray(jax.image.resize(clips, (*clips.shape[:2], height, width, clips.shape[-1]), "bilinear"))
