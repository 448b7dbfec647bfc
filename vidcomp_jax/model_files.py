"""Folders of trained First Order Motion Models: a folder in, a model out, and back.

A model folder holds `config.json`, whose entry `fomm` is the `FOMMConfig`, and `weights/`. The work folder of a
training run has the same entry and its checkpoints, and is read in the same way.
"""

import dataclasses
import hashlib
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from flax import nnx

from vidcomp_jax.checkpoint import CHECKPOINTS, load_weights, save_model
from vidcomp_jax.config_file import CONFIG_FILE, load_config
from vidcomp_jax.fomm import FirstOrderMotionModel, FOMMConfig

Which = Literal["latest", "best"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FOMMFolder:
    """What `config.json` of a model folder says."""

    fomm: FOMMConfig
    """Sizes of the networks."""


def load_fomm(directory: Path | str, which: Which = "latest") -> FirstOrderMotionModel:
    """The model in a model folder or in the work folder of a training run, in inference mode.

    Args:
        directory: what a converter or `experiments.train_fomm` wrote.
        which: of a training run, the latest checkpoint or the one with the smallest reconstruction error.

    Raises:
        InputError: the folder, its config or its weights are missing, damaged, or do not fit each other.
    """
    config = load_config(Path(directory) / CONFIG_FILE, FOMMConfig, part="fomm")
    model = nnx.eval_shape(lambda: FirstOrderMotionModel(config, rngs=nnx.Rngs(0)))
    load_fomm_weights(model, directory, which)
    model.eval()
    return model


def load_fomm_weights(model: FirstOrderMotionModel, directory: Path | str, which: Which = "latest") -> None:
    """Replace the weights of a model by those of a model folder or training run; `InputError` if they do not fit."""
    directory = Path(directory)
    prefix = "model" if (directory / CHECKPOINTS).is_dir() else ""
    load_weights(model, directory, which=which, prefix=prefix)


def save_fomm(directory: Path | str, model: FirstOrderMotionModel) -> None:
    """Write a model folder; `InputError` if it exists or the disk is full."""
    save_model(Path(directory), model, FOMMFolder(fomm=model.config))


def fingerprint(model: FirstOrderMotionModel) -> str:
    """Sixteen hexadecimal digits that change with any weight or size of the detector, and so with its keypoints."""
    digest = hashlib.sha256(repr((model.config.num_channels, model.detector.config)).encode())
    for path, leaf in sorted(nnx.to_flat_state(nnx.state(model.detector)), key=lambda item: str(item[0])):
        digest.update(str(path).encode())
        digest.update(np.asarray(jax.device_get(leaf[...])).tobytes())
    return digest.hexdigest()[:16]
