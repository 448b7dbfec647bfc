"""Convert an official FOMM checkpoint to a model folder.

    python -m converters.convert_fomm vox-cpk.pth.tar --config=vox-256 --output=vox/

`vidcomp_jax.load_fomm` and the options `--fomm` and `--init-from` accept the folder. With `--training`, it is a run
folder, in which `experiments.train_fomm` goes on where the official training stopped.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from flax import nnx

from converters.fomm_state import PARTS, fomm_differences, load_fomm_state
from converters.official import RELEASED, official_config, official_path
from converters.torch_files import read_torch_file, unwrap
from converters.training_run import read_training, write_run
from converters.weight_map import State
from experiments.commands import run
from experiments.configs import CONFIGS, TrainFOMMConfig
from experiments.official import train_config
from vidcomp_jax.data import open_clips
from vidcomp_jax.data.examples import epoch_size
from vidcomp_jax.errors import InputError, require
from vidcomp_jax.fomm.discriminator import MultiScaleDiscriminator
from vidcomp_jax.fomm.model import FirstOrderMotionModel, FOMMConfig
from vidcomp_jax.storage.checkpoint import save_model
from vidcomp_jax.storage.folders import check_output_folder


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertFOMMConfig:
    """Convert an official checkpoint of the First Order Motion Model."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """The official file, such as vox-cpk.pth.tar, in PyTorch's legacy or zip format."""
    config: str
    """Its configuration: vox-256, vox-adv-256, taichi-256, taichi-adv-256, fashion-256, mgif-256, nemo-256, bair-256,
    kth-128, or the path of an official YAML file."""
    output: Path
    """Model folder to write."""
    align_corners: bool = True
    """Sampling rule that the model was trained with: true for PyTorch 1.0, including all released models; false for
    later versions, unless the code was adapted."""
    overwrite: bool = False
    """Replace the model folder if it exists."""
    training: bool = False
    """Write the folder of a training run instead, with the state of the optimizers and the place in the schedule. A
    discriminator of other sizes starts anew."""
    data_dir: Path | None = None
    """With --training: folder of the videos, whose number makes the steps of an epoch; root_dir of the YAML file by
    default."""
    cache_dir: Path | None = None
    """With --training: folder for decoded clips, as of experiments.train_fomm."""
    perceptual_weights: Path | None = None
    """With --training: converted VGG19 weights that training goes on with."""

    def __post_init__(self):
        for field in ("data_dir", "cache_dir", "perceptual_weights"):
            require(self.training or getattr(self, field) is None, self, field, "left out without `training`")


def main(config: ConvertFOMMConfig) -> None:
    """Convert the checkpoint, and print what was left out."""
    check_output_folder(config.output, "run" if config.training else "model", overwrite=config.overwrite)
    if config.training:
        return convert_training(config)
    stored = official_config(config.config)
    stored = dataclasses.replace(stored, fomm=dataclasses.replace(stored.fomm, align_corners=config.align_corners))
    checkpoint, notes = read_fomm_checkpoint(config.checkpoint, read_torch_file(config.checkpoint))
    model, missing = convert(checkpoint, stored.fomm, name=config.config, path=config.checkpoint)
    del checkpoint
    save_model(config.output, model, stored, replace=True)
    notes += [f"no {part} in the file: it starts from random weights, which training uses alone" for part in missing]
    print(f"{config.output}: {config.config}, {stored.data.size} pixels, {_sampling(config.align_corners)}")
    for note in notes:
        print(f"  {note}")


def convert_training(config: ConvertFOMMConfig) -> None:
    """Convert the checkpoint to the folder of a training run, and print how to go on with it."""
    train = training_config(config)
    content = read_torch_file(config.checkpoint)
    checkpoint, notes = read_fomm_checkpoint(config.checkpoint, content, training=True)
    other = [part for part in ("discriminator",) if part in checkpoint and not _fits(train.fomm, checkpoint, part)]
    for part in other:
        del checkpoint[part]
        notes.append(f"the {part} in the file has other sizes; it starts anew from random weights, as its optimizer")
    model, missing = convert(checkpoint, train.fomm, name=config.config, path=config.checkpoint)
    notes += [f"no {part} in the file: it starts anew from random weights" for part in missing if part not in other]
    state = read_training(content, checkpoint, model, config.checkpoint)
    train = train.in_steps(epoch_size(open_clips(train.data, "train")))
    step = write_run(config.output, train, model, state)
    print(f"{config.output}: {config.config}, epoch {state.epoch}, step {step} of {train.train.num_steps}")
    for note in notes:
        print(f"  {note}")
    preset = f"--config={config.config}" if train.config is not None else f"--dataset={train.dataset}"
    print(f"  go on: python -m experiments.train_fomm {preset} --workdir={config.output} and the same --data-dir")


