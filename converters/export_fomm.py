"""Export a model folder or training run as an official FOMM checkpoint.

    python -m converters.export_fomm vox/ --output=vox-cpk.pth.tar

The file has the official keys and can be loaded by the published PyTorch code, whose optimizers then start afresh.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from converters.fomm_state import dump_fomm_state
from converters.torch_files import Format, write_torch_file
from experiments.commands import run
from vidcomp_jax.fomm.loading import load_fomm
from vidcomp_jax.storage.atomic import check_output_file
from vidcomp_jax.storage.checkpoint import Which


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportFOMMConfig:
    """Export a model to the official PyTorch layout."""

    fomm: Annotated[Path, tyro.conf.Positional]
    """Model folder or training run."""
    output: Path
    """The file to write, such as model.pth.tar."""
    which: Which = "latest"
    """Checkpoint of a training run to export."""
    format: Format = "legacy"
    """File format: every version of PyTorch reads legacy; versions from 1.6 also read zip."""
    overwrite: bool = False
    """Replace the file if it exists."""


def main(config: ExportFOMMConfig) -> None:
    """Export the model."""
    check_output_file(config.output, overwrite=config.overwrite)
    model = load_fomm(config.fomm, config.which)
    # The published code reads the epoch of every checkpoint it loads.
    write_torch_file(config.output, {**dump_fomm_state(model), "epoch": 0}, config.format)
    print(f"{config.output}: the model in {config.fomm}, {config.format} format")


if __name__ == "__main__":
    run(main, ExportFOMMConfig)
