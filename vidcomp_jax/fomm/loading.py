"""Saving of First Order Motion Models to folders, and loading from them.

A model folder holds `weights/` and `config.json`, whose entry `fomm` is the `FOMMConfig`. The work folder of a
training run has the same entry, with checkpoints in place of `weights/`, and is read in the same way.
"""

import dataclasses
import hashlib
import json
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from vidcomp_jax.data.datasets import DataConfig, differences
from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.model import FirstOrderMotionModel, FOMMConfig
from vidcomp_jax.nn.precision import Precision, in_precision
from vidcomp_jax.storage.checkpoint import load_weights, save_model
from vidcomp_jax.storage.config import CONFIG_FILE, load_config
from vidcomp_jax.storage.steps import CHECKPOINTS, Which


@dataclasses.dataclass(frozen=True, kw_only=True)
class FOMMFolder:
    """Contents of a model folder's `config.json`."""

    fomm: FOMMConfig
    """Sizes of the networks."""


def load_fomm(
    directory: Path | str, which: Which = "latest", *, precision: Precision = "float32"
) -> FirstOrderMotionModel:
    """Load the model of a model folder or of a training run's work folder, in inference mode.

    Args:
        directory: a folder that a converter or `experiments.train_fomm` wrote.
        which: for a training run, the latest checkpoint or the one with the smallest reconstruction error.
        precision: what the model computes in; its weights are float32 in either case.

    Raises:
        InputError: if the folder, its config or its weights are missing, damaged, or do not fit each other.
    """
    config = load_config(Path(directory) / CONFIG_FILE, FOMMConfig, part="fomm")
    model = nnx.eval_shape(lambda: FirstOrderMotionModel(config, rngs=nnx.Rngs(0)))
    load_fomm_weights(model, directory, which)
    model.eval()
    return in_precision(model, precision)


def load_fomm_weights(
    model: FirstOrderMotionModel,
    directory: Path | str,
    which: Which = "latest",
    *,
    any_discriminator: bool = False,
) -> bool:
    """Replace a model's weights with those of a model folder or training run; `InputError` if they do not fit.

    Args:
        model: changed in place.
        directory: a folder as for `load_fomm`.
        which: as for `load_fomm`.
        any_discriminator: if the stored discriminator is missing or has other sizes, leave the model's as it is.

    Returns:
        Whether the discriminator was loaded as well.
    """
    directory = Path(directory)
    prefix = "model" if (directory / CHECKPOINTS).is_dir() else ""
    optional = ("discriminator",) if any_discriminator else ()
    return not load_weights(model, directory, which=which, prefix=prefix, optional=optional)


def check_trained_data(directory: Path | str, data: DataConfig, *, any_data: bool = False) -> None:
    """Check that `data` has the frames and the split that the model was trained on, if it is the same data set.

    Other data sets pass, and so do folders that do not say what their model was trained on.

    Args:
        directory: model folder or training run.
        data: the data to use the model with.
        any_data: skip the check.

    Raises:
        InputError: if settings differ; the message names each with both values.
    """
    path = Path(directory) / CONFIG_FILE
    try:
        stored = json.loads(path.read_bytes()).get("data") or {}
    except (OSError, ValueError, AttributeError):
        return  # `load_fomm` says what is wrong with the folder
    found = differences(data, stored) if isinstance(stored, dict) and not any_data else []
    if found:
        said = "; ".join(f"`{name}` is {here}, the model was trained with {there}" for name, here, there in found)
        raise InputError(f"{path}: {said}; give the same, or `any_data` to use it anyway")


def save_fomm(directory: Path | str, model: FirstOrderMotionModel) -> None:
    """Write a model folder; `InputError` if the folder exists or cannot be written."""
    save_model(Path(directory), model, FOMMFolder(fomm=model.config))


def fingerprint(model: FirstOrderMotionModel) -> str:
    """Sixteen hexadecimal digits that change with any weight or size of the detector, and so with its keypoints."""
    digest = hashlib.sha256(repr((model.config.num_channels, model.detector.config)).encode())
    for path, leaf in sorted(nnx.to_flat_state(nnx.state(model.detector)), key=lambda item: str(item[0])):
        digest.update(str(path).encode())
        digest.update(np.asarray(jax.device_get(leaf[...])).tobytes())
    return digest.hexdigest()[:16]