def training_config(config: ConvertFOMMConfig) -> TrainFOMMConfig:
    """The configuration of the training run that a checkpoint was written by."""
    name = config.config.rsplit("-", 1)[0]
    train = CONFIGS[name] if config.config in RELEASED else train_config(official_path(config.config))
    given = {key: getattr(config, key) for key in ("data_dir", "cache_dir") if getattr(config, key) is not None}
    return dataclasses.replace(
        train,
        workdir=config.output,
        data=dataclasses.replace(train.data, **given),
        fomm=dataclasses.replace(train.fomm, align_corners=config.align_corners),
        perceptual_weights=config.perceptual_weights,
    )


def read_fomm_checkpoint(
    path: Path, content: Mapping[str, Any], *, training: bool = False
) -> tuple[dict[str, State], list[str]]:
    """The state dicts in the content of an official file, with notes on what is left out.

    Raises:
        InputError: the file holds neither a generator nor a keypoint detector, or what it holds is no state dict.
    """
    if not any(part in content for part in PARTS[:2]):
        raise InputError(
            f"{path}: holds neither {PARTS[0]} nor {PARTS[1]}, so it is no FOMM checkpoint; found "
            f"{', '.join(list(content)[:6]) or 'nothing'}"
        )
    notes = []
    optimizers = [name for name in content if name.startswith("optimizer")]
    if optimizers and not training:
        notes.append(f"left out: {', '.join(optimizers)}")
    others = [name for name in content if name not in (*PARTS, *optimizers) and not name.startswith("epoch")]
    if others:
        notes.append(f"left out, not known here: {', '.join(others)}")
    checkpoint = {}
    for part in PARTS:
        if part in content:
            checkpoint[part], dropped = _state_dict(content[part], f"{path}: {part}")
            if dropped:
                notes.append(f"left out: {part}'s {len(dropped)} quotients of a spectral norm, which are computed")
    return checkpoint, notes


def convert(
    checkpoint: dict[str, State], fomm: FOMMConfig, *, name: str, path: Path
) -> tuple[FirstOrderMotionModel, list[str]]:
    """Fill a model with the state dicts of a checkpoint, as NumPy arrays to be saved.

    Args:
        checkpoint: state dicts from `read_fomm_checkpoint`.
        fomm: sizes of the model.
        name: name of the configuration, for errors.
        path: path of the checkpoint, for errors.

    Returns:
        The model, and the parts that the checkpoint lacks.

    Raises:
        InputError: keys or shapes differ; the message lists the differences and the released configurations that fit.
    """
    model = _skeleton(fomm)
    if lines := fomm_differences(model, checkpoint):
        fitting = [f"--config={other}" for other in fitting_names(checkpoint) if other != name]
        hint = f"it fits {' or '.join(fitting)}" if fitting else "no released configuration fits it"
        raise InputError(f"{path}: does not fit --config={name}; {hint}; {len(lines)} differences: {'; '.join(lines)}")
    missing = load_fomm_state(model, checkpoint, place=np.asarray)  # avoids a second copy of all weights in memory
    if "discriminator" in missing:
        sizes = {"num_channels": fomm.num_channels, "num_keypoints": fomm.num_keypoints}
        model.discriminator = MultiScaleDiscriminator(fomm.discriminator, **sizes, rngs=nnx.Rngs(0))
    return model, missing


def fitting_names(checkpoint: dict[str, State]) -> list[str]:
    """The released configurations that have exactly the keys and shapes of a checkpoint."""
    differ = {config.fomm: fomm_differences(_skeleton(config.fomm), checkpoint) for config in set(RELEASED.values())}
    return [name for name, config in RELEASED.items() if not differ[config.fomm]]


def _fits(fomm: FOMMConfig, checkpoint: dict[str, State], part: str) -> bool:
    return not any(line.startswith(f"{part}: ") for line in fomm_differences(_skeleton(fomm), checkpoint))


def _skeleton(config: FOMMConfig) -> FirstOrderMotionModel:
    """The model with shapes instead of weights."""
    return nnx.eval_shape(lambda: FirstOrderMotionModel(config, rngs=nnx.Rngs(0)))


def _state_dict(value: Any, name: str) -> tuple[State, list[str]]:
    """A state dict without data-parallel prefixes and spectrally normalized weights, and the keys of these weights.

    PyTorch before 1.0 stored `weight` alongside `weight_orig` and `weight_u`; later versions compute it.
    """
    if not isinstance(value, dict):
        raise InputError(f"{name} is a {type(value).__name__}; a state dict was expected")
    state = unwrap(value)
    dropped = [key for key in state if f"{key}_orig" in state]
    return {key: array for key, array in state.items() if key not in dropped}, dropped


def _sampling(align_corners: bool) -> str:
    return f"align_corners={align_corners}"


if __name__ == "__main__":
    run(main, ConvertFOMMConfig)
