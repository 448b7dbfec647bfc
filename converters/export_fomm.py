"""Export a model folder or training run as an official FOMM checkpoint, with its YAML file.

    python -m converters.export_fomm runs/vox --output=vox-cpk.pth.tar

The published code loads both (`run.py --config vox-cpk.yaml --checkpoint vox-cpk.pth.tar`) to animate, to reconstruct,
or to go on with the training of a run, with the state of its optimizers. For a model folder, which has none, the
optimizers start anew.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, cast

import tyro
import yaml

from converters.official_yaml import official_content
from converters.torch_files import Format, write_torch_file
from converters.training_run import Run, official_checkpoint, read_run, untrained
from experiments.animate import trained_size
from experiments.commands import run
from experiments.configs import CONFIGS, TrainFOMMConfig
from vidcomp_jax.data.clips import Channels
from vidcomp_jax.errors import InputError, require_at_least
from vidcomp_jax.fomm.loading import load_fomm
from vidcomp_jax.storage.atomic import check_output_file, new_file
from vidcomp_jax.storage.config import CONFIG_FILE, load_config
from vidcomp_jax.storage.steps import CHECKPOINTS, Which

_EPOCHS = 100
"""Epochs into which a run is divided that counted steps only."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportFOMMConfig:
    """Export a model to the official PyTorch layout."""

    fomm: Annotated[Path, tyro.conf.Positional]
    """Model folder or training run."""
    output: Path
    """The file to write, such as model.pth.tar; the YAML file is written beside it, as model.yaml."""
    which: Which = "latest"
    """Checkpoint of a training run to export."""
    steps_per_epoch: int = 0
    """Steps of one epoch, for a run that does not say it; 0 divides such a run into 100 epochs."""
    format: Format = "legacy"
    """File format: every version of PyTorch reads legacy; versions from 1.6 also read zip."""
    overwrite: bool = False
    """Replace the files if they exist."""

    def __post_init__(self):
        require_at_least(self, steps_per_epoch=0)

    @property
    def yaml_file(self) -> Path:
        """The path of the YAML file."""
        return self.output.with_name(self.output.name.removesuffix(".tar").removesuffix(".pth") + ".yaml")


def main(config: ExportFOMMConfig) -> None:
    """Export the model, and print what the published code does differently."""
    check_output_file(config.output, overwrite=config.overwrite)
    check_output_file(config.yaml_file, overwrite=config.overwrite)
    trained, train = read_trained(config)
    steps = config.steps_per_epoch or train.schedule.steps_per_epoch
    counted = steps or max(train.train.num_steps // _EPOCHS, 1)
    content, notes = official_content(train, counted)
    if not steps and trained.step:
        notes.append(f"the run counted steps: {counted} of them are an epoch in the file, or give --steps-per-epoch")
    checkpoint = official_checkpoint(trained, train, counted)
    with new_file(config.yaml_file) as temporary:
        temporary.write_text(yaml.safe_dump(content, sort_keys=False, default_flow_style=None))
        write_torch_file(config.output, checkpoint, config.format)
    print(f"{config.output}: the model in {config.fomm}, {config.format} format, at epoch {checkpoint['epoch']}")
    print(f"{config.yaml_file}: its configuration")
    for note in notes:
        print(f"  {note}")


def read_trained(config: ExportFOMMConfig) -> tuple[Run, TrainFOMMConfig]:
    """The model with its optimizers, and the configuration to train it with."""
    if (config.fomm / CHECKPOINTS).is_dir():
        train = load_config(config.fomm / CONFIG_FILE, TrainFOMMConfig)
        return read_run(config.fomm, train, config.which), train
    model = load_fomm(config.fomm, config.which)
    fomm = model.config
    try:
        size = trained_size(config.fomm)
    except InputError:
        size = 256
    preset = CONFIGS["folder"]
    loss = preset.loss
    if len(loss.feature_matching) != fomm.discriminator.num_blocks:
        loss = dataclasses.replace(loss, feature_matching=(10.0,) * fomm.discriminator.num_blocks)
    data = dataclasses.replace(preset.data, size=size, num_channels=cast(Channels, fomm.num_channels))
    schedule = dataclasses.replace(preset.schedule, steps_per_epoch=1)
    train = dataclasses.replace(preset, fomm=fomm, loss=loss, data=data, schedule=schedule)
    return untrained(model), train.in_steps(1)


if __name__ == "__main__":
    run(main, ExportFOMMConfig)
