"""The configurations of official FOMM checkpoints.

Input: the name of a released configuration, or an official YAML file. Output: our configuration.
"""

import dataclasses
from pathlib import Path
from typing import cast

from experiments.official import frame_size
from vidcomp_jax.data import DataConfig, FolderConfig
from vidcomp_jax.data.clips import Channels
from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.dense_motion import DenseMotionConfig
from vidcomp_jax.fomm.discriminator import DiscriminatorConfig
from vidcomp_jax.fomm.keypoints import KeypointDetectorConfig
from vidcomp_jax.fomm.model import FOMMConfig
from vidcomp_jax.fomm.official import read_official
from vidcomp_jax.fomm.official_sections import DatasetParams


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertedFOMM:
    """The contents of `config.json` of a converted model."""

    fomm: FOMMConfig
    """Sizes of the networks."""
    data: DataConfig
    """Size and channels of the frames that it was trained on."""


def converted(fomm: FOMMConfig, size: int, seed: int = 0) -> ConvertedFOMM:
    """The contents of `config.json` for a model of square frames of `size` pixels, and the seed of a random split."""
    num_channels = cast(Channels, fomm.num_channels)
    data = DataConfig(name="folder", size=size, num_channels=num_channels, folder=FolderConfig(seed=seed))
    return ConvertedFOMM(fomm=fomm, data=data)


def _released() -> dict[str, ConvertedFOMM]:
    plain = FOMMConfig()
    spectral = FOMMConfig(discriminator=DiscriminatorConfig(spectral_norm=True))
    keypoints = FOMMConfig(discriminator=DiscriminatorConfig(use_keypoints=True))
    gray = FOMMConfig(
        num_channels=1, detector=KeypointDetectorConfig(scale=0.5), dense_motion=DenseMotionConfig(scale=0.5)
    )
    one_jacobian = dataclasses.replace(spectral, detector=KeypointDetectorConfig(single_jacobian=True))
    return {
        "vox-256": converted(spectral, 256),
        "vox-adv-256": converted(keypoints, 256),
        "taichi-256": converted(plain, 256),
        "taichi-adv-256": converted(keypoints, 256),
        "fashion-256": converted(plain, 256),
        "mgif-256": converted(one_jacobian, 256),
        "nemo-256": converted(spectral, 256),
        "bair-256": converted(spectral, 256),
        "kth-128": converted(gray, 128),
    }


RELEASED: dict[str, ConvertedFOMM] = _released()
"""Configurations of the released checkpoints, by name."""


def official_config(name: str) -> ConvertedFOMM:
    """The configuration of a released checkpoint, or of an official YAML file.

    Raises:
        InputError: the name is unknown, or the file is missing, is not YAML, or is not an official configuration.
    """
    if name in RELEASED:
        return RELEASED[name]
    path = official_path(name)
    file = read_official(path)
    fomm = file.model()
    if "dataset_params" not in file.content:
        return converted(fomm, 256)
    dataset = file.section("dataset_params", DatasetParams)
    with file.named_in_errors():
        return converted(fomm, frame_size(dataset), dataset.random_seed)


def official_path(name: str) -> Path:
    """The path of an official YAML file; `InputError` if it looks like neither a file nor a released name."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") and not path.is_file():
        raise InputError(f"--config={name}: neither a YAML file nor a released name; those are {', '.join(RELEASED)}")
    return path
